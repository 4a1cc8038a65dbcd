"""Fields of one sample side by side: each a line in one dimension, a map in two or more."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from mno.core.fields import Axis
from mno.data.reading import Schema
from mno.report import style
from mno.report.language import Words

PANEL_WIDTH = 2.9  # inches: a panel with what stands around its axes
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.6, 0.8, 0.35, 0.5
_MAP_INCHES = 1.6
_LARGEST_DISC = 9.0  # 1/72 inch
_FRAMES_OF_A_PLANE = 3
_HOUR = 3600.0
_NOT_NUMBERS = "contains values that\nare not numbers"


@dataclass(frozen=True, eq=False)
class Panel:
    """One field as it is drawn."""

    title: str
    label: str  # quantity with unit, at the scale
    values: np.ndarray  # of shape (points,) or (x, y); what is masked is left blank
    axes: tuple[Axis, ...]
    limits: tuple[float, float]  # of the scale
    colours: str  # colour map of a map, or colour of a line
    reference: np.ndarray | None = None  # drawn thinly behind a line, to compare with
    places: np.ndarray | None = None  # of unordered points, shape (points, 2)
    mark: tuple[float, ...] | None = None  # a place to mark, one number per axis of space


def pictures(
    panels: Sequence[Panel], columns: tuple[int, ...], words: Words | None = None
) -> list[bytes]:
    """Return panels as PNG, once for each number of panels in a row; each panel is drawn once."""
    count, across = len(panels), min(max(columns), len(panels))
    with style.house_style():
        figure = drawn(panels, max(columns), words)
        figure.set_dpi(style.DPI)
        pixels = style.pixels_of(figure)
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
        found.append(style.encoded(np.concatenate([np.concatenate(row, axis=1) for row in rows])))
    return found


def drawn(panels: Sequence[Panel], columns: int, words: Words | None = None) -> Figure:
    """Return a figure of panels of one size, so many in a row, each where it is reckoned to be."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    inner = PANEL_WIDTH - _LEFT - _RIGHT
    height = max(_height(panel, inner) for panel in panels)
    width, cell = PANEL_WIDTH * columns, _ABOVE + height + _BELOW
    figure = style.new_figure(width, cell * rows, arranged=False)
    for position, panel in enumerate(panels):
        row, column = divmod(position, columns)
        left, bottom = _LEFT + column * PANEL_WIDTH, _BELOW + (rows - 1 - row) * cell
        place = (left / width, bottom / (cell * rows), inner / width, height / (cell * rows))
        draw_panel(figure.add_axes(place), panel, words)
    return figure


def _height(panel: Panel, width: float) -> float:
    """Return how high a panel of some width is, in inches: as its map is, within bounds."""
    if len(panel.axes) != 2 or panel.axes[1].name == "time":
        return width
    across, up = (axis.extent[1] - axis.extent[0] for axis in panel.axes)
    return width * min(max(up / across, 0.3), 1.0)


def placed(panels: Iterable[Panel], schema: Schema, given: Mapping[str, np.ndarray]) -> list[Panel]:
    """Return panels with their unordered points where they are; along one axis, in its order.

    The sample's coordinates have the shape `(points,)`; the first two of the schema are shown.
    Where it has none, panels stay as they are.
    """
    if not (coordinates := schema.coordinates[:2]):
        return list(panels)
    places = np.stack([given[field.name] for field in coordinates], axis=-1)
    low, high = places.min(axis=0), places.max(axis=0)
    extent = high - low
    margin = 0.05 * np.where(extent > 0, extent, extent.max() or 1.0)  # so that points lie inside
    axes = tuple(
        Axis(f.name, f.units, f.long_name, points, (float(a), float(b)))
        for f, points, a, b in zip(coordinates, places.T, low - margin, high + margin, strict=True)
    )
    if len(axes) == 2:
        return [replace(panel, axes=axes, places=places) for panel in panels]
    order = np.argsort(places[:, 0])
    line = (replace(axes[0], points=places[order, 0]),)
    return [
        replace(
            panel, axes=line, values=panel.values[order],
            reference=None if panel.reference is None else panel.reference[order],
        )
        for panel in panels
    ]  # fmt: skip


def plane(values: np.ndarray, axes: Sequence[Axis]) -> tuple[np.ndarray, tuple[Axis, ...], str]:
    """Cut a field down to a line or a plane; return it, its axes, and in words where it was cut.

    In one space dimension, three frames or more make a plane of space and time. Otherwise time is
    cut at its last frame. A third space axis is cut in its middle.
    """
    kept, notes = list(axes), []
    if [axis.name for axis in axes] == ["time", "x"] and len(axes[0].points) >= _FRAMES_OF_A_PLANE:
        return values.T, (axes[1], axes[0]), ""
    cuts = {axis.name: len(axis.points) - 1 for axis in axes if axis.name == "time"}
    space = [axis for axis in axes if axis.name != "time"]
    cuts |= {axis.name: len(axis.points) // 2 for axis in space[2:]}
    for axis in axes:
        if axis.name in cuts:
            at = cuts[axis.name]
            values = np.take(values, at, axis=kept.index(axis))
            kept.remove(axis)
            points, units = in_hours(axis.points, axis.units)
            notes.append(f"{axis.name} = {points[at]:.3g} {_unit(units)}".rstrip())
    return values, tuple(kept), ", ".join(notes)


def in_hours(times: np.ndarray, units: str) -> tuple[np.ndarray, str]:
    """Return times and their unit, hours in place of thousands of seconds."""
    if units == "s" and times[-1] >= 2.0 * _HOUR:
        return times / _HOUR, "h"
    return times, units


def labelled(name: str, units: str) -> str:
    """Return a quantity's name with its unit in brackets; none where it is nondimensional."""
    return f"{name} [{units}]" if _unit(units) else name


def scale(*arrays: np.ndarray, symmetric: bool = False) -> tuple[float, float]:
    """Return one scale for all finite values of the arrays; never of zero width."""
    plain = [np.ma.compressed(array) for array in arrays]
    values = np.concatenate([array[np.isfinite(array)] for array in plain])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if symmetric:
        high = max(abs(low), abs(high))
        low = -high
    if low == high:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    return low, high


def draw_panel(ax: Axes, panel: Panel, words: Words | None = None) -> None:
    """Draw a panel into axes, with the words of the report's section on figures, or English."""
    ax.set_title(panel.title)
    if panel.places is not None:
        _draw_points(ax, panel, panel.places)
    elif panel.values.ndim == 1:
        _draw_line(ax, panel, words("panel.truth") if words else "truth")
    else:
        _draw_map(ax, panel)
    if panel.mark is not None and len(panel.mark) == 1:
        ax.axvline(panel.mark[0], color=style.PREDICTION_COLOUR, lw=1)
    elif panel.mark is not None:
        ax.plot(*panel.mark, "o", mfc="none", mec=style.PREDICTION_COLOUR, ms=9, mew=1.8)
    if not np.isfinite(np.ma.compressed(panel.values)).all():
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        place = {"transform": ax.transAxes, "ha": "center", "va": "center"}
        said = words("not_numbers") if words else _NOT_NUMBERS
        ax.text(0.5, 0.5, said, color="#b00020", bbox=box, **place)


def mark_alone(ax: Axes, x: np.ndarray, values: np.ndarray, colour: str) -> None:
    """Mark the values of a line that have no neighbour, so that no line leads to them."""
    known = np.pad(~np.isnan(values), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any():
        ax.plot(x[alone], values[alone], ".", color=colour, ms=6)


def _draw_line(ax: Axes, panel: Panel, truth: str) -> None:
    (axis,) = panel.axes
    if panel.reference is not None:
        reference = _filled(panel.reference)
        ax.plot(axis.points, reference, color=style.REFERENCE_COLOUR, lw=1, ls="--", label=truth)
        ax.legend(frameon=False)
    values = _filled(panel.values)
    ax.plot(axis.points, values, color=panel.colours, lw=1.5)
    mark_alone(ax, axis.points, values, panel.colours)
    margin = 0.05 * (panel.limits[1] - panel.limits[0])
    ax.set_ylim(panel.limits[0] - margin, panel.limits[1] + margin)
    ax.set_xlim(*axis.extent)
    ax.set_xlabel(labelled(axis.name, axis.units))
    ax.set_ylabel(panel.label)


def _draw_points(ax: Axes, panel: Panel, places: np.ndarray) -> None:
    """Draw each point as a disc, as large as lets them just touch, and no larger than a sensor."""
    first, second = panel.axes
    width, height = (axis.extent[1] - axis.extent[0] for axis in panel.axes)
    ax.set_xlim(*first.extent)
    ax.set_ylim(*second.extent)
    ax.set_aspect("equal")
    # in points of 1/72 inch, as if the discs filled a map as large as one of an example
    touching = 72.0 * _MAP_INCHES * (min(width, height) / max(width, height) / len(places)) ** 0.5
    diameter = min(touching, _LARGEST_DISC)
    image = ax.scatter(
        places[:, 0], places[:, 1], c=_filled(panel.values), s=diameter**2, cmap=panel.colours,
        norm=Normalize(*panel.limits), linewidths=0, clip_on=False,
    )  # fmt: skip
    _draw_scale(ax, image, panel)


def _draw_map(ax: Axes, panel: Panel) -> None:
    first, second = panel.axes
    upwards, timed = second.extent, second.name == "time"
    if timed:  # cells of frames, each half an interval around its time
        half = (second.points[1] - second.points[0]) / 2
        upwards = float(second.points[0] - half), float(second.points[-1] + half)
    image = ax.imshow(
        panel.values.T,  # the first axis runs to the right, the second upwards
        origin="lower",
        aspect="auto" if timed else "equal",
        extent=(*first.extent, *upwards),
        cmap=panel.colours,
        norm=Normalize(*panel.limits),
        interpolation="nearest",
    )
    ax.set_xticks(*_ticks(np.linspace(*first.extent, 3)))
    ax.set_yticks(*_ticks(second.points[[0, -1]] if timed else np.linspace(*upwards, 3)))
    _draw_scale(ax, image, panel)


def _ticks(places: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return places of ticks, and what is written there, in as few letters as will do."""
    return places, [f"{round(place, 3):.6g}".replace("-", "\N{MINUS SIGN}") for place in places]


def _draw_scale(ax: Axes, image: ScalarMappable, panel: Panel) -> None:
    """Name the axes, and draw the scale of colours, next to a map and as high as the map itself."""
    first, second = panel.axes
    ax.set_xlabel(labelled(first.name, first.units))
    ax.set_ylabel(labelled(second.name, second.units))
    beside = ax.inset_axes((1.04, 0.0, 0.06, 1.0))
    numbers = ScalarFormatter()
    numbers.set_powerlimits((-3, 4))
    label = textwrap.fill(panel.label, 26)  # no longer than the scale
    ticks = MaxNLocator(5)
    known, (low, high) = panel.values[np.isfinite(panel.values)], panel.limits
    beyond = (bool((known < low).any()), bool((known > high).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    ax.figure.colorbar(
        image, cax=beside, label=label, ticks=ticks, format=numbers,
        extend=extend.get(beyond, "neither"),
    )  # fmt: skip


def _filled(values: np.ndarray) -> np.ndarray:
    """Return values with NaN, of which nothing is drawn, where they are masked."""
    return np.ma.filled(values, np.nan)


def _unit(units: str) -> str:
    return "" if units == "1" else units
