"""How large the errors are, how sure that is, and in waves of which length they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.evaluation.metrics import METRICS, Metric
from mno.report.section import Section, render
from mno.report.sections.accuracy.spectrum import spectrum
from mno.report.sections.accuracy.summary import summary

if TYPE_CHECKING:
    from mno.core.fields import Field
    from mno.report.language import Words
    from mno.report.results import Known, Results

_WAYS = ("", "baseline_", "persistence_")


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    metrics = results.metrics
    kept = "persistence_relative_l2" in metrics
    terms = [*(metric.name for metric in METRICS), "mean_field", *(["kept_frame"] if kept else [])]
    drawn = [
        spectrum(field, results.evaluation.model[field.name], words)
        for field in results.schema.outputs
    ]
    figures = tuple(figure for figure in drawn if figure)
    body = render(
        "accuracy/section.html.j2",
        words,
        summary=summary(metrics, words),
        tables=[_table(field, metrics, words) for field in results.schema.outputs],
        figures=figures,
        glossary=[(words(f"term.{name}"), words(f"meaning.{name}")) for name in terms],
    )
    return Section("accuracy", words("title"), body, figures)


def _table(field: Field, metrics: Known, words: Words) -> dict[str, Any]:
    """Return the metrics of a field, of the model and of baselines, and what is not measured."""
    values, intervals = metrics["fields"][field.name], metrics["intervals"]["fields"][field.name]
    measured = [metric for metric in METRICS if not isinstance(values[metric.name], str)]
    rows = [_row(metric, field, values, intervals, words) for metric in measured]
    absent: dict[str, list[str]] = {}
    for metric in METRICS:
        if metric not in measured:
            absent.setdefault(values[metric.name], []).append(words(f"term.{metric.name}"))
    return {
        "field": field.long_name,
        "rows": [*rows, _counted(values, words)] if field.gaps else rows,
        "absent": [
            words("absent", names=words.list(names), reason=words.name(reason))
            for reason, names in absent.items()
        ],
    }


def _row(
    metric: Metric, field: Field, values: Known, intervals: Known, words: Words
) -> dict[str, Any]:
    """Return a metric of the model and of the baselines, each with its interval if it has one."""
    show = words.number if metric.physical else words.percent
    cells = []
    for way in _WAYS:
        name = f"{way}{metric.name}"
        if name in values:
            interval = intervals.get(name)
            ends = None if isinstance(interval, str) or interval is None else interval
            cells.append((show(values[name]), _between(ends, show, words)))
    return {
        "title": words(f"term.{metric.name}"),
        "cells": cells,
        "unit": field.units if metric.physical and field.units != "1" else "",
    }


def _between(ends: list[float] | None, show: Any, words: Words) -> str:
    return words("between", low=show(ends[0]), high=show(ends[1])) if ends else ""


def _counted(values: Known, words: Words) -> dict[str, Any]:
    """Return how many values of a field with gaps were compared, of the model and of baselines."""
    compared, of = (
        words.number(n) for n in (values["values"], values["values"] + values["missing"])
    )
    own = words("compared_of", compared=compared, of=of)
    others = [(compared, "") for way in _WAYS[1:] if f"{way}rmse" in values]
    return {"title": words("compared"), "cells": [(own, ""), *others], "unit": ""}
