"""Turning numbers and settings into the rows of a report's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mno.report.language import Words

Rows = list[tuple[str, str]]


def check_rows(dataset: Mapping[str, Any], words: Words | None = None) -> list[dict[str, str]]:
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


def fact_rows(facts: Mapping[str, Any], words: Words | None = None) -> Rows:
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


def unit_text(units: str) -> str:
    """Return a unit for a table, `–` where there is none."""
    return "–" if units == "1" else units


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
