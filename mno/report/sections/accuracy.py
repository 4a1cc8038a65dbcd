"""How large the errors are, how sure that is, and in waves of which length they lie."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.core.fields import Field
from mno.evaluation.decision import WAYS, no_better
from mno.evaluation.metrics import METRICS
from mno.evaluation.result import Evaluation
from mno.report.language import Known, Words
from mno.report.page import Block, Facts, Folded, Results, Section, Table, section_of

_MOST_TABLES = 3  # beyond which they are folded away behind one for all outputs


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    metrics, outputs = results.metrics, results.schema.outputs
    weak = {(found.field, found.metric) for found in no_better(metrics)}
    absent = [_absent(metrics["fields"][field.name], words) for field in outputs]
    tables: list[Block] = [_table(field, results, weak, words) for field in outputs]
    if all(said == absent[0] for said in absent):
        tables += absent[0]
    else:
        tables += [words("of_field", field=f.long_name, said=" ".join(said))
                   for f, said in zip(outputs, absent, strict=True) if said]  # fmt: skip
    if len(outputs) > _MOST_TABLES:
        folded = Folded(words("errors_of_each"), tables)
        tables = [_overview(results, weak, words), folded]
    known = [
        metric.name
        for metric in METRICS
        if not all(isinstance(metrics["fields"][f.name][metric.name], Absent) for f in outputs)
    ]
    if any("relative_rise" in values for values in metrics["fields"].values()):
        known.append("relative_rise")
    terms = [*known, *(guess for way, guess in WAYS.items() if f"{way}relative_l2" in metrics)]
    meanings = [(words(f"term.{name}"), words(f"meaning.{name}")) for name in terms]
    return section_of(
        words,
        *_summary(metrics, words),
        _spread(results.evaluation, words),
        words("marked", count=len(weak)) if weak else None,
        *tables,
        words("intervals", level=words.percent(metrics["intervals"]["level"])),
        Folded(words("what_figures_mean"), [Facts(words("what_figures_mean"), meanings)]),
    )


def between(ends: Any, said: Callable[[float], str]) -> str:
    """Return an interval in brackets; nothing where there is none."""
    return f"[{said(ends[0])}, {said(ends[1])}]" if is_known(ends) else ""


def _table(field: Field, results: Results, weak: set[tuple[str, str]], words: Words) -> Table:
    """Return what was measured of a field, beside guesses, with intervals."""
    values = results.metrics["fields"][field.name]
    ends, guesses = results.metrics["intervals"]["fields"][field.name], {}
    for way, guess in WAYS.items():
        if f"{way}rmse" in values:
            guesses[way] = words(f"guess.{guess}")
    heads = {"": words("this_model"), **guesses}
    rows = []
    for metric in METRICS:
        if isinstance(values[metric.name], Absent):
            continue
        show = words.number if metric.physical else words.percent
        unit = f" ({field.units})" if metric.physical and field.units != "1" else ""
        row = {words("metric"): words(f"term.{metric.name}") + unit}
        for way, head in heads.items():
            name = way + metric.name
            said = f"{show(values[name])} {between(ends.get(name), show)}" if name in values else ""
            marked = not way and (field.name, metric.name) in weak
            row[head] = ("✗ " if marked else "") + said.strip() or "–"
        rows.append(row)
    blank = dict.fromkeys(guesses.values(), "–")
    if "relative_rise" in values:
        rise = words.percent(values["relative_rise"])
        rows.append({words("metric"): words("term.relative_rise"), heads[""]: rise, **blank})
    if field.gaps:
        compared, of = values["values"], values["values"] + values["missing"]
        said = words.number(compared)
        if not results.schema.readings:  # of which a place has none of most kinds
            said = words("compared_of", compared=said, of=words.number(of))
        rows.append({words("metric"): words("compared"), heads[""]: said, **blank})
    return Table(words("errors_in", field=field.long_name), rows, tuple(heads.values()))


def _overview(results: Results, weak: set[tuple[str, str]], words: Words) -> Table:
    """Return what counts most of each output."""
    metrics, tools = results.metrics, results.cost.get("tools", ())
    others = {}
    for tool in (tool for tool in tools if "rmse" in tool):
        count = tool.get("samples", 0)
        others[words(f"rmse_of.{tool['name']}", samples=count)] = tool["rmse"]
        if count:  # on some runs alone, so that the model's stands beside
            others[words("rmse_of.model")] = tool["model"]
    rows = []
    for field in results.schema.outputs:
        values, ends = metrics["fields"][field.name], metrics["intervals"]["fields"][field.name]

        def amount(value: float, unit: str = field.units) -> str:
            return words.number(value) + ("" if unit == "1" else f" {unit}")

        found = {"relative_l2": words.percent(values["relative_l2"])}
        found["relative_l2"] += f" {between(ends.get('relative_l2'), words.percent)}"
        if "relative_rise" in values:
            found["relative_rise"] = words.percent(values["relative_rise"])
        found |= {name: amount(values[name]) for name in ("rmse", "max_error")}
        rows.append(
            {words("predicted"): field.long_name}
            | {
                words(f"term.{name}"): ("✗ " if (field.name, name) in weak else "") + said.strip()
                for name, said in found.items()
            }
            | {tool: amount(rmse[field.name]) for tool, rmse in others.items()}
            | {
                words(f"term.{guess}"): words.percent(values[f"{way}relative_l2"])
                for way, guess in WAYS.items()
                if f"{way}relative_l2" in values
            }
        )
    heads = dict.fromkeys(head for row in rows for head in row)
    rows = [{head: row.get(head, "–") for head in heads} for row in rows]
    return Table(words("errors_of_all"), rows, tuple(heads)[1:])


def _spread(evaluation: Evaluation, words: Words) -> str:
    """Say how the error is spread over the test samples, and of which there is none."""
    errors = evaluation.relative_l2[evaluation.measured]
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return words("spread.none")
    ends = (finite.min(), np.median(finite), finite.max())
    best, median, worst = (words.percent(float(error)) for error in ends)
    lost, without = errors.size - finite.size, int((~evaluation.measured).sum())
    said = words("spread.found", best=best, median=median, worst=worst)
    said += words("spread.lost", lost=lost, of=errors.size) if lost else ""
    return said + (words("spread.without_truth", count=without) if without else "")


def _absent(values: Known, words: Words) -> list[str]:
    """Return which metrics of a field were not measured, a sentence for each reason."""
    found: dict[Absent, list[str]] = {}
    for metric in METRICS:
        if isinstance(values[metric.name], Absent):
            found.setdefault(values[metric.name], []).append(words(f"term.{metric.name}"))
    return [
        words("absent", names=words.list(names), reason=words.why(reason))
        for reason, names in found.items()
    ]


def _summary(metrics: Known, words: Words) -> list[str]:
    """Return one sentence on the error, and one on each guess that needs no model."""
    intervals = metrics["intervals"]
    error, ends = words.percent(metrics["relative_l2"]), intervals["relative_l2"]
    if not is_known(ends):
        return [words("summary.unsure", error=error)]
    low, high, level = map(words.percent, (*ends, intervals["level"]))
    samples = words.number(metrics["samples"])
    said = [words("summary.error", error=error, low=low, high=high, level=level, samples=samples)]
    for way, guess in WAYS.items():  # on the same samples
        ends = intervals.get(f"relative_l2_minus_{way}relative_l2")
        if is_known(ends):
            key = "better" if ends[1] < 0 else "worse" if ends[0] > 0 else "alike"
            low, high = (words.number(100 * end, 3) for end in sorted(map(abs, ends)))
            guess = words(f"term.{guess}")
            said.append(words(f"summary.{key}", guess=guess, low=low, high=high))
    return said


def is_known(ends: Any) -> bool:
    """Whether there is an interval."""
    return isinstance(ends, list) and all(math.isfinite(end) for end in ends)
