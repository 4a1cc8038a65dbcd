"""Pages in another language whose sentences are English where they are found.

What an inspection, a certificate or a study says is said by the command line and in JSON, too, so
their pages are made in English. In another language each text of the page is looked up as a whole
in `phrases.<language>.toml`, where the English text leads to the other one. `{places}` stand for
what varies, and are looked up in turn; some names are of numbers alone. What has no entry stays.
"""

import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path

from mno.core.files import write_text
from mno.core.words import LANGUAGES
from mno.report import style
from mno.report.language import Words

_BLOCK = re.compile(r"(<style>.*?</style>|<(?!/?(?:code|strong|a|span|br)\b)[^>]*>)", re.DOTALL)
_INLINE = re.compile(r"(<[^>]*>)")
_SPOKEN = re.compile(r'( (?:aria-label|data-label|alt)=")([^"]*)')
_PLACE = re.compile(r"\{(\w+)\}")
_NUMBERS = ("count", "all", "n", "m", "low", "high", "off")  # places that begin with a digit


class Phrases:
    """What English texts are in another language."""

    def __init__(self, language: str) -> None:
        self._words = Words.of(language)
        text = files("mno.report").joinpath(f"phrases.{language}.toml").read_text(encoding="utf-8")
        self._known: dict[str, str] = tomllib.loads(text)
        varied = sorted(filter(_PLACE.search, self._known), key=lambda k: -len(_PLACE.sub("", k)))
        self._varied = [(_pattern(key), self._known[key]) for key in varied]  # the longest first

    @classmethod
    @cache
    def of(cls, language: str) -> "Phrases":
        """Return the phrases of a language."""
        return cls(language)

    def __call__(self, text: str) -> str:
        """Return a text, which may have some markup within, in the language."""
        bare = text.strip()
        forms = bare, bare[:1].lower() + bare[1:]
        if own := next((self._known[form] for form in forms if form in self._known), None):
            return text.replace(bare, own)
        for form, (pattern, said) in product(forms, self._varied):
            if match := pattern.fullmatch(form):
                places = {name: self(value) for name, value in match.groupdict().items()}
                return text.replace(bare, said.format_map(places))
        if "<" in bare:
            return "".join(p if p[:1] == "<" else self(p) for p in _INLINE.split(text))
        return text.replace(bare, self._words.name(bare)) if bare else text

    def page(self, html: str) -> str:
        """Return an English page in the language: its texts, and those that tags name things by."""
        parts = _BLOCK.split(html.replace("&#39;", "'"))
        parts[1::2] = [_SPOKEN.sub(lambda at: at[1] + self(at[2]), tag) for tag in parts[1::2]]
        parts[::2] = map(self, parts[::2])
        return "".join(parts).replace('lang="en"', f'lang="{self._words.language}"', 1)


def _pattern(key: str) -> re.Pattern[str]:
    parts = enumerate(_PLACE.split(key))
    return re.compile("".join(_place(p) if n % 2 else re.escape(p) for n, p in parts))


def _place(name: str) -> str:
    what = "[-+0-9][^<]*?" if name in _NUMBERS else "[^<]+?"
    return f"(?P<{name}>{what})"


def write_pages(path: Path, page: Callable[[Words], str]) -> None:
    """Write an English page, and beside `index.html` as `index.ja.html` the same drawn anew."""
    write_text(path, page(Words.of("en")))
    for language in LANGUAGES[1:]:
        phrases = Phrases.of(language)
        with style.spoken(phrases):
            html = page(Words.of(language))
        write_text(path.with_suffix(f".{language}{path.suffix}"), phrases.page(html))
