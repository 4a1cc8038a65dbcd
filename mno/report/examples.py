"""Figures of single samples: input, truth, prediction and error, a forecast in motion, kernels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.evaluation.result import Example
from mno.report import style
from mno.report.language import Words
from mno.report.page import Figure, figure_of
from mno.report.panels import (
    PANEL_WIDTH,
    Panel,
    draw_panel,
    drawn,
    labelled,
    pictures,
    placed,
    plane,
    scale,
    tiled,
)

if TYPE_CHECKING:  # who inspects data does without torch
    from mno.nn.kernel_view import EffectiveKernel


def draw_example(
    example: Example, schema: Schema, words: Words, columns: tuple[int, ...] = (4, 2)
) -> list[bytes]:
    """Draw one sample, once for each number of panels in a row.

    Truth and prediction share a scale; the error has one of its own, symmetric about zero. What is
    missing in fields with gaps is left blank, and so is the error where the truth is missing. The
    words are those of the report's section on figures.
    """
    panels = [_input_panel(example, field, schema, words) for field in schema.inputs if field.dims]
    for field in schema.outputs:
        panels += _output_panels(example, field, schema, words)
    return pictures(placed(panels, schema, example.inputs), columns, words)


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
    known, predicted = _blank(example.truth[field.name], field), example.prediction[field.name]
    steps, shown = len(known), _length_to_show(known, field)
    axes = axes_of(field, schema, slice(-steps, shown - steps or None))
    truth, kept, cut = plane(known[:shown], axes)
    prediction, _, _ = plane(predicted[:shown], axes)
    error = prediction - truth
    return _compared(
        (truth, prediction, error), (truth, prediction, error), kept, cut, field, schema, words
    )


def _compared(
    shown: Sequence[np.ndarray],
    all_frames: Sequence[np.ndarray],
    axes: tuple[Axis, ...],
    cut: str,
    field: Field,
    schema: Schema,
    words: Words,
) -> list[Panel]:
    """Return panels of truth, prediction and error, on scales that hold for all frames."""
    lines = is_line(shown[0], schema)
    if lines:
        colours = (style.TRUTH_COLOUR, style.PREDICTION_COLOUR, "black")
        limits = scale(*all_frames[:2])
    else:  # on a map, a prediction out of range must not wash out the truth
        colours = ("viridis", "viridis", "RdBu_r")
        limits = scale(all_frames[0] if np.ma.count(all_frames[0]) else all_frames[1])
    label = labelled(field.long_name, field.units)
    labels = (label, label, labelled(words("prediction_minus_truth"), field.units))
    scales = (limits, limits, scale(all_frames[2], symmetric=True))
    titles = (titled(words(f"panel.{what}"), cut) for what in ("truth", "prediction", "error"))
    panels = [
        Panel(title, label, values, axes, limits, colour)
        for title, label, values, limits, colour in zip(
            titles, labels, shown, scales, colours, strict=True
        )
    ]
    if lines:
        panels[1] = replace(panels[1], reference=shown[0])
    return panels


def _blank(values: np.ndarray, field: Field) -> np.ndarray:
    """Return values with what is missing masked, where the field may have gaps."""
    return np.ma.masked_where(np.isnan(values), values) if field.gaps else values


def _length_to_show(values: np.ndarray, field: Field) -> int:
    """Return how much of a field's first axis is shown: time up to the last value that is known."""
    if "time" not in field.dims or not field.gaps:
        return len(values)
    known = ~np.ma.getmaskarray(values).reshape(len(values), -1).all(axis=1)
    return int(np.flatnonzero(known)[-1]) + 1 if known.any() else len(values)


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


_MOST_FRAMES = 24
_MOST_BYTES = 1_000_000
_MOST_FIELDS = 2
_MOVING_DPI = 90
_MILLISECONDS = 200
_CORNER: dict[str, Any] = {"va": "top", "ha": "left", "fontsize": 8.5}


def animation(example: Example, schema: Schema, words: Words) -> Figure | None:
    """Return the figure of a sample's states; none where there are none, or fewer than two frames.

    Its picture is the last frame; the animation runs through all frames, or every so many-th where
    they would be too many or the file too large.
    """
    fields = [field for field in schema.outputs if "time" in field.dims][:_MOST_FIELDS]
    count = len(example.truth[fields[0].name]) if fields else 0
    if count < 2:
        return None
    by_field = [_frames(example, field, schema, words) for field in fields]
    frames = [
        placed([panel for panels in of_fields for panel in panels], schema, example.inputs)
        for of_fields in zip(*by_field, strict=True)
    ]
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    unit = "" if time.units == "1" else f" {time.units}"
    said = [
        words("animation.time", time=words.number(float(t), 3), unit=unit)
        for t in time.points[-count:]
    ]
    with style.house_style():
        still = drawn(frames[-1], 3, words)
        still.text(0.005, 0.985, said[-1], **_CORNER)
        still.set_dpi(style.DPI)
        return figure_of(
            "forecast",
            words,
            "animation",
            tiled(still, len(frames[-1]), (3, 1)),
            full_width=True,
            animation=_small_enough(frames, said, words),
            index=example.index,
            frames=count,
            time=said[-1],
        )


def _frames(example: Example, field: Field, schema: Schema, words: Words) -> list[list[Panel]]:
    """Return truth, prediction and error of each frame."""
    truth, prediction = _blank(example.truth[field.name], field), example.prediction[field.name]
    whole, axes = (truth, prediction, prediction - truth), axes_of(field, schema)
    found = []
    for k in range(len(truth)):
        shown = [plane(values[k], axes) for values in whole]
        kept = shown[0][1]
        found.append(
            _compared([values for values, _, _ in shown], whole, kept, "", field, schema, words)
        )
    return found


def _small_enough(frames: list[list[Panel]], said: list[str], words: Words) -> bytes:
    """Return an animation within the bounds, of every so many-th frame and the last."""
    every = -(-len(frames) // _MOST_FRAMES)
    while True:
        chosen = sorted({*range(0, len(frames), every), len(frames) - 1})
        gif = _gif([frames[k] for k in chosen], [said[k] for k in chosen], words)
        if len(gif) <= _MOST_BYTES or len(chosen) <= 2:
            return gif
        every *= 2


def _gif(frames: list[list[Panel]], said: list[str], words: Words) -> bytes:
    """Draw everything but the fields once, and of each frame only the fields anew."""
    canvas = drawn(frames[0], 3, words)
    canvas.set_dpi(_MOVING_DPI)
    label = canvas.text(0.005, 0.985, "", animated=True, **_CORNER)
    shown = [ax for ax in canvas.axes if ax.get_title()]
    for ax in shown:
        for artist in _fields(ax):
            artist.set_animated(True)
    agg: Any = canvas.canvas
    agg.draw()
    empty = agg.copy_from_bbox(canvas.bbox)
    palette = []
    for panels, time in zip(frames, said, strict=True):
        agg.restore_region(empty)
        for ax, panel in zip(shown, panels, strict=True):
            _update(ax, panel)
            for artist in (*_fields(ax), *ax.spines.values()):
                ax.draw_artist(artist)
        label.set_text(time)
        canvas.draw_artist(label)
        picture = Image.fromarray(np.asarray(agg.buffer_rgba())[..., :3].copy())
        palette.append(picture.quantize(128, method=Image.Quantize.FASTOCTREE))
    buffer = io.BytesIO()
    palette[0].save(
        buffer, format="GIF", save_all=True, append_images=palette[1:], loop=0,
        duration=[_MILLISECONDS] * (len(palette) - 1) + [5 * _MILLISECONDS],
    )  # fmt: skip
    return buffer.getvalue()


def _fields(ax: Axes) -> list[Any]:
    """Return what shows a field in a panel: an image, discs or lines."""
    return [*ax.images, *ax.collections, *ax.lines]


def _update(ax: Axes, panel: Panel) -> None:
    values = np.ma.filled(panel.values, np.nan)
    if ax.images:
        ax.images[0].set_data(values.T)
    elif ax.collections:
        ax.collections[0].set_array(values)
    else:
        lines = list(ax.lines)
        if panel.reference is not None:
            lines.pop(0).set_ydata(np.ma.filled(panel.reference, np.nan))
        lines[0].set_ydata(values)


_ROW_HEIGHT = 2.35  # inches
_DECADES = 4


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
    line = len(shape) == 1

    panels = []
    if shown is not None:
        field, values = shown
        label = labelled(field.long_name, field.units)
        colours = style.TRUTH_COLOUR if line else "cividis"
        panels.append(Panel("Input and target", label, values, tuple(axes), scale(values), colours))
    highest = max(float(size.max()) for size in sizes)
    top = float(np.log10(highest)) if highest > 0 else 0.0
    for name, size in zip(["All directions", *names], sizes, strict=True):
        with np.errstate(divide="ignore"):
            blank = np.ma.masked_less(np.log10(size), top - _DECADES)
        colours, limits = style.TRUTH_COLOUR if line else "viridis", (top - _DECADES, top)
        panels.append(Panel(name, "log10 of mean |kernel|", blank, tuple(axes), limits, colours))

    def draw(ax: Axes, panel: Panel) -> None:
        draw_panel(ax, panel)
        if line:
            ax.axvline(at[0], color=style.PREDICTION_COLOUR, lw=1)
        else:
            ax.plot(*at, "o", mfc="none", mec=style.PREDICTION_COLOUR, ms=9, mew=1.5)

    columns = min(columns, len(panels))
    each = [partial(draw, panel=panel) for panel in panels]
    return style.in_rows(each, columns, PANEL_WIDTH * columns, _ROW_HEIGHT)
