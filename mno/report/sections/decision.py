"""What it comes to: the verdict with its reasons, the indicators, the numbers that matter most."""

from collections.abc import Callable
from typing import Any

from mno.core.absent import Absent
from mno.report.language import Known, Words, unknown
from mno.report.page import Results, Section, section_of

_LIGHTS = {
    "met": ("✓", "good"),
    "missed": ("✗", "bad"),
    "undecided": ("~", "fair"),
    "unknown": ("?", "fair"),
}
_LOOKS = {"worth_it": "good", "worth_it_if": "fair", "not_worth_it": "bad"}


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was decided."""
    if not (decision := results.decision):
        return None
    pays = decision["break_even"]
    return section_of(
        words,
        look=_LOOKS[decision["verdict"]],
        verdict=decision["verdict"],
        reasons=[(r["side"], _sentence(r, pays, words)) for r in decision["reasons"]],
        indicators=[_indicator_row(kpi, words) for kpi in decision["kpis"]],
        tiles=_tiles(results, words),
        price_title=f"price.{results.schema.part}",
        source=pays["solver_source"],
        prices=_price_rows(pays, words),
        tools=_tool_rows(results, words),
        no_tools=[
            words("tools.none", tool=words(f"tools.{tool['name']}"), why=words.why(tool["why"]))
            for tool in results.cost.get("tools", ())
            if "why" in tool
        ],
    )


def _price_rows(pays: Known, words: Words) -> list[tuple[str, str, str, str, str]]:
    """Return how it is asked, model's and solver's time of an answer, ratio, and when it pays."""
    solve, batch = pays["solver_seconds"], pays["batch"]
    if solve is None:
        return []
    alone = words("price.alone"), pays["surrogate_seconds"], pays["solves"]
    many = words("price.batch", batch=words.number(batch["samples"]))
    ways = [alone, (many, batch["surrogate_seconds"], batch["solves"])]
    if of_readings := pays["readings"]:
        seconds, solves = of_readings["surrogate_seconds"], of_readings["solves"]
        ways.append((words("price.of_readings"), seconds, solves))
    rows = []
    for asked, seconds, solves in ways:
        after = words("price.never" if seconds >= solve else "price.unknown")
        if solves is not None:
            after = words("price.questions", solves=words.number(solves))
            after += _plant_hours(solves, pays, words)
        cheaper = words.number(solve / seconds, 2)
        rows.append((asked, words.duration(seconds), words.duration(solve), cheaper, after))
    return rows


def _plant_hours(solves: int, pays: Known, words: Words) -> str:
    """Return how many hours of plant time so many answers cover, in brackets, where known."""
    covered = pays.get("plant_seconds")
    return words("price.plant", hours=words.number(solves * covered / 3600, 2)) if covered else ""


def _tool_rows(results: Results, words: Words) -> list[tuple[str, str, str, str, str]]:
    """Return name, error, its interval, time of an answer and of making, the least error first."""
    cost, metrics = results.cost, results.metrics
    if not (tools := [tool for tool in cost.get("tools", ()) if "error" in tool]):
        return []
    spent = cost["spent"]["train"]
    model = {
        "name": "model", "error": metrics["relative_l2"], "ms": cost["latency_ms"],
        "interval": metrics.get("intervals", {}).get("relative_l2"),
        "seconds": spent if isinstance(spent, Absent) else spent["cpu_seconds"],
    }  # fmt: skip
    rows = []
    for tool in sorted([model, *tools], key=lambda tool: tool["error"]):
        made = tool["seconds"]
        rows.append((
            words(f"tools.{tool['name']}"),
            words.percent(tool["error"]),
            _between(tool["interval"], words.percent),
            words.duration(1e-3 * tool["ms"]),
            words.why(made) if isinstance(made, Absent) else words.duration(made),
        ))  # fmt: skip
    return rows


def _tiles(results: Results, words: Words) -> list[tuple[str, str, str]]:
    found, metrics = results.decision["break_even"], results.metrics
    interval = metrics.get("intervals", {}).get("relative_l2")
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    error = words.percent(metrics["relative_l2"])
    return [
        (words("error"), error, _between(interval, words.percent)),
        (words("latency"), words.duration(1e-3 * results.cost["latency_ms"]), ""),
        (words("pays_after"), pays, ""),
    ]


def _between(interval: Any, said: Callable[[float], str]) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if interval is None or isinstance(interval, Absent):
        return ""
    low, high = interval
    return f"[{said(low)}, {said(high)}]"


def _indicator_row(kpi: Known, words: Words) -> dict[str, str]:
    """Return name, value (with its interval), target, status, symbol and look of an indicator."""

    def said(number: float) -> str:
        if kpi["name"] == "relative_l2":
            return words.percent(number)
        unit = "" if kpi["unit"] == "1" else f"\u202f{kpi['unit']}"
        return f"{words.number(number, 3)}{unit}"

    value, (symbol, look) = kpi["value"], _LIGHTS[kpi["status"]]
    known = not isinstance(value, Absent)
    field = "" if kpi["field"] is None else f" ({words.name(kpi['field'])})"
    return {
        "name": words(f"kpi.{kpi['name']}") + field,
        "value": f"{said(value)} {_between(kpi['interval'], said)}".rstrip()
        if known
        else words.why(value),
        "target": ("≤ " if kpi["bound"] == "at_most" else "≥ ") + said(kpi["target"]),
        "status": words(f"status.{kpi['status']}"),
        "symbol": symbol,
        "look": look,
    }


def _sentence(reason: Known, pays: Known, words: Words) -> str:
    code: str = reason["code"]
    values: Known = reason["values"]
    if code == "spent_unknown":
        values = {"why": unknown(pays, words)}
    if values.get("solves") is not None:
        values = {**values, "plant": _plant_hours(values["solves"], pays, words)}
    if code.startswith("kpi_"):
        row = _indicator_row(values, words)
        said = {name: row[name] for name in ("name", "value", "target")}
        if code == "kpi_missed_needs_data":
            said |= {name: words.number(values[name]) for name in ("samples", "more_solves")}
        return words(f"reason.{code}", **said)
    if code == "better_than_guess" and values["times"] is None:
        code = "without_error"
    known = {name: value for name, value in values.items() if value is not None}
    return words(f"reason.{code}", **{name: _said(name, v, words) for name, v in known.items()})


def _said(name: str, value: Any, words: Words) -> str:
    match name:
        case "error" | "guess_error" | "tool_error" | "share" | "level":
            return words.percent(value)
        case "guess":
            return words("guess.mean_field" if value == "mean_field" else "guess.kept_frame")
        case "tool":
            return words(f"tools.{value}")
        case "solver_seconds" | "measured_seconds" | "surrogate_seconds" | "batch_seconds":
            return words.duration(value)
        case "times" | "wanted" | "speedup" | "batch_speedup" | "days" | "horizon":
            return words.number(value, 2)
        case "solves" | "count" | "batch" | "batch_solves" | "asked":
            return words.number(value)
        case _:
            return str(value)
