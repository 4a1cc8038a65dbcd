"""The rows of the table of indicators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.evaluation.report.language import Words
    from mno.evaluation.report.results import Known

_SYMBOLS = {"met": "✓", "missed": "✗", "undecided": "~", "unknown": "?"}
_LOOKS = {"met": "good", "missed": "bad", "undecided": "fair", "unknown": "fair"}


def indicator_rows(kpis: Sequence[Known], words: Words) -> list[dict[str, str]]:
    """Return name, value (with its interval), target, status, symbol and look of each indicator."""
    return [_row(kpi, words) for kpi in kpis]


def bounded(value: Any, interval: Any, said: Callable[[float], str]) -> str:
    """Return a figure, with its interval in brackets where it has one."""
    if interval is None or isinstance(interval, str):
        return said(value)
    low, high = interval
    return f"{said(value)} [{said(low)}, {said(high)}]"


def _row(kpi: Known, words: Words) -> dict[str, str]:
    name, value, status = kpi["name"], kpi["value"], kpi["status"]
    is_share = name == "relative_l2"

    def said(number: float) -> str:
        if is_share:
            return words.percent(number)
        unit = "" if kpi["unit"] == "1" else f"\u202f{kpi['unit']}"
        return f"{words.number(number, 3)}{unit}"

    field = "" if kpi["field"] is None else f" ({words.name(kpi['field'])})"
    return {
        "name": words(f"kpi.{name}") + field,
        "value": value if isinstance(value, str) else bounded(value, kpi["interval"], said),
        "target": ("≤ " if kpi["bound"] == "at_most" else "≥ ") + said(kpi["target"]),
        "status": words(f"status.{status}"),
        "symbol": _SYMBOLS[status],
        "look": _LOOKS[status],
    }
