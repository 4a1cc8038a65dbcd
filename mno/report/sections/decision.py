"""What it comes to: the verdict with its reasons, the indicators, the numbers that matter most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mno.core.absent import Absent
from mno.report.language import duration, unknown
from mno.report.page import Section, render

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.page import Known, Results


_SYMBOLS = {"met": "✓", "missed": "✗", "undecided": "~", "unknown": "?"}
_LOOKS = {"met": "good", "missed": "bad", "undecided": "fair", "unknown": "fair"}


def indicator_rows(kpis: Sequence[Known], words: Words) -> list[dict[str, str]]:
    """Return name, value (with its interval), target, status, symbol and look of each indicator."""
    return [_row(kpi, words) for kpi in kpis]


def between(interval: Any, said: Callable[[float], str]) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if interval is None or isinstance(interval, Absent):
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
        "value": words.why(value)
        if isinstance(value, Absent)
        else f"{said(value)} {between(kpi['interval'], said)}".rstrip(),
        "target": ("≤ " if kpi["bound"] == "at_most" else "≥ ") + said(kpi["target"]),
        "status": words(f"status.{status}"),
        "symbol": _SYMBOLS[status],
        "look": _LOOKS[status],
    }


_VERDICT_LOOKS = {"worth_it": "good", "worth_it_if": "fair", "not_worth_it": "bad"}


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was decided."""
    decision = results.decision
    if not decision:
        return None
    body = render(
        "decision",
        words,
        look=_VERDICT_LOOKS[decision["verdict"]],
        verdict=decision["verdict"],
        reasons=[
            (r["side"], _sentence(r, decision["break_even"], words)) for r in decision["reasons"]
        ],
        indicators=indicator_rows(decision["kpis"], words),
        tiles=_tiles(results, words),
    )
    return Section("decision", words("title"), body)


def _tiles(results: Results, words: Words) -> list[tuple[str, str, str]]:
    found, cost = results.decision["break_even"], results.cost
    error = results.metrics["relative_l2"]
    interval = results.metrics.get("intervals", {}).get("relative_l2")
    latency = duration(1e-3 * cost["latency_ms"], words)
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    return [
        (words("error"), words.percent(error), between(interval, words.percent)),
        (words("latency"), latency, ""),
        (words("pays_after"), pays, ""),
    ]


def _sentence(reason: Known, pays: Known, words: Words) -> str:
    code, values = reason["code"], reason["values"]
    if code == "spent_unknown":
        values = {"why": unknown(pays, words)}
    if code.startswith("kpi_"):
        return _about_indicator(code, values, words)
    if code == "better_than_guess" and values["times"] is None:
        code = "without_error"
    known = {name: value for name, value in values.items() if value is not None}
    return words(f"reason.{code}", **{name: _said(name, v, words) for name, v in known.items()})


def _about_indicator(code: str, values: Known, words: Words) -> str:
    (row,) = indicator_rows([values], words)
    more = {}
    if code == "kpi_missed_needs_data":
        more = {
            "samples": words.number(values["samples"]),
            "more_solves": words.number(values["more_solves"]),
        }
    said = {name: row[name] for name in ("name", "value", "target")}
    return words(f"reason.{code}", **said, **more)


def _said(name: str, value: Any, words: Words) -> str:
    match name:
        case "error" | "guess_error" | "share" | "level":
            return words.percent(value)
        case "guess":
            return words("guess.mean_field" if value == "mean_field" else "guess.kept_frame")
        case "solver_seconds" | "surrogate_seconds":
            return duration(value, words)
        case "solver_ms" | "model_ms":
            return duration(1e-3 * value, words)
        case "times" | "wanted" | "speedup" | "days" | "horizon":
            return words.number(value, 2)
        case "solves" | "count":
            return words.number(value)
        case _:
            return str(value)
