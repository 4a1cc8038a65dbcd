"""Figures of readings: curves over time, what was solved and what was predicted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from mno.core.fields import Field
from mno.data.reading import Schema
from mno.evaluation.result import Example
from mno.report import style
from mno.report.language import Words
from mno.report.panels import labelled

_HOUR = 3600.0
_WIDTH, _HEIGHT = 3.4, 2.5  # of a panel, inches


def draw_readings(
    example: Example, schema: Schema, words: Words, columns: tuple[int, ...] = (3, 1)
) -> list[bytes]:
    """Draw all readings of a sample over time, once for each number of panels in a row.

    What is given is drawn in steps; of what is predicted, the truth as a line and the prediction in
    dashes of the same colour, one colour for each zone, piece or thermocouple.
    """
    given = [field for field in schema.inputs if field.is_forcing]
    fields = [*given, *(field for field in schema.outputs if field.name in schema.readings)]
    pictures = []
    for most in columns:
        rows = -(-len(fields) // most)
        with style.house_style():
            figure = style.new_figure(_WIDTH * most, _HEIGHT * rows)
            grid = figure.subplots(rows, most, squeeze=False).ravel()
            for ax, field in zip(grid, fields, strict=False):
                _draw(ax, field, example, schema, words)
            for ax in grid[len(fields) :]:
                ax.set_axis_off()
            pictures.append(style.png_bytes(figure))
    return pictures


def _draw(ax: Axes, field: Field, example: Example, schema: Schema, words: Words) -> None:
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    hours = time.units == "s" and time.points[-1] >= 2.0 * _HOUR
    times = time.points / (_HOUR if hours else 1.0)
    for number, (name, place) in enumerate(_places(field, schema)):
        colour = style.MANY_COLOURS[number % len(style.MANY_COLOURS)]
        if field.is_forcing:
            values = example.inputs[field.name][:, place]
            ax.step(times[: len(values)], values, where="post", color=colour, label=name)
            continue
        truth, predicted = (
            values[field.name][:, place] for values in (example.truth, example.prediction)
        )
        if np.isnan(truth).all():
            continue
        ax.plot(times[-len(truth) :], truth, color=colour, label=name)
        ax.plot(times[-len(truth) :], predicted, "--", color=colour)
    ax.set_title(field.long_name)
    ax.set_ylabel(field.units)
    ax.set_xlabel(labelled(words("readings_time"), "h" if hours else time.units))
    if any(ax.get_legend_handles_labels()[1]):
        ax.legend(frameon=False)


def _places(field: Field, schema: Schema) -> Iterator[tuple[str, int]]:
    """Yield what each reading of a field is of, and its point."""
    axis, first, last = schema.readings[field.name]
    for place in range(first, last):
        yield (f"{axis} {place - first + 1}" if axis else ""), place
