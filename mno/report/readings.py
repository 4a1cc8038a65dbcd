"""Figures of readings: curves over time, what was solved and what was predicted, and the plant."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from mno.core.bodies import Body
from mno.core.fields import PLAIN, Field
from mno.core.observing import READ
from mno.core.readings import from_points, is_in_space
from mno.data.reading import Schema
from mno.evaluation.result import Example
from mno.report import style
from mno.report.language import Words
from mno.report.page import Figure, figure_of
from mno.report.panels import in_hours, labelled
from mno.report.scene import draw_scene

Colours = Mapping[Field, str]
Bounds = Mapping[str, np.ndarray]  # on the largest error of each field, one for each frame

_WIDTH, _HEIGHT = 3.3, 2.1  # of a panel, inches
_LEGEND = 0.25  # height of one of its rows
_GREATEST = 1e5  # written in full
_READ_LOOK: dict[str, Any] = {"ls": "", "marker": ".", "ms": 4.0}


@dataclass(frozen=True)
class _Panel:
    """Readings of one place in one unit; what is a difference on its scale is no plain number."""

    title: str
    named: bool  # whether the place has a name, and is in every sample
    place: int
    fields: tuple[Field, ...]


def example_figures(
    example: Example, schema: Schema, bounds: Bounds, rank: str, words: Words
) -> Iterator[Figure]:
    """Yield the readings of a sample, once for places with names and once for those with numbers.

    There is a panel for each place and unit. What is given is drawn in steps, what sensors read in
    dots; of what is predicted, the truth is a line and the prediction dashes of the same colour,
    one for each field, in a band as wide as the bound on its error. Readings without time have a
    panel for each field, by their number, the prediction as crosses.
    """
    if all(axis.name != "time" for axis in schema.axes):
        name, error = "_".join(["example", *example.ranks]), words.percent(example.relative_l2)
        drawn = [_drawn_once(most, example, schema, words) for most in (3, 1)]
        yield figure_of(
            name, words, "readings.once", drawn, True, index=example.index, error=error, rank=rank
        )
        return
    for named, kind in ((True, "named"), (False, "numbered")):
        if panels := [panel for panel in _panels(example, schema, words) if panel.named == named]:
            name = "_".join(["example", *example.ranks, *([] if named else [kind])])
            drawn = [_drawn(panels, most, example, schema, bounds, words) for most in (3, 1)]
            told: dict[str, Any] = {"index": example.index, "rank": rank}
            told["error"] = words.percent(example.relative_l2)
            told["places"] = words.list(panel.title for panel in panels)
            yield figure_of(name, words, f"readings.{kind}", drawn, full_width=True, **told)


def _drawn_once(most: int, example: Example, schema: Schema, words: Words) -> bytes:
    """Draw readings without time, by their numbers."""
    numbered = _numbered(schema)
    fields = [field for field in schema.outputs if field.name in numbered]
    with style.house_style():
        most = min(most, len(fields))
        rows = -(-len(fields) // most)
        figure = style.new_figure(_WIDTH * most, _HEIGHT * rows + _LEGEND)
        grid = figure.subplots(rows, most, squeeze=False).ravel()
        for ax, field in zip(grid, fields, strict=False):
            _, first, last = numbered[field.name]
            numbers = np.arange(1, last - first + 1)
            truth, predicted = (v[field.name] for v in (example.truth, example.prediction))
            ax.plot(numbers, truth[first:last], "o", mfc="none", label=words("panel.truth"))
            ax.plot(numbers, predicted[first:last], "x", label=words("panel.prediction"))
            ax.set_xlim(0.5, len(numbers) + 0.5)
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            ax.set_title(labelled(field.long_name, field.units))
            style.grid(ax)
        for ax in grid[len(fields) :]:
            ax.set_axis_off()
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2,
                      frameon=False)  # fmt: skip
        return style.png_bytes(figure)


def _panels(example: Example, schema: Schema, words: Words) -> Iterator[_Panel]:
    titles, named = place_names(schema, words), _named(schema)
    given = [field for field in schema.inputs if field.is_forcing]
    numbered = _numbered(schema)
    shown = [*given, *(field for field in schema.outputs if field.name in numbered)]
    found: dict[tuple[str, bool], dict[int, list[Field]]] = {}
    for field in shown:
        _, first, last = schema.readings[field.name]
        known = example.inputs if field.is_forcing else example.truth
        for place in range(first, last):
            if np.isnan(known[field.name][:, place]).all():
                continue
            alike = found.setdefault((field.units, field.scale == PLAIN), {})
            alike.setdefault(place, []).append(field)
    for alike in found.values():
        for place, fields in sorted(alike.items()):
            yield _Panel(titles[place], place in named, place, tuple(fields))


def place_names(schema: Schema, words: Words) -> dict[int, str]:
    """Return what the points of readings are called: by their labels, or their numbers."""
    labels, names = _labels(schema), _cell_names(schema)
    for axis, first, last in _numbered(schema).values():
        for place in range(first, last):
            said = labels[place].replace("_", " ") or str(place - first + 1)
            name = words("place", axis=words.name(axis), label=said)
            names[place] = name if axis else words("whole_plant")
    return names


def _numbered(schema: Schema) -> dict[str, tuple[str, int, int]]:
    return {name: at for name, at in schema.readings.items() if not is_in_space(at[0])}


def _cell_names(schema: Schema) -> dict[int, str]:
    """Return what the points of cells are called, where there are some: by where they are."""
    first = max((last for _, _, last in _numbered(schema).values()), default=0)
    names = {}
    for number, index in enumerate(np.ndindex(*schema.cells) if schema.grid else ()):
        at = zip(schema.grid, index, strict=True)
        said = (f"{axis.name} = {axis.points[i]:.3g} {axis.units}" for axis, i in at)
        names[first + number] = ", ".join(said)
    return names


def in_space(example: Example, schema: Schema) -> tuple[Example, Schema] | None:
    """Return a sample and its schema as of a model of fields in space; none of readings alone."""
    if schema.part != "both":
        return None if schema.readings else (example, schema)
    found = {
        name: axis.split() for name, (axis, *_) in schema.readings.items() if is_in_space(axis)
    }
    fields = tuple(
        replace(f, dims=(*(dim for dim in f.dims if dim == "time"), *found[f.name]), gaps=False)
        for f in schema.fields
        if f.name in found
    )
    axes = tuple(axis for axis in schema.axes if axis.name == "time") + schema.grid

    def arrays(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept = {name: values[name] for name in found if name in values}
        return from_points(schema.readings, kept, schema.cells)

    seen = replace(
        example, inputs=arrays(example.inputs), truth=arrays(example.truth),
        prediction=arrays(example.prediction),
    )  # fmt: skip
    return seen, replace(schema, fields=fields, axes=axes, readings={}, grid=())


def _labels(schema: Schema) -> tuple[str, ...]:
    (point,) = (axis for axis in schema.axes if axis.name == "point")
    return point.labels or ("",) * len(point.points)


def _named(schema: Schema) -> set[int]:
    """Return the points that have labels, and that of the whole; all where none has."""
    labels = _labels(schema)
    return {
        place
        for axis, first, last in _numbered(schema).values()
        for place in range(first, last)
        if not axis or labels[place] or not any(labels)
    }


def _drawn(
    panels: list[_Panel], most: int, example: Example, schema: Schema, bounds: Bounds, words: Words
) -> bytes:
    fields = list(dict.fromkeys(field for panel in panels for field in panel.fields))
    states = [field for field in fields if not field.is_forcing]
    colours = dict(zip(states, style.MANY_COLOURS * len(states), strict=False))
    handles = [_key(field, colours) for field in fields]
    ways: list[Artist] = [Line2D([], [], color="black", label=words("panel.truth")),
            Line2D([], [], color="black", ls="--", label=words("panel.prediction"))]  # fmt: skip
    if any(field.name in bounds for field in states):
        ways.append(Patch(color="black", alpha=0.15, lw=0, label=words("readings.bound")))
    most = min(most, len(panels))
    rows = -(-len(panels) // most)
    lines = -(-len(handles + ways) // most)
    with style.house_style():
        figure = style.new_figure(_WIDTH * most, _HEIGHT * rows + _LEGEND * lines)
        grid = figure.subplots(rows, most, squeeze=False, sharex=True).ravel()
        for ax, panel in zip(grid, panels, strict=False):
            _draw(ax, panel, colours, example, schema, bounds)
        for ax in grid[len(panels) :]:
            ax.set_axis_off()
        for ax in grid[max(len(panels) - most, 0) : len(panels)]:  # the lowest of each column
            ax.set_xlabel(labelled(words("readings_time"), _times(schema)[1]))
            ax.tick_params(labelbottom=True)
        figure.legend(
            handles=[*handles, *ways], loc="outside upper left", ncols=most, frameon=False
        )
        return style.png_bytes(figure)


def _key(field: Field, colours: Colours) -> Line2D:
    if field.is_forcing:
        look: dict[str, Any] = _READ_LOOK if field.name.endswith(READ) else {"lw": 1.0}
        return Line2D([], [], color=style.REFERENCE_COLOUR, label=field.long_name, **look)
    return Line2D([], [], color=colours[field], lw=3.0, label=field.long_name)


def _draw(
    ax: Axes, panel: _Panel, colours: Colours, example: Example, schema: Schema, bounds: Bounds
) -> None:
    times, _ = _times(schema)
    for field in panel.fields:
        if field.is_forcing:
            given = example.inputs[field.name][:, panel.place]
            if field.name.endswith(READ):
                ax.plot(times, given, color=style.REFERENCE_COLOUR, **_READ_LOOK)
                continue
            ax.step(times[: len(given)], given, where="post", color=style.REFERENCE_COLOUR, lw=1.0)
            continue
        truth, predicted = (
            values[field.name][:, panel.place].astype(np.float64)
            for values in (example.truth, example.prediction)
        )
        then, colour = times[-len(truth) :], colours[field]
        ax.plot(then, truth, color=colour, lw=1.3)
        ax.plot(then, predicted, "--", color=colour, lw=1.3)
        if field.name in bounds and np.isfinite(bounds[field.name]).all():
            low, high = predicted - bounds[field.name], predicted + bounds[field.name]
            ax.fill_between(then, low, high, color=colour, alpha=0.15, lw=0)
    ax.set_xlim(times[0], times[-1])
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 4, 6, 10]))
    ax.set_title(panel.title)
    ax.set_ylabel(panel.fields[0].units)
    style.grid(ax)
    if max(map(abs, ax.get_ylim())) > _GREATEST:
        ax.set_ylabel("")
        ax.yaxis.set_major_formatter(EngFormatter(panel.fields[0].units))


def _times(schema: Schema) -> tuple[np.ndarray, str]:
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    return in_hours(time.points, time.units)


def plant_figure(
    example: Example, schema: Schema, bodies: Sequence[Body], words: Words
) -> Figure | None:
    """Return the picture of what there is in space, when its readings lie farthest apart."""
    coloured = {b: b.reading[0] for b in bodies if b.reading and b.kind != "zone"}
    if not coloured:
        return None
    solved, predicted = (
        {body: _of(body, values, schema) for body in coloured}
        for values in (example.truth, example.prediction)
    )
    together = np.stack(list(solved.values()))
    frame = int(np.argmax(np.nanmax(together, axis=0) - np.nanmin(together, axis=0)))
    units = next(f.units for f in schema.outputs if f.name in coloured.values())
    values = {body: float(curve[frame]) for body, curve in solved.items()}
    notes = {
        body: f"{body.name}\n{values[body]:.0f} {units}"
        for body in coloured
        if body.kind == "piece"
    }
    times, unit = _times(schema)
    when = f"{words.number(float(times[-together.shape[1] :][frame]), 3)} {unit}"
    told = words.list(
        words(
            "plant.piece", number=body.name, solved=f"{values[body]:.0f}",
            predicted=f"{predicted[body][frame]:.0f}", unit=units,
        )
        for body in notes
    )  # fmt: skip
    pictures = draw_scene(bodies, values, labelled(words("plant.scale"), units), notes)
    return figure_of("plant", words, "plant", pictures, index=example.index, time=when, pieces=told)


def _of(body: Body, values: Mapping[str, np.ndarray], schema: Schema) -> np.ndarray:
    name, number = body.reading or ("", 0)
    return values[name][:, schema.readings[name][1] + number].astype(np.float64)
