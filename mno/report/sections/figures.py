"""What predictions look like, and where their errors sit."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mno.core.fields import Field
from mno.data.reading import Schema
from mno.evaluation.result import Evaluation, Example
from mno.report import style
from mno.report.examples import axes_of, draw_example, titled
from mno.report.language import Words
from mno.report.page import Figure, Results, Section, figure_of, section_of
from mno.report.panels import Panel, labelled, pictures, plane, scale
from mno.report.readings import example_figures, in_space, plant_figure


def section(results: Results, words: Words) -> Section:
    """Return the section: the worst and the median sample, and where errors sit."""
    found, schema = results.evaluation, results.schema
    shown = [example for example in reversed(found.examples) if example.ranks != ("best",)]
    figures = [figure for example in shown for figure in _drawn(example, results, words)]
    first = "_".join(["example", *found.example("median").ranks])
    first = "plant" if results.bodies else first
    others = (figure for figure in figures if figure.name != first)
    return section_of(words, *others, _error_map(found, schema, words))


def first_figure(results: Results, words: Words) -> Figure | None:
    """Return the picture of what was modelled: the plant, or the median sample."""
    example = results.evaluation.example("median")
    if results.bodies:
        return plant_figure(example, results.schema, results.bodies, words)
    return next(_drawn(example, results, words), None)


def _drawn(example: Example, results: Results, words: Words) -> Iterator[Figure]:
    schema = results.schema
    rank = words("and").join(words(f"rank.{rank}") for rank in example.ranks)
    if schema.readings:
        bounds = results.bounds.get(example.index, {})
        yield from example_figures(example, schema, bounds, rank, words)
    if shown := in_space(example, schema):
        yield _example_figure(*shown, rank, words, beside=bool(schema.readings))


def _example_figure(
    example: Example, schema: Schema, rank: str, words: Words, *, beside: bool
) -> Figure:
    """Return the figure of a sample in space, perhaps `beside` those of its readings."""
    return figure_of(
        "_".join(["example", *example.ranks, *(["space"] if beside else [])]),
        words,
        "example",
        draw_example(example, schema, words),
        full_width=True,
        rank=rank,
        index=example.index,
        inputs=words.list(_given(field, example, words) for field in schema.inputs),
        outputs=words.list(field.long_name for field in schema.outputs),
        error=words.percent(example.relative_l2),
        blank=words("blank") if any(field.gaps for field in schema.fields) else "",
    )


def _given(field: Field, example: Example, words: Words) -> str:
    if not field.is_scalar:
        return field.long_name
    unit = "" if field.units == "1" else f" {field.units}"
    return f"{field.long_name} = {words.number(float(example.inputs[field.name]), 3)}{unit}"


def _error_map(evaluation: Evaluation, schema: Schema, words: Words) -> Figure | None:
    """Return the figure of each field's error per point; none of unordered points."""
    panels, worst = [], []
    for field in schema.outputs:
        error = evaluation.error_maps.get(field.name)
        if error is None or not error.size:
            continue
        axes = axes_of(field, schema)
        shown, kept, cut = plane(np.ma.masked_invalid(error) if field.gaps else error, axes)
        colours = style.PREDICTION_COLOUR if shown.ndim == 1 else "magma_r"
        label, limits = labelled(words("error_map.rmse"), field.units), (0.0, scale(shown)[1])
        panels.append(Panel(titled(field.long_name, cut), label, shown, kept, limits, colours))
        if not np.isfinite(error).any():
            worst.append(words("error_map.nowhere", field=field.long_name))
            continue
        finite = np.where(np.isfinite(error), error, 0.0)
        at = np.unravel_index(int(np.argmax(finite)), error.shape)
        place = words.list(
            f"{axis.name} = {words.number(float(axis.points[i]), 3)}"
            for axis, i in zip(axes, at, strict=True)
        )
        average = float(error[np.isfinite(error)].mean())
        times = words.number(float(finite.max()) / average if average else 1.0, 2)
        worst.append(words("error_map.worst", field=field.long_name, place=place, times=times))
    if not panels:
        return None
    fields, drawn = words.list(panel.title for panel in panels), pictures(panels, (4, 2), words)
    told: dict[str, Any] = {"fields": fields, "worst": " ".join(worst)}
    return figure_of("error_map", words, "error_map", drawn, **told)
