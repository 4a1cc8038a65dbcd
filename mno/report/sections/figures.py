"""What predictions look like, and how their errors are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from mno.evaluation.metrics import mean
from mno.report.animation import animation
from mno.report.examples import draw_example, pictures
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.panels import Panel, labelled, mark_alone, plane, scale
from mno.report.style import (
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    draw_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.core.fields import Field
    from mno.data.reading import Schema
    from mno.evaluation.result import Evaluation, Example, OverTime
    from mno.report.language import Words
    from mno.report.page import Results


def error_map(evaluation: Evaluation, schema: Schema, words: Words) -> Figure | None:
    """Return the figure of each field's error per point; none of unordered points."""
    panels, told = [], []
    by_name = {axis.name: axis for axis in schema.axes}
    for field in schema.outputs:
        error = evaluation.error_maps.get(field.name)
        if error is None or not error.size:
            continue
        axes = tuple(by_name[name] for name in field.dims if name != "time")
        shown, kept, cut = plane(np.ma.masked_invalid(error) if field.gaps else error, axes)
        limits = (0.0, scale(shown)[1])
        colours = PREDICTION_COLOUR if shown.ndim == 1 else "magma_r"
        label = labelled(words("error_map.rmse"), field.units)
        title = f"{field.long_name} ({cut})" if cut else field.long_name
        panels.append(Panel(title, label, shown, kept, limits, colours))
        told.append(_worst(field.long_name, error, axes, words))
    if not panels:
        return None
    wide, narrow = pictures(panels, (4, 2), not_numbers=words("not_numbers"))
    said = {"fields": words.list(p.title for p in panels), "worst": " ".join(told)}
    return Figure(
        name="error_map",
        title=words("error_map.title"),
        caption=words("error_map.caption", **said),
        alt=words("error_map.alt", **said),
        png=wide,
        narrow=narrow,
        full_width=len(panels) > 2,
    )


def _worst(name: str, error: np.ndarray, axes: tuple, words: Words) -> str:
    """Say where the error is largest, and how many times its mean."""
    if not np.isfinite(error).any():
        return words("error_map.nowhere", field=name)
    finite = np.where(np.isfinite(error), error, 0.0)
    at = np.unravel_index(int(np.argmax(finite)), error.shape)
    place = words.list(
        f"{axis.name} = {words.number(float(axis.points[i]), 3)}"
        for axis, i in zip(axes, at, strict=True)
    )
    mean = float(finite.mean())
    times = words.number(float(finite.max()) / mean, 2) if mean else words.number(1.0, 2)
    return words("error_map.worst", field=name, place=place, times=times)


def example_figure(example: Example, schema: Schema, words: Words) -> Figure:
    """Return the figure of one sample of an evaluation."""
    said = {
        "rank": words("and").join(words(f"rank.{rank}") for rank in example.ranks),
        "index": example.index,
        "inputs": words.list(_given(field, example, words) for field in schema.inputs),
        "outputs": words.list(field.long_name for field in schema.outputs),
        "error": words.percent(example.relative_l2),
        "blank": words("blank") if any(field.gaps for field in schema.fields) else "",
    }
    wide, narrow = draw_example(example, schema, words)
    return Figure(
        name="example_" + "_".join(example.ranks),
        title=words("example.title", **said),
        caption=words("example.caption", **said),
        alt=words("example.alt", **said),
        png=wide,
        narrow=narrow,
        full_width=True,
    )


def _given(field: Field, example: Example, words: Words) -> str:
    """Name an input, with its value where that is one number."""
    if not field.is_scalar:
        return field.long_name
    unit = "" if field.units == "1" else f" {field.units}"
    return f"{field.long_name} = {words.number(float(example.inputs[field.name]), 3)}{unit}"


_MOST_BINS = 40


def histogram(evaluation: Evaluation, words: Words) -> Figure:
    """Return the figure of an evaluation's errors of single samples."""
    known = evaluation.measured
    errors = evaluation.relative_l2[known]
    baseline = mean(evaluation.baseline_relative_l2[known])
    finite = errors[np.isfinite(errors)]
    spread = words("histogram.no_spread")
    if finite.size:
        spread = words(
            "histogram.spread",
            best=words.percent(float(finite.min())),
            median=words.percent(float(np.median(finite))),
            worst=words.percent(float(finite.max())),
        )
    lost, without = errors.size - finite.size, int((~known).sum())
    left_out = words("histogram.lost", lost=lost, of=errors.size) if lost else ""
    left_out += words("histogram.without_truth", count=without) if without else ""
    return curve_figure(
        "error_histogram",
        words("histogram.title"),
        words("histogram.caption", spread=spread, left_out=left_out),
        words("histogram.alt", count=errors.size, spread=spread),
        lambda ax: draw_histogram(ax, errors, baseline, words),
    )


def draw_histogram(ax: Axes, errors: np.ndarray, baseline: float, words: Words) -> None:
    """Draw how the per-sample relative L2 is spread, with its median and the baseline marked."""
    finite = errors[np.isfinite(errors)]
    if finite.size:
        bins = int(np.clip(1.5 * np.sqrt(finite.size), 1, _MOST_BINS))
        ax.hist(finite, bins=bins, color=TRUTH_COLOUR, edgecolor="white", linewidth=0.6)
        median = float(np.median(finite))
        ax.axvline(
            median,
            color="black",
            lw=1.5,
            label=words("histogram.median", error=words.percent(median)),
        )
    if np.isfinite(baseline):
        label = words("histogram.baseline", error=words.percent(baseline))
        ax.axvline(baseline, color=PREDICTION_COLOUR, lw=1.5, ls="--", label=label)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(words("histogram.error"))
    ax.set_ylabel(words("histogram.samples"))
    if ax.get_legend_handles_labels()[0]:
        draw_legend(ax)


def over_time(errors: OverTime, words: Words) -> Figure:
    """Return the figure of an evaluation's errors of single frames."""
    known = np.flatnonzero(~np.isnan(errors.baseline))  # else no sample has a true value there
    ends = known[[0, -1]] if known.size else (0, -1)
    first, last = (words.percent(float(errors.model[k])) for k in ends)
    left_out = words("over_time.left_out") if known.size < len(errors.times) else ""
    return curve_figure(
        "error_over_time",
        words("over_time.title"),
        words("over_time.caption", first=first, last=last, left_out=left_out),
        words("over_time.alt", frames=len(errors.times), first=first, last=last),
        lambda ax: _draw_over_time(ax, errors, words),
    )


def _draw_over_time(ax: Axes, errors: OverTime, words: Words) -> None:
    """Draw the relative L2 of each predicted frame, of the model and of both baselines."""
    curves = [
        (errors.model, words("over_time.model"), PREDICTION_COLOUR, "-"),
        (errors.persistence, words("over_time.kept"), TRUTH_COLOUR, "--"),
        (errors.baseline, words("over_time.mean"), REFERENCE_COLOUR, ":"),
    ]
    for values, label, colour, dashes in curves:
        ax.plot(errors.times, values, color=colour, ls=dashes, label=label, lw=1.7)
        mark_alone(ax, errors.times, values, colour)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PER_CENT)
    ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_xlabel(labelled(words("over_time.time"), errors.units))
    ax.set_ylabel(words("over_time.error"))
    draw_legend(ax)


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    found = results.evaluation
    figures = (
        *(example_figure(example, results.schema, words) for example in found.examples),
        *filter(None, [error_map(found, results.schema, words)]),
        *filter(None, [animation(found.example("median"), results.schema, words)]),
        *([over_time(found.over_time, words)] if found.over_time else []),
        histogram(found, words),
    )
    body = render("figures", words, figures=figures)
    return Section("figures", words("title"), body, figures)
