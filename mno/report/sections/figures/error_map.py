"""Figure of where errors sit, over the whole test split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.report.examples import pictures
from mno.report.figures import Figure
from mno.report.panels import Panel, labelled, plane, scale
from mno.report.style import PREDICTION_COLOUR

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.evaluation.result import Evaluation
    from mno.report.language import Words


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
