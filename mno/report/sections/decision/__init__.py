"""What it comes to: the verdict with its reasons, the indicators, the numbers that matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.reasons import told
from mno.report.section import Section, render
from mno.report.sections.cost.amounts import duration
from mno.report.sections.decision.indicators import between, indicator_rows

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Known, Results

_LOOKS = {"worth_it": "good", "worth_it_if": "fair", "not_worth_it": "bad"}


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was decided."""
    decision = results.decision
    if not decision:
        return None
    body = render(
        "decision/section.html.j2",
        words,
        look=_LOOKS[decision["verdict"]],
        verdict=decision["verdict"],
        reasons=[(reason["side"], _sentence(reason, words)) for reason in decision["reasons"]],
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


def _sentence(reason: Known, words: Words) -> str:
    code, values = reason["code"], reason["values"]
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
        case "why":
            return told(value, words)
        case _:
            return str(value)
