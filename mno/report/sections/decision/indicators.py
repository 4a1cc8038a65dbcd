"""The rows of the table of indicators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mno.report.reasons import told

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Known

_SYMBOLS = {"met": "✓", "missed": "✗", "undecided": "~", "unknown": "?"}
_LOOKS = {"met": "good", "missed": "bad", "undecided": "fair", "unknown": "fair"}


def indicator_rows(kpis: Sequence[Known], words: Words) -> list[dict[str, str]]:
    """Return name, value (with its interval), target, status, symbol and look of each indicator."""
    return [_row(kpi, words) for kpi in kpis]


def between(interval: Any, said: Callable[[float], str]) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if interval is None or isinstance(interval, str):
        return ""
    low, high = interval
    return f"[{said(low)}, {said(high)}]"


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
        "value": told(value, words)
        if isinstance(value, str)
        else f"{said(value)} {between(kpi['interval'], said)}".rstrip(),
        "target": ("≤ " if kpi["bound"] == "at_most" else "≥ ") + said(kpi["target"]),
        "status": words(f"status.{status}"),
        "symbol": _SYMBOLS[status],
        "look": _LOOKS[status],
    }
