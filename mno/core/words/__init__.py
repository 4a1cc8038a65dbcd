"""What is said in each language: texts in TOML files, one for each language, by key.

English is complete. A text that another language lacks is said in English, with one warning, so
that whoever adds a text need not write it in a language that they do not know.
"""

import tomllib
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from mno.core.config import flat

LANGUAGES = ("en", "ja")


@cache
def texts_of(package: str, language: str) -> Mapping[str, str]:
    """Return the texts in `<language>.toml` of a package, by keys that dots join.

    Those that it lacks are the English ones. Another language than `LANGUAGES` is a `ValueError`.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} is none of {', '.join(LANGUAGES)}")
    own = own_texts(package, language)
    english = own if language == "en" else own_texts(package, "en")
    missing = [key for key in english if key not in own]
    if missing:
        warnings.warn(
            f"{language}.toml of {package} has no words for {', '.join(missing)}; they are said "
            "in English",
            stacklevel=2,
        )
    return {**english, **own}


def own_texts(package: str, language: str) -> dict[str, str]:
    """Return what the file of one language holds, and nothing else."""
    text = files(package).joinpath(f"{language}.toml").read_text(encoding="utf-8")
    return flat(tomllib.loads(text))
