"""The words of the report, in each language: texts from TOML files, numbers as people read them."""

from __future__ import annotations

import math
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from mno.core import numbers as plain

LANGUAGES = ("en", "ja")


class Words:
    """The texts of one section in one language; those that all sections share are among them.

    Args:
        language: Its code, for example `ja`.
        texts: What is said, by key.
        names: What quantities and settings are called, where that is not what the data call them.
    """

    def __init__(self, language: str, texts: Mapping[str, str], names: Mapping[str, str]) -> None:
        self.language = language
        self._texts, self._names = texts, names

    @classmethod
    @cache
    def of(cls, language: str, section: str | None = None) -> Words:
        """Return the words of a section.

        Args:
            language: One of `LANGUAGES`.
            section: Name of the section's folder under `mno/report/sections`; without
                it, only what all sections share.

        Raises:
            ValueError: There is no such language.
        """
        if language not in LANGUAGES:
            raise ValueError(f"language {language!r} is none of {', '.join(LANGUAGES)}")
        shared = texts_of(f"{language}.toml")
        names = shared.pop("names", {})
        own = texts_of(f"sections/{section}/{language}.toml") if section else {}
        return cls(language, flat(shared) | flat(own), names)

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text with its placeholders filled in.

        Args:
            key: Its key in the section's TOML files, tables and keys joined by dots.
            values: What its placeholders stand for.

        Raises:
            KeyError: There is no such text, or a placeholder has no value.
        """
        if key not in self._texts:
            raise KeyError(f"no text {key!r} in {self.language}.toml of the section")
        return self._texts[key].format_map(values)

    def name(self, name: str) -> str:
        """Return what a quantity or a setting is called; its own name where nothing is known."""
        return self._names.get(name, name)

    def check(self, name: str, description: str) -> str:
        """Return what a physics check looks at; the data's own description if nothing is known."""
        if self.language != "en" and f"check {name}" not in self._names:
            _warn_of_english(self.language)
        return self._names.get(f"check {name}", description)

    def number(self, value: float, digits: int = 4) -> str:
        """Return a number with so many significant digits."""
        return self._odd(value) or plain.number(value, digits)

    def percent(self, fraction: float) -> str:
        """Return a fraction in per cent."""
        return self._odd(fraction) or plain.percent(fraction)

    def setting(self, value: float) -> str:
        """Return a number that somebody chose, as short as it was written."""
        return self._odd(value) or plain.setting(value)

    def list(self, items: Iterable[str]) -> str:
        """Return items one after the other."""
        return self("separator").join(items)

    def _odd(self, value: float) -> str:
        """Return the words for what is no finite number; none for what is one."""
        if math.isfinite(value):
            return ""
        if math.isnan(value):
            return self("not_a_number")
        return self("infinite" if value > 0 else "minus_infinite")


@cache
def _warn_of_english(language: str) -> None:
    """Say, once, that some words are not there in a language."""
    warnings.warn(
        f"a scenario's checks have no words in mno/report/{language}.toml, table names; their own "
        "descriptions stand in the report",
        stacklevel=3,
    )


def texts_of(path: str) -> dict[str, Any]:
    """Return a TOML file under `mno/report`."""
    text = files("mno.report").joinpath(path).read_text(encoding="utf-8")
    return tomllib.loads(text)


def flat(texts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested tables as one, their keys joined by dots."""
    found: dict[str, str] = {}
    for key, value in texts.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found
