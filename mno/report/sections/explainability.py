"""What one prediction listened to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mno.report.examples import pictures, placed
from mno.report.page import Figure, Section, render
from mno.report.panels import Panel, labelled, scale
from mno.report.style import TRUTH_COLOUR

if TYPE_CHECKING:
    from mno.core.fields import Axis, Field
    from mno.data.reading import Schema
    from mno.evaluation.influence import Influence
    from mno.report.language import Words
    from mno.report.page import Results


_DECADES = 3
_MOST_INPUTS = 4


def influence_figure(found: Influence, schema: Schema, words: Words) -> Figure:
    """Return the figure, the place of the prediction marked."""
    fields = [field for field in schema.inputs if field.name in found.maps]
    output = next(field for field in schema.outputs if field.name == found.output)
    top = max(float(found.maps[field.name].max()) for field in fields)
    panels = [
        panel
        for field in fields[:_MOST_INPUTS]
        for panel in _panels(found, field, schema, top, words)
    ]
    said = {
        "inputs": words.list(field.long_name for field in fields[:_MOST_INPUTS]),
        "output": output.long_name,
        "index": found.example.index,
    }
    wide, narrow = pictures(panels, (4, 2))
    return Figure(
        name="influence",
        title=words("figure.title"),
        caption=words("figure.caption", **said),
        alt=words("figure.alt", **said),
        png=wide,
        narrow=narrow,
        full_width=len(panels) > 2,
    )


def _panels(
    found: Influence, field: Field, schema: Schema, top: float, words: Words
) -> list[Panel]:
    """Return an input at its last frame, and the logarithm of its influence."""
    influence = found.maps[field.name]
    given = np.ma.masked_invalid(found.example.inputs[field.name])
    given = given.reshape(-1, *influence.shape)[-1]
    with np.errstate(divide="ignore"):
        size = np.ma.masked_less(np.log10(influence / top if top else influence), -_DECADES)
    axes, mark = _axes(found, field, schema)
    if influence.ndim == 3:  # the plane through the point
        given, size, axes = given[..., found.point[2]], size[..., found.point[2]], axes[:2]
    lines = given.ndim == 1 and len(schema.coordinates) < 2
    panels = [
        Panel(
            words("panel.input"),
            labelled(field.long_name, field.units),
            given,
            axes,
            scale(given),
            TRUTH_COLOUR if lines else "cividis",
            mark=mark,
        ),
        Panel(
            words("panel.influence"),
            words("panel.scale"),
            size,
            axes,
            (-_DECADES, 0.0),
            TRUTH_COLOUR if lines else "magma",
            mark=mark,
        ),
    ]
    if not schema.coordinates:
        return panels
    places = _places(found, schema)
    at = tuple(float(x) for x in places[found.point[0]])
    return [replace(placed(panel, schema, places), mark=at) for panel in panels]


def _axes(
    found: Influence, field: Field, schema: Schema
) -> tuple[tuple[Axis, ...], tuple[float, ...]]:
    """Return the axes of space of a field, and where the prediction is on the first two."""
    by_name = {axis.name: axis for axis in schema.axes}
    axes = tuple(by_name[name] for name in field.dims if name != "time")
    at = tuple(float(axis.points[i]) for axis, i in zip(axes, found.point, strict=True))
    return axes, at[:2]


def _places(found: Influence, schema: Schema) -> np.ndarray:
    names = [field.name for field in schema.coordinates][:2]
    return np.stack([found.example.inputs[name] for name in names], axis=-1)


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nobody asked."""
    found = results.influence
    if found is None:
        return None
    drawn = influence_figure(found, results.schema, words)
    body = render(
        "explainability",
        words,
        figure=drawn,
        finding=_finding(found, words),
        shares=_shares(found, results, words),
    )
    return Section("explainability", words("title"), body, (drawn,))


def _finding(found: Influence, words: Words) -> str:
    """Say how many points make up half of the influence."""
    weights = np.sort(found.total.ravel())[::-1]
    if not weights.any():
        return words("finding.none")
    half = int(np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())) + 1
    return words("finding.half", share=words.percent(half / weights.size))


def _shares(found: Influence, results: Results, words: Words) -> list[tuple[str, str]]:
    """Return the share that each input has in the influence, where there are several."""
    sizes = {name: float(size.sum()) for name, size in found.maps.items()} | found.scalars
    total = sum(sizes.values())
    if len(sizes) < 2 or not total:
        return []
    names = {field.name: field.long_name for field in results.schema.fields}
    return [(names[name], words.percent(size / total)) for name, size in sizes.items()]
