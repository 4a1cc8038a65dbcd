"""Figures of panels: single samples, and kernels, as fields side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mno.core.fields import Axis, Field
from mno.evaluation.result import Example
from mno.report.panels import Panel, draw_panel, labelled, plane, scale
from mno.report.style import (
    DPI,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    encoded,
    house_style,
    new_figure,
    pixels_of,
    png_bytes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.data.reading import Schema
    from mno.nn.kernel_view import EffectiveKernel
    from mno.report.language import Words


# Inches: a panel with what stands around its axes.
_PANEL_WIDTH = 2.9
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.6, 0.8, 0.35, 0.5


def draw_example(
    example: Example, schema: Schema, words: Words, columns: tuple[int, ...] = (4, 2)
) -> list[bytes]:
    """Draw one sample, once for each number of panels in a row.

    Truth and prediction share a scale; the error has one of its own, symmetric about zero. What is
    missing in fields with gaps is left blank, and so is the error where the truth is missing.

    Args:
        example: The sample.
        schema: Axes and units of its fields.
        words: Those of the report's section on figures.
        columns: Panels in a row, of each picture.
    """
    panels = [_input_panel(example, field, schema, words) for field in schema.inputs if field.dims]
    for field in schema.outputs:
        panels += _output_panels(example, field, schema, words)
    if schema.coordinates:
        names = [field.name for field in schema.coordinates][:2]
        places = np.stack([example.inputs[name] for name in names], axis=-1)
        panels = [placed(panel, schema, places) for panel in panels]
    truth, missing = words("panel.truth"), words("not_numbers")
    return pictures(panels, columns, truth=truth, not_numbers=missing)


def pictures(panels: Sequence[Panel], columns: tuple[int, ...], **said: str) -> list[bytes]:
    """Return panels as PNG, once for each number of panels in a row; each panel is drawn once."""
    with house_style():
        figure = drawn(panels, max(columns), **said)
        figure.set_dpi(DPI)
    return tiled(figure, len(panels), columns)


def tiled(figure: Figure, count: int, columns: tuple[int, ...]) -> list[bytes]:
    """Return what `drawn` returned as PNG, its panels laid out anew for each number in a row.

    Args:
        figure: As many panels in a row as the largest of `columns`, or all of them.
        count: How many panels there are.
        columns: Panels in a row, of each picture.
    """
    across = min(max(columns), count)
    with house_style():
        pixels = pixels_of(figure)
    height, width = pixels.shape[0] // -(-count // across), pixels.shape[1] // across
    cells = [
        pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row, column in (divmod(k, across) for k in range(count))
    ]
    found = []
    for most in columns:
        each = min(most, count)
        blank = [np.full_like(cells[0], 255)] * (-count % each)
        rows = [[*cells, *blank][k : k + each] for k in range(0, count, each)]
        found.append(encoded(np.concatenate([np.concatenate(row, axis=1) for row in rows])))
    return found


def drawn(panels: Sequence[Panel], columns: int, **said: str) -> Figure:
    """Return a figure of panels of one size, so many in a row, each where it is reckoned to be."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    inner = _PANEL_WIDTH - _LEFT - _RIGHT
    height = max(_height(panel, inner) for panel in panels)
    width, cell = _PANEL_WIDTH * columns, _ABOVE + height + _BELOW
    figure = new_figure(width, cell * rows, arranged=False)
    for position, panel in enumerate(panels):
        row, column = divmod(position, columns)
        left, bottom = _LEFT + column * _PANEL_WIDTH, _BELOW + (rows - 1 - row) * cell
        place = (left / width, bottom / (cell * rows), inner / width, height / (cell * rows))
        draw_panel(figure.add_axes(place), panel, **said)
    return figure


def _height(panel: Panel, width: float) -> float:
    """Return how high a panel of some width is, in inches: as its map is, within bounds."""
    if len(panel.axes) != 2 or panel.axes[1].name == "time":
        return width
    across, up = (axis.extent[1] - axis.extent[0] for axis in panel.axes)
    return width * min(max(up / across, 0.3), 1.0)


def placed(panel: Panel, schema: Schema, places: np.ndarray) -> Panel:
    """Return a panel with its unordered points where they are; along one axis, in its order.

    Args:
        panel: With one value per point.
        schema: Names and units of the coordinates.
        places: The first one or two of them, shape `(points, axes)`.
    """
    axes = _box(schema, places)
    if len(axes) == 2:
        return replace(panel, axes=axes, places=places)
    order = np.argsort(places[:, 0])
    line = replace(axes[0], points=places[order, 0])
    reference = None if panel.reference is None else panel.reference[order]
    return replace(panel, axes=(line,), values=panel.values[order], reference=reference)


def _box(schema: Schema, places: np.ndarray) -> tuple[Axis, ...]:
    """Return the axes of a box around points, a little wider than they are."""
    low, high = places.min(axis=0), places.max(axis=0)
    margin = 0.05 * (high - low)
    return tuple(
        Axis(f.name, f.units, f.long_name, points, (float(a), float(b)))
        for f, points, a, b in zip(
            schema.coordinates, places.T, low - margin, high + margin, strict=False
        )
    )


def _input_panel(example: Example, field: Field, schema: Schema, words: Words) -> Panel:
    given = _blank(example.inputs[field.name], field)
    frames = slice(len(given)) if "time" in field.dims else slice(None)
    axes = _axes(field, schema, frames)
    if field.is_forcing and field.dims != ("time", "x"):  # no one frame says what it does
        values, cut = np.ma.mean(given, axis=0, dtype=np.float64), words("mean_over_time")
        axes = tuple(axis for axis in axes if axis.name != "time")
    else:
        values, axes, cut = plane(given, axes)
    colours = TRUTH_COLOUR if _is_line(values, schema) else "cividis"
    label = labelled(field.long_name, field.units)
    return Panel(_title(words("panel.input"), cut), label, values, axes, scale(values), colours)


def _output_panels(example: Example, field: Field, schema: Schema, words: Words) -> list[Panel]:
    known, predicted = _blank(example.truth[field.name], field), example.prediction[field.name]
    steps, shown = len(known), _length_to_show(known, field)
    later = slice(-steps, shown - steps or None)
    truth, axes, cut = plane(known[:shown], _axes(field, schema, later))
    prediction, _, _ = plane(predicted[:shown], _axes(field, schema, later))
    error = prediction - truth
    if _is_line(truth, schema):
        colours = (TRUTH_COLOUR, PREDICTION_COLOUR, "black")
        limits, reference = scale(truth, prediction), truth
    else:  # on a map, a prediction out of range must not wash out the truth
        colours = ("viridis", "viridis", "RdBu_r")
        limits, reference = scale(truth if np.ma.count(truth) else prediction), None
    label = labelled(field.long_name, field.units)
    difference = labelled(words("prediction_minus_truth"), field.units)
    return [
        Panel(_title(words("panel.truth"), cut), label, truth, axes, limits, colours[0]),
        Panel(
            _title(words("panel.prediction"), cut),
            label,
            prediction,
            axes,
            limits,
            colours[1],
            reference,
        ),
        Panel(
            _title(words("panel.error"), cut),
            difference,
            error,
            axes,
            _symmetric(error),
            colours[2],
        ),
    ]


def _blank(values: np.ndarray, field: Field) -> np.ndarray:
    """Return values with what is missing masked, where the field may have gaps."""
    return np.ma.masked_where(np.isnan(values), values) if field.gaps else values


def _length_to_show(values: np.ndarray, field: Field) -> int:
    """Return how much of a field's first axis is shown: time up to the last value that is known."""
    if "time" not in field.dims or not field.gaps:
        return len(values)
    known = ~np.ma.getmaskarray(values).reshape(len(values), -1).all(axis=1)
    return int(np.flatnonzero(known)[-1]) + 1 if known.any() else len(values)


def _is_line(values: np.ndarray, schema: Schema) -> bool:
    return values.ndim == 1 and len(schema.coordinates) < 2


def _symmetric(error: np.ndarray) -> tuple[float, float]:
    return scale(error, symmetric=True)


def _title(what: str, cut: str) -> str:
    return f"{what} ({cut})" if cut else what


def _axes(field: Field, schema: Schema, frames: slice) -> tuple[Axis, ...]:
    """Return the axes of a field, where it has frames only some of them."""
    by_name = {axis.name: axis for axis in schema.axes}
    axes = tuple(by_name[name] for name in field.dims)
    return tuple(
        replace(axis, points=axis.points[frames]) if axis.name == "time" else axis for axis in axes
    )


_PANEL_HEIGHT = 2.35
_DECADES = 4
_LABEL = "log10 of mean |kernel|"


def draw_kernel(
    kernel: EffectiveKernel,
    axes: Sequence[Axis],
    *,
    sample: int = 0,
    target: int = 0,
    directions: Sequence[str] = (),
    shown: tuple[Field, np.ndarray] | None = None,
    columns: int = 3,
) -> bytes:
    """Draw the size of a kernel over the domain, summed and for each direction, the target marked.

    The size is the mean over channels of the kernel's absolute value, on a logarithmic scale that
    all panels share; inputs of no effect, and those below the scale, are left blank.

    Args:
        kernel: What `mno.nn.effective_kernel` returned for points of a grid.
        axes: The grid's axes, one or two.
        sample: Which sample of the batch.
        target: Which of the kernel's targets.
        directions: What to call the directions; they are numbered if not given.
        shown: A field of the same sample, drawn first.
        columns: Panels in a row.

    Returns:
        The figure as PNG.

    Raises:
        ValueError: There are neither one nor two axes, or their points are not those of the kernel.
    """
    shape = tuple(len(axis.points) for axis in axes)
    points = kernel.directions.shape[3]
    if len(shape) not in (1, 2) or int(np.prod(shape)) != points:
        raise ValueError(
            f"axes of {shape} points for a kernel on {points} points; expected one or two axes "
            "with as many points in all; cut a kernel in more dimensions to a plane first"
        )
    each = kernel.directions[sample, :, target]
    sizes = [x.abs().mean(-1).reshape(shape).numpy(force=True) for x in (each.sum(0), *each)]
    names = directions or [f"Direction {k + 1}" for k in range(len(each))]
    place = np.unravel_index(int(kernel.targets[target]), shape)
    at = [float(axis.points[i]) for axis, i in zip(axes, place, strict=True)]

    panels = [] if shown is None else [_field(*shown, axes)]
    panels += _sizes(["All directions", *names], sizes, axes)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(_PANEL_WIDTH * columns, _PANEL_HEIGHT * rows)
        for position, panel in enumerate(panels, start=1):
            ax = figure.add_subplot(rows, columns, position)
            draw_panel(ax, panel)
            _mark(ax, at)
        return png_bytes(figure)


def _field(field: Field, values: np.ndarray, axes: Sequence[Axis]) -> Panel:
    colours = TRUTH_COLOUR if values.ndim == 1 else "cividis"
    label = labelled(field.long_name, field.units)
    return Panel("Input and target", label, values, tuple(axes), scale(values), colours)


def _sizes(names: Sequence[str], sizes: list[np.ndarray], axes: Sequence[Axis]) -> list[Panel]:
    highest = max(float(size.max()) for size in sizes)
    top = np.log10(highest) if highest > 0 else 0.0
    limits = (float(top) - _DECADES, float(top))
    panels = []
    for name, size in zip(names, sizes, strict=True):
        with np.errstate(divide="ignore"):
            logarithm = np.log10(size)
        blank = np.ma.masked_less(logarithm, limits[0])
        colours = TRUTH_COLOUR if size.ndim == 1 else "viridis"
        panels.append(Panel(name, _LABEL, blank, tuple(axes), limits, colours))
    return panels


def _mark(ax: Axes, at: Sequence[float]) -> None:
    if len(at) == 1:
        ax.axvline(at[0], color=PREDICTION_COLOUR, lw=1)
    else:
        ax.plot(*at, "o", mfc="none", mec=PREDICTION_COLOUR, ms=9, mew=1.5)
