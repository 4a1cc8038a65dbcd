"""Figures of single samples: input, truth, prediction and error."""

from dataclasses import replace
from typing import Any

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.evaluation.result import Example
from mno.report import style
from mno.report.language import Words
from mno.report.panels import Panel, labelled, pictures, placed, plane, scale

_WIDER = 2.0  # times the truth's, up to which a scale holds the prediction, too


def draw_example(example: Example, schema: Schema, words: Words) -> list[bytes]:
    """Draw one sample, once for a page and once for a telephone.

    Truth and prediction share a scale; the error has one of its own, symmetric about zero. What is
    missing in fields with gaps is left blank, and so is the error where the truth is missing. The
    words are those of the report's section on figures.
    """
    schema = _at_own_times(example, schema)
    panels = [_input_panel(example, field, schema, words) for field in schema.inputs if field.dims]
    for field in schema.outputs:
        panels += _output_panels(example, field, schema, words)
    return pictures(placed(panels, schema, example.inputs), (4, 2), words)


def _at_own_times(example: Example, schema: Schema) -> Schema:
    """Return the schema of one sample, whose frames may be at times of their own."""
    axes = {axis.name: axis for axis in schema.axes}
    for field in schema.times:
        points = np.asarray(example.inputs[field.name], dtype=np.float64)
        axes["time"] = replace(axes["time"], points=points, extent=(points[0], points[-1]))
    return replace(schema, axes=tuple(axes.values()))


def _input_panel(example: Example, field: Field, schema: Schema, words: Words) -> Panel:
    given = _blank(example.inputs[field.name], field)
    frames = slice(len(given)) if "time" in field.dims else slice(None)
    axes = axes_of(field, schema, frames)
    if field.is_forcing and field.dims != ("time", "x"):  # no one frame says what it does
        values, cut = np.ma.mean(given, axis=0, dtype=np.float64), words("mean_over_time")
        axes = tuple(axis for axis in axes if axis.name != "time")
    else:
        values, axes, cut = plane(given, axes)
    colours = style.TRUTH_COLOUR if is_line(values, schema) else "cividis"
    label = labelled(field.long_name, field.units)
    return Panel(titled(words("panel.input"), cut), label, values, axes, scale(values), colours)


def _output_panels(example: Example, field: Field, schema: Schema, words: Words) -> list[Panel]:
    """Return truth, prediction and error, of states at the last frame whose truth is known."""
    truth, prediction = _blank(example.truth[field.name], field), example.prediction[field.name]
    steps = shown = len(truth)
    if "time" in field.dims and field.gaps:
        known = ~np.ma.getmaskarray(truth).reshape(steps, -1).all(axis=1)
        shown = int(np.flatnonzero(known)[-1]) + 1 if known.any() else steps
    axes = axes_of(field, schema, slice(-steps, shown - steps or None))
    both = [plane(values[:shown], axes) for values in (truth, prediction)]
    (truth, kept, cut), (prediction, *_) = both
    lines, limits = is_line(truth, schema), scale(truth, prediction)
    colours = ("viridis", "viridis", "RdBu_r")
    if lines:
        colours = (style.TRUTH_COLOUR, style.PREDICTION_COLOUR, "black")
    else:  # on a map, a prediction far out of range must not wash out the truth
        low, high = scale(truth) if np.ma.count(truth) else limits
        if limits[1] - limits[0] > _WIDER * (high - low):
            limits = low, high

    def panel(values: Any, what: str, name: str, limits: Any, colour: str) -> Panel:
        title, label = titled(words(f"panel.{what}"), cut), labelled(name, field.units)
        return Panel(title, label, values, kept, limits, colour)

    wrong, of_error = words("prediction_minus_truth"), scale(prediction - truth, symmetric=True)
    predicted = panel(prediction, "prediction", field.long_name, limits, colours[1])
    return [
        panel(truth, "truth", field.long_name, limits, colours[0]),
        replace(predicted, reference=truth) if lines else predicted,
        panel(prediction - truth, "error", wrong, of_error, colours[2]),
    ]


def _blank(values: np.ndarray, field: Field) -> np.ndarray:
    """Return values with what is missing masked, where the field may have gaps."""
    return np.ma.masked_where(np.isnan(values), values) if field.gaps else values


def is_line(values: np.ndarray, schema: Schema) -> bool:
    """Whether values are drawn as a line: those along one axis, or on points along one."""
    return values.ndim == 1 and len(schema.coordinates) < 2


def titled(what: str, cut: str) -> str:
    """Return a title that says where a field was cut, if it was."""
    return f"{what} ({cut})" if cut else what


def axes_of(field: Field, schema: Schema, frames: slice | None = None) -> tuple[Axis, ...]:
    """Return a field's axes, of time some frames; of space alone where none are given."""
    by_name = {axis.name: axis for axis in schema.axes}
    axes = (by_name[name] for name in field.dims)
    if frames is None:
        return tuple(axis for axis in axes if axis.name != "time")
    return tuple(
        replace(axis, points=axis.points[frames]) if axis.name == "time" else axis for axis in axes
    )
