"""The words of the report in each language: texts, numbers, amounts, facts as people read them."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from mno.core import numbers as plain
from mno.core.absent import Absent
from mno.core.words import texts_of

Known = Mapping[str, Any]
Rows = list[tuple[str, str]]


class Words:
    """The texts of one section in one language, and those that all sections share."""

    def __init__(self, language: str, section: str = "") -> None:
        self.language, self.section = language, section
        self._texts = texts_of("mno.report", language)

    @classmethod
    @cache
    def of(cls, language: str, section: str = "") -> "Words":
        """Return the words of a section; a `ValueError` where there is no such language."""
        return cls(language, section)

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return a text with its placeholders filled in, by tables and keys joined by dots.

        Raises:
            KeyError: There is no such text, or a placeholder has no value.
        """
        own = self._texts.get(f"{self.section}.{key}", self._texts.get(key))
        if own is None:
            raise KeyError(f"no text {key!r} in {self.language}.toml of {self.section}")
        return own.format_map(values)

    def why(self, absent: Absent) -> str:
        """Return why there is none of something, as a part of a sentence."""
        own = self._texts.get(f"why.{absent.code}")
        return absent.text(self.language) if own is None else own.format_map(absent.values)

    def name(self, name: str) -> str:
        """Return what a quantity or a setting is called; its own name where nothing is known."""
        return self._texts.get(f"names.{name}", name)

    def check(self, name: str, description: str) -> str:
        """Return what a physics check looks at; the data's own description if nothing is known."""
        return self._texts.get(f"names.check {name}", description)

    def number(self, value: float, digits: int = 4) -> str:
        """Return a number with so many significant digits."""
        return self._odd(value) or plain.number(value, digits)

    def percent(self, fraction: float) -> str:
        """Return a fraction in per cent."""
        return self._odd(fraction) or plain.percent(fraction)

    def setting(self, value: float) -> str:
        """Return a number that somebody chose, as short as it was written."""
        return self._odd(value) or plain.setting(value)

    def duration(self, seconds: float) -> str:
        """Return a time in the largest unit of which it is 1 or more; from 10 on with 3 digits."""
        if not math.isfinite(seconds):
            return self.number(seconds)
        size, unit = next((found for found in _UNITS if seconds >= found[0]), _UNITS[-1])
        amount = seconds / size
        return f"{self.number(amount, 3 if amount >= 10 else 2)}\u202f{unit}"

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


_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def unit_text(units: str) -> str:
    """Return a unit for a table, `–` where there is none."""
    return "–" if units == "1" else units


def check_rows(dataset: Known, words: Words | None = None) -> list[dict[str, str]]:
    """Return the physics checks of a dataset's report, none where it has none."""
    words = words or Words.of("en")
    return [
        {
            "what": words.check(name, check["description"]),
            "value": words.number(check["max"], 2),
            "tolerance": words.setting(check["tolerance"]),
            "result": words("within" if check["max"] <= check["tolerance"] else "exceeded"),
        }
        for name, check in dataset.get("checks", {}).items()
    ]


def fact_rows(facts: Known, words: Words | None = None) -> Rows:
    """Return settings as rows, nested ones with their path, for example `Splits: train`."""
    words = words or Words.of("en")
    rows: Rows = []
    for key, value in facts.items():
        name = words.name(str(key).replace("_", " "))
        name = name[:1].upper() + name[1:]
        if isinstance(value, Mapping):
            rows += [
                (words("nested", outer=name, inner=inner.lower()), text)
                for inner, text in fact_rows(value, words)
            ]
        else:
            rows.append((name, _text(value, words)))
    return rows


def _text(value: Any, words: Words) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return words("yes" if value else "no")
        case int() | float():
            return words.setting(value)
        case list() | tuple():
            return words.list(_text(item, words) for item in value) or "–"
        case _:
            return str(value)


def unknown(pays: Known, words: Words) -> str:
    """Say what is not known of a break-even: of the solver, or of each part that was spent."""
    why = pays["why"]
    if isinstance(why, Absent):
        return words.why(why)
    return words.list(
        words("nested", outer=words(f"part.{part}"), inner=words.why(found))
        for part, found in pays["spent"].items()
        if why and isinstance(found, Absent)
    )
