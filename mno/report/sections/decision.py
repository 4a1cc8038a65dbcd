"""The first screen: what was modelled, the verdict, and what would make it worth it."""

import re
from collections import Counter
from datetime import date
from itertools import chain
from typing import Any

from markupsafe import Markup

from mno import __version__
from mno.core.absent import Absent
from mno.evaluation.decision import no_better
from mno.evaluation.metrics import METRICS
from mno.report.language import Known, Words, fact_rows, unknown
from mno.report.page import Results, Section, Table, body_of, embedded, templates
from mno.report.sections.accuracy import between
from mno.report.sections.cost import plant_hours
from mno.report.sections.figures import first_figure
from mno.report.sections.robustness import physics_verdict
from mno.report.sections.trust import trust_verdict

_LIGHTS = {"met": "✓", "missed": "✗", "undecided": "~", "unknown": "?"}
_LOOKS = {"worth_it": "good", "worth_it_if": "fair", "not_worth_it": "bad"}
_MOST_WEAK = 3


def section(results: Results, words: Words) -> Section:
    """Return the first screen: picture, verdict, three figures, what would make it worth it."""
    decision = results.decision
    verdict = decision.get("verdict")
    wanted, speaks_for = [], []
    doubted = {"weak": _weak(results, words), "physics_broken": _physics(results, words)}
    for reason in decision.get("reasons", ()):
        if (code := reason["code"]) in doubted:
            wanted += [("condition", words("borne", said=said)) for _, said in doubted.pop(code)]
            continue
        said = _sentence(reason, decision["break_even"], words)
        (speaks_for if reason["side"] == "for" else wanted).append((reason["side"], said))
    picture = first_figure(results, Words.of(words.language, "figures"))
    trusted = trust_verdict(results, Words.of(words.language, "trust"))
    doubts = [*chain(*doubted.values()), *([trusted] if trusted else [])]
    page = templates().get_template("report/sections/decision.html.j2")
    made = {"date": date.today().isoformat(), "MNO": __version__, **results.lineage}
    indicators = [_indicator_row(kpi, words) for kpi in decision.get("kpis", ())]
    body = page.render(
        words=words,
        look=_LOOKS.get(verdict or "", ""),
        verdict=verdict,
        tiles=_tiles(results, words),
        wanted=wanted,
        speaks_for=speaks_for,
        doubts=doubts,
        picture=embedded(picture) if picture else None,
        made=[(*row, _short(row[1])) for row in fact_rows(made, words)],
        targets=body_of([Table(words("caption"), indicators)], words) if indicators else "",
    )
    return Section("decision", words("title"), Markup(body), (picture,) if picture else ())


def _short(said: str) -> str:
    """Return the beginning of a digest, anything else as it is."""
    return said[:12] if re.fullmatch(r"[0-9a-f]{32,}(\.dir)?", said) else said


def _weak(results: Results, words: Words) -> list[tuple[bool, str]]:
    """Say in which figures the model is no better than a guess, of many the first."""
    fields = {field.name: field for field in results.schema.outputs}
    physical, said = {metric.name: metric.physical for metric in METRICS}, []
    found = no_better(results.metrics)
    for weak in found[:_MOST_WEAK]:
        field = fields[weak.field]
        unit = "" if field.units == "1" else f" {field.units}"

        def amount(value: float, unit: str = unit, metric: str = weak.metric) -> str:
            return words.number(value, 3) + unit if physical.get(metric) else words.percent(value)

        told = {"metric": words(f"accuracy.term.{weak.metric}"), "field": field.long_name}
        told |= {"value": amount(weak.value), "theirs": amount(weak.guess_value)}
        said.append((False, words("no_better", guess=words(f"guess.{weak.guess}"), **told)))
    more = len(found) - _MOST_WEAK
    return said + ([(False, words("no_better_more", count=more))] if more > 0 else [])


def _physics(results: Results, words: Words) -> list[tuple[bool | None, str]]:
    found = results.metrics.get("physics")
    return [] if found is None else [physics_verdict(found, Words.of(words.language, "robustness"))]


def _tiles(results: Results, words: Words) -> list[tuple[str, str, str]]:
    """Return title, figure and what stands beside it: of the error, of a prediction, of paying."""
    metrics, tiles = results.metrics, []
    ends = between(metrics.get("intervals", {}).get("relative_l2"), words.percent)
    relative = f"{words.percent(metrics['relative_l2'])} {ends}".rstrip()
    outputs = [field for field in results.schema.outputs if field.units != "1"]
    if outputs:
        unit, _ = Counter(field.units for field in outputs).most_common(1)[0]
        rmse = [metrics["fields"][f.name]["rmse"] for f in outputs if f.units == unit]
        low, high = (words.number(end, 2) for end in (min(rmse), max(rmse)))
        said = low if low == high else words("tile.range", low=low, high=high)
        beside = words("tile.relative", error=relative, count=len(rmse))
        tiles.append((words("tile.rmse"), f"{said} {unit}", beside))
    else:
        tiles.append((words("error"), words.percent(metrics["relative_l2"]), ends))
    if not results.decision:
        return tiles
    found = results.decision["break_even"]
    solve = found["solver_seconds"]
    beside = "" if solve is None else words("tile.solve", seconds=words.duration(solve))
    tiles.append((words("latency"), words.duration(found["surrogate_seconds"]), beside))
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    beside = plant_hours(found["solves"], found, words, "tile.plant") if found["solves"] else ""
    return [*tiles, (words("pays_after"), pays, beside)]


def _indicator(kpi: Known, words: Words) -> dict[str, str]:
    """Return name, value (with its interval) and target of an indicator."""

    def said(number: float) -> str:
        if kpi["name"] == "relative_l2":
            return words.percent(number)
        unit = "" if kpi["unit"] == "1" else f"\u202f{kpi['unit']}"
        return f"{words.number(number, 3)}{unit}"

    value, field = kpi["value"], "" if kpi["field"] is None else f" ({words.name(kpi['field'])})"
    known = not isinstance(value, Absent)
    return {
        "name": words(f"kpi.{kpi['name']}") + field,
        "value": f"{said(value)} {between(kpi['interval'], said)}".rstrip()
        if known
        else words.why(value),
        "target": ("≤ " if kpi["bound"] == "at_most" else "≥ ") + said(kpi["target"]),
    }


def _indicator_row(kpi: Known, words: Words) -> dict[str, str]:
    status = kpi["status"]
    row = {**_indicator(kpi, words), "status": f"{_LIGHTS[status]} {words(f'status.{status}')}"}
    return {words(f"column.{name}"): row[name] for name in ("name", "status", "value", "target")}


def _sentence(reason: Known, pays: Known, words: Words) -> str:
    code: str = reason["code"]
    values: Known = reason["values"]
    if code == "spent_unknown":
        values = {"why": unknown(pays, words)}
    if values.get("solves") is not None:
        values = {**values, "plant": plant_hours(values["solves"], pays, words)}
    if code.startswith("kpi_"):
        said = _indicator(values, words)
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
            return words(f"cost.tools.{value}")
        case "solver_seconds" | "measured_seconds" | "surrogate_seconds" | "batch_seconds":
            return words.duration(value)
        case "times" | "wanted" | "speedup" | "batch_speedup" | "days" | "horizon":
            return words.number(value, 2)
        case "solves" | "count" | "batch" | "batch_solves" | "asked":
            return words.number(value)
        case _:
            return str(value)
