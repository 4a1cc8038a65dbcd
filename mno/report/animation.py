"""How a forecast goes on: truth, prediction and error of one sample, frame by frame, as a GIF.

Everything but the fields is drawn once; of each frame only the fields are drawn anew.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mno.report.examples import drawn, placed, tiled
from mno.report.page import Figure
from mno.report.panels import Panel, labelled, plane, scale
from mno.report.style import DPI, PREDICTION_COLOUR, TRUTH_COLOUR, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.core.fields import Field
    from mno.data.reading import Schema
    from mno.evaluation.result import Example
    from mno.report.language import Words

_MOST_FRAMES = 24
_MOST_BYTES = 1_000_000
_MOST_FIELDS = 2
_DPI = 90
_MILLISECONDS = 200
_CORNER: dict[str, Any] = {"va": "top", "ha": "left", "fontsize": 8.5}


def animation(example: Example, schema: Schema, words: Words) -> Figure | None:
    """Return the figure of a sample's states; none where there are none, or fewer than two frames.

    Its picture is the last frame; the animation runs through all frames, or every so many-th where
    they would be too many or the file too large.
    """
    fields = [field for field in schema.outputs if "time" in field.dims][:_MOST_FIELDS]
    frames = len(example.truth[fields[0].name]) if fields else 0
    if frames < 2:
        return None
    panels = [
        [panel for field in fields for panel in _panels(example, field, schema, k, words)]
        for k in range(frames)
    ]
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    unit = "" if time.units == "1" else f" {time.units}"
    said = [
        words("animation.time", time=words.number(float(t), 3), unit=unit)
        for t in time.points[-frames:]
    ]
    text = {"truth": words("panel.truth"), "not_numbers": words("not_numbers")}
    with house_style():
        still = drawn(panels[-1], 3, **text)
        still.text(0.005, 0.985, said[-1], **_CORNER)
        still.set_dpi(DPI)
        wide, narrow = tiled(still, len(panels[-1]), (3, 1))
        moving = _small_enough(panels, said, text)
        return Figure(
            name="forecast",
            title=words("animation.title"),
            caption=words("animation.caption", index=example.index, frames=frames),
            alt=words("animation.alt", index=example.index, time=said[-1]),
            png=wide,
            narrow=narrow,
            full_width=True,
            animation=moving,
        )


def _panels(example: Example, field: Field, schema: Schema, k: int, words: Words) -> list[Panel]:
    """Return truth, prediction and error of one frame, on scales that hold for all frames."""
    truth, prediction = example.truth[field.name], example.prediction[field.name]
    if field.gaps:
        truth = np.ma.masked_invalid(truth)
    error = prediction - truth
    by_name = {axis.name: axis for axis in schema.axes}
    axes = tuple(by_name[name] for name in field.dims if name != "time")
    lines = len(axes) == 1 and len(schema.coordinates) < 2
    limits = scale(truth, prediction) if lines else scale(truth)
    label = labelled(field.long_name, field.units)
    difference = labelled(words("prediction_minus_truth"), field.units)
    colours = (
        (TRUTH_COLOUR, PREDICTION_COLOUR, "black") if lines else ("viridis", "viridis", "RdBu_r")
    )

    def panel(what: str, name: str, values: np.ndarray, colour: str, span: Any) -> Panel:
        shown, kept, _ = plane(values[k], axes)
        return Panel(words(f"panel.{what}"), name, shown, kept, span, colour)

    found = [
        panel("truth", label, truth, colours[0], limits),
        panel("prediction", label, prediction, colours[1], limits),
        panel("error", difference, error, colours[2], scale(error, symmetric=True)),
    ]
    if lines:
        found[1] = replace(found[1], reference=found[0].values)
    if not schema.coordinates:
        return found
    names = [coordinate.name for coordinate in schema.coordinates][:2]
    places = np.stack([example.inputs[name] for name in names], axis=-1)
    return [placed(each, schema, places) for each in found]


def _small_enough(panels: list[list[Panel]], said: list[str], text: dict[str, str]) -> bytes:
    """Return an animation within the bounds, of every so many-th frame and the last."""
    every = -(-len(panels) // _MOST_FRAMES)
    while True:
        chosen = sorted({*range(0, len(panels), every), len(panels) - 1})
        gif = _gif([panels[k] for k in chosen], [said[k] for k in chosen], text)
        if len(gif) <= _MOST_BYTES or len(chosen) <= 2:
            return gif
        every *= 2


def _gif(frames: list[list[Panel]], said: list[str], text: dict[str, str]) -> bytes:
    canvas = drawn(frames[0], 3, **text)
    canvas.set_dpi(_DPI)
    label = canvas.text(0.005, 0.985, "", animated=True, **_CORNER)
    shown = [ax for ax in canvas.axes if ax.get_title()]
    for ax in shown:
        for artist in _fields(ax):
            artist.set_animated(True)
    agg: Any = canvas.canvas
    agg.draw()
    empty = agg.copy_from_bbox(canvas.bbox)
    pictures = []
    for panels, time in zip(frames, said, strict=True):
        agg.restore_region(empty)
        for ax, panel in zip(shown, panels, strict=True):
            _update(ax, panel)
            for artist in (*_fields(ax), *ax.spines.values()):
                ax.draw_artist(artist)
        label.set_text(time)
        canvas.draw_artist(label)
        pictures.append(Image.fromarray(np.asarray(agg.buffer_rgba())[..., :3].copy()))
    palette = [picture.quantize(128, method=Image.Quantize.FASTOCTREE) for picture in pictures]
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
