"""The figures of a report, without the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mno.data.reading import Schema
from mno.evaluation.result import Evaluation
from mno.report.document import sections_of
from mno.report.page import Figure, Results


def figures_of(results: Results) -> tuple[Figure, ...]:
    return tuple(figure for section in sections_of(results, "en") for figure in section.figures)


def results_of(
    evaluation: Evaluation, schema: Schema, history: Mapping[str, Any], **known: Any
) -> Results:
    return Results(
        scenario=schema.scenario,
        schema=schema,
        evaluation=evaluation,
        metrics=evaluation.metrics(),
        training=history,
        **known,
    )
