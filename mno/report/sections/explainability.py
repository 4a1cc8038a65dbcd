"""What one prediction listened to."""

from collections.abc import Mapping
from itertools import islice
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from mno.core.fields import Field
from mno.core.readings import is_in_space
from mno.data.reading import Schema
from mno.evaluation.influence import Influence
from mno.report.examples import axes_of, is_line
from mno.report.language import Rows, Words
from mno.report.page import Facts, Figure, Results, Section, figure_of, section_of
from mno.report.panels import Panel, labelled, pictures, placed, scale
from mno.report.readings import place_names
from mno.report.style import TRUTH_COLOUR, finish, on_page_and_telephone

_DECADES = 3
_MOST_INPUTS = 4
_MOST_BARS = 12
_LINE = 30  # letters of a bar's name


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nobody asked."""
    if (found := results.influence) is None:
        return None
    schema = results.schema
    if schema.readings:
        return _section_of_readings(found, schema, words)
    shares = Facts(words("shares"), _shares(found, results, words))
    picture = _influence_figure(found, schema, words)
    finding = _finding(found, words)
    return section_of(words, words("method"), finding, picture, shares, words("caution"))


def _section_of_readings(found: Influence, schema: Schema, words: Words) -> Section:
    """Return the section where points stand for readings, which are no places to draw a map of."""
    names, places = {f.name: f.long_name for f in schema.fields}, place_names(schema, words)
    sizes = {names[name]: size for name, size in found.scalars.items()}
    for name, size in found.maps.items():
        axis, first, last = schema.readings[name]
        if is_in_space(axis):
            sizes[names[name]] = float(size[first:last].sum())
            continue
        for place in range(first, last):
            bar = words("readings.bar", name=names[name], place=places[place])
            sizes[bar] = float(size[place])
    given = {name: size for name, size in sizes.items() if size > 0.0}
    total = sum(given.values())
    shares = {n: s / total for n, s in sorted(given.items(), key=lambda one: -one[1])}
    where = {"output": names[found.output], "place": places[found.point[0]]}
    half = int(np.searchsorted(np.cumsum(list(shares.values())), 0.5)) + 1
    said = words("finding.readings", count=half, of=len(sizes)) if shares else None
    return section_of(
        words,
        words("method_readings", **where),
        said or words("finding.none"),
        _bars(found, dict(islice(shares.items(), _MOST_BARS)), len(sizes), where, words),
        words("caution_readings"),
    )


def _bars(
    found: Influence, shares: Mapping[str, float], of: int, where: Mapping[str, Any], words: Words
) -> Figure | None:
    if not shares:
        return None

    def draw(figure: Drawing) -> None:
        ax = figure.add_subplot()
        names = [fill(name, _LINE) for name in shares]
        ax.barh(names, list(shares.values()), color=TRUTH_COLOUR)
        ax.invert_yaxis()
        ax.margins(y=0.02)
        ax.tick_params(axis="y", length=0, labelsize=8.5)
        finish(ax, words("readings.axis"), "", lines="x", per_cent="x")

    largest = (words("nested", outer=n, inner=words.percent(s)) for n, s in shares.items())
    told = {"index": found.example.index, "count": len(shares), "of": of, **where}
    drawn = on_page_and_telephone(draw, 0.8 + 0.36 * len(shares))
    return figure_of("influence", words, "readings", drawn, largest=words.list(largest), **told)


def _influence_figure(found: Influence, schema: Schema, words: Words) -> Figure:
    fields = [field for field in schema.inputs if field.name in found.maps]
    output = next(field for field in schema.outputs if field.name == found.output)
    top = max(float(found.maps[field.name].max()) for field in fields)
    fields = fields[:_MOST_INPUTS]
    panels = [panel for field in fields for panel in _panels(found, field, schema, top, words)]
    drawn = pictures(placed(panels, schema, found.example.inputs), (4, 2))
    told: dict[str, Any] = {"output": output.long_name, "index": found.example.index}
    told["inputs"] = words.list(field.long_name for field in fields)
    return figure_of("influence", words, "figure", drawn, **told)


def _panels(
    found: Influence, field: Field, schema: Schema, top: float, words: Words
) -> list[Panel]:
    """Return an input at its last frame, and the logarithm of its influence."""
    influence, inputs = found.maps[field.name], found.example.inputs
    given = np.ma.masked_invalid(inputs[field.name]).reshape(-1, *influence.shape)[-1]
    with np.errstate(divide="ignore"):
        size = np.ma.masked_less(np.log10(influence / top if top else influence), -_DECADES)
    axes = axes_of(field, schema)
    mark = tuple(float(axis.points[i]) for axis, i in zip(axes, found.point, strict=True))[:2]
    if schema.coordinates:
        mark = tuple(float(inputs[c.name][found.point[0]]) for c in schema.coordinates[:2])
    if influence.ndim == 3:  # the plane through the point
        given, size, axes = given[..., found.point[2]], size[..., found.point[2]], axes[:2]
    line = is_line(given, schema)
    label = labelled(field.long_name, field.units)
    colours = (TRUTH_COLOUR, TRUTH_COLOUR) if line else ("cividis", "magma")
    limits, strength = (-float(_DECADES), 0.0), words("panel.scale")
    return [
        Panel(words("panel.input"), label, given, axes, scale(given), colours[0], mark=mark),
        Panel(words("panel.influence"), strength, size, axes, limits, colours[1], mark=mark),
    ]


def _finding(found: Influence, words: Words) -> str:
    weights = np.sort(found.total.ravel())[::-1]
    if not weights.any():
        return words("finding.none")
    half = int(np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())) + 1
    return words("finding.half", share=words.percent(half / weights.size))


def _shares(found: Influence, results: Results, words: Words) -> Rows:
    """Return the share that each input has in the influence, where there are several."""
    sizes = {name: float(size.sum()) for name, size in found.maps.items()} | found.scalars
    total = sum(sizes.values())
    if len(sizes) < 2 or not total:
        return []
    names = {field.name: field.long_name for field in results.schema.fields}
    return [(names[name], words.percent(size / total)) for name, size in sizes.items()]
