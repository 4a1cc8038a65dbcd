"""What predictions look like, and how their errors are spread."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.core.fields import Field
from mno.data.reading import Schema
from mno.evaluation.metrics import mean
from mno.evaluation.result import Evaluation, Example, OverTime
from mno.report import style
from mno.report.examples import animation, axes_of, draw_example, titled
from mno.report.language import Words
from mno.report.page import Figure, Results, Section, figure_of, section_of
from mno.report.panels import Panel, in_hours, labelled, mark_alone, pictures, plane, scale
from mno.report.readings import example_figures, in_space, plant_figure

_MOST_BINS = 40


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    found, schema = results.evaluation, results.schema
    middle = in_space(found.example("median"), schema)
    figures = [
        *_examples(results, words),
        _error_map(found, schema, words),
        None if middle is None else animation(*middle, words),
        _over_time(found.over_time, words) if found.over_time else None,
        _histogram(found, words),
    ]
    return section_of(words, figures)


def _examples(results: Results, words: Words) -> Iterator[Figure | None]:
    found, schema = results.evaluation, results.schema
    if schema.readings:
        yield plant_figure(found.example("median"), schema, results.bodies, words)
    for example in found.examples:
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
        average = float(finite.mean())
        times = words.number(float(finite.max()) / average if average else 1.0, 2)
        worst.append(words("error_map.worst", field=field.long_name, place=place, times=times))
    if not panels:
        return None
    fields, drawn = words.list(panel.title for panel in panels), pictures(panels, (4, 2), words)
    told: dict[str, Any] = {"fields": fields, "worst": " ".join(worst)}
    return figure_of("error_map", words, "error_map", drawn, full_width=len(panels) > 2, **told)


def _histogram(evaluation: Evaluation, words: Words) -> Figure:
    known = evaluation.measured
    errors = evaluation.relative_l2[known]
    baseline = mean(evaluation.baseline_relative_l2[known])
    finite = errors[np.isfinite(errors)]
    spread = words("histogram.no_spread")
    if finite.size:
        ends = (finite.min(), np.median(finite), finite.max())
        best, median, worst = (words.percent(float(error)) for error in ends)
        spread = words("histogram.spread", best=best, median=median, worst=worst)
    lost, without = errors.size - finite.size, int((~known).sum())
    left_out = words("histogram.lost", lost=lost, of=errors.size) if lost else ""
    left_out += words("histogram.without_truth", count=without) if without else ""
    drawn = style.curves(lambda ax: draw_histogram(ax, errors, baseline, words))
    told: dict[str, Any] = {"spread": spread, "left_out": left_out, "count": errors.size}
    return figure_of("error_histogram", words, "histogram", drawn, **told)


def draw_histogram(ax: Axes, errors: np.ndarray, baseline: float, words: Words) -> None:
    """Draw how the per-sample relative L2 is spread, with its median and the baseline marked."""
    finite = errors[np.isfinite(errors)]
    if finite.size:
        bins = int(np.clip(1.5 * np.sqrt(finite.size), 1, _MOST_BINS))
        ax.hist(finite, bins=bins, color=style.TRUTH_COLOUR, edgecolor="white", linewidth=0.6)
        median = float(np.median(finite))
        label = words("histogram.median", error=words.percent(median))
        ax.axvline(median, color="black", lw=1.5, label=label)
    if np.isfinite(baseline):
        label = words("histogram.baseline", error=words.percent(baseline))
        ax.axvline(baseline, color=style.PREDICTION_COLOUR, lw=1.5, ls="--", label=label)
    ax.set_xlim(left=0)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    style.finish(ax, words("histogram.error"), words("histogram.samples"), per_cent="x")


def _over_time(errors: OverTime, words: Words) -> Figure:
    known = np.flatnonzero(~np.isnan(errors.baseline))  # else no sample has a true value there
    ends = known[[0, -1]] if known.size else (0, -1)
    first, last = (words.percent(float(errors.model[k])) for k in ends)
    frames, drawn = len(errors.times), style.curves(lambda ax: _draw_over_time(ax, errors, words))
    left_out = words("over_time.left_out") if known.size < frames else ""
    told: dict[str, Any] = {"first": first, "last": last, "frames": frames, "left_out": left_out}
    return figure_of("error_over_time", words, "over_time", drawn, **told)


def _draw_over_time(ax: Axes, errors: OverTime, words: Words) -> None:
    times, units = in_hours(errors.times, errors.units)
    for values, label, colour, dashes in (
        (errors.model, words("over_time.model"), style.PREDICTION_COLOUR, "-"),
        (errors.persistence, words("over_time.kept"), style.TRUTH_COLOUR, "--"),
        (errors.baseline, words("over_time.mean"), style.REFERENCE_COLOUR, ":"),
    ):
        ax.plot(times, values, color=colour, ls=dashes, label=label, lw=1.7)
        mark_alone(ax, times, values, colour)
    style.error_scale(ax, errors.model, errors.persistence, errors.baseline)
    time = labelled(words("over_time.time"), units)
    style.finish(ax, time, words("over_time.error"), lines="y", per_cent="y")
