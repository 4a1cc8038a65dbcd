"""How large the errors are, in tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.evaluation.facts import unit_text
from mno.evaluation.metrics import METRICS
from mno.evaluation.report.section import Section, render

if TYPE_CHECKING:
    from mno.evaluation.report.language import Words
    from mno.evaluation.report.results import Known, Results
    from mno.fields import Field


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    metrics = results.metrics
    kept = "persistence_relative_l2" in metrics
    terms = [*(metric.name for metric in METRICS), "mean_field", *(["kept_frame"] if kept else [])]
    body = render(
        "accuracy/section.html.j2",
        words,
        tables=[
            {"field": field.long_name, "rows": _rows(field, metrics["fields"][field.name], words)}
            for field in results.schema.outputs
        ],
        glossary=[(words(f"term.{name}"), words(f"meaning.{name}")) for name in terms],
    )
    return Section("accuracy", words("title"), body)


def _rows(field: Field, values: Known, words: Words) -> list[dict[str, str]]:
    """Return each metric of the model beside those of the baselines."""
    rows = []
    for metric in METRICS:
        show = words.number if metric.physical else words.percent
        row = {
            "title": words(f"term.{metric.name}"),
            "value": show(values[metric.name]),
            "baseline": show(values[f"baseline_{metric.name}"]),
            "unit": unit_text(field.units) if metric.physical else "–",
        }
        if f"persistence_{metric.name}" in values:
            row["persistence"] = show(values[f"persistence_{metric.name}"])
        rows.append(row)
    return [*rows, _counted(values, words)] if field.gaps else rows


def _counted(values: Known, words: Words) -> dict[str, Any]:
    """Return how many values of a field with gaps were compared, of the model and of baselines."""
    compared, of = (
        words.number(n) for n in (values["values"], values["values"] + values["missing"])
    )
    row = {
        "title": words("compared"),
        "value": words("compared_of", compared=compared, of=of),
        "baseline": compared,
        "unit": "–",
    }
    return row | ({"persistence": compared} if "persistence_rmse" in values else {})
