"""Drawing one field of one sample: as a line in one dimension, as a map in two or more."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from mno.core.fields import Axis
from mno.report.style import PREDICTION_COLOUR, REFERENCE_COLOUR

_MAP_INCHES = 1.6
_LARGEST_DISC = 9.0  # 1/72 inch
_FRAMES_OF_A_PLANE = 3
_NOT_NUMBERS = "contains values that\nare not numbers"


@dataclass(frozen=True, eq=False)
class Panel:
    """One field as it is drawn.

    Attributes:
        title: What is shown, above the panel.
        label: Quantity with unit, at the scale.
        values: Shape `(points,)` or `(x, y)`; what is masked is left blank.
        axes: The axes of `values`.
        limits: Lowest and highest value of the scale.
        colours: Colour map of a map, or colour of a line.
        reference: Drawn thinly behind a line, to compare with.
        places: Where unordered points are, shape `(points, 2)`; none for a line or a map.
        mark: A place to mark, one number per axis of space.
    """

    title: str
    label: str
    values: np.ndarray
    axes: tuple[Axis, ...]
    limits: tuple[float, float]
    colours: str
    reference: np.ndarray | None = None
    places: np.ndarray | None = None
    mark: tuple[float, ...] | None = None


def plane(values: np.ndarray, axes: Sequence[Axis]) -> tuple[np.ndarray, tuple[Axis, ...], str]:
    """Cut a field down to a line or a plane.

    In one space dimension, three frames or more make a plane of space and time. Otherwise time is
    cut at its last frame. A third space axis is cut in its middle.

    Returns:
        The cut field, its axes, and where it was cut, in words (empty where nowhere).
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
            notes.append(f"{axis.name} = {axis.points[at]:.3g} {_unit(axis.units)}".rstrip())
    return values, tuple(kept), ", ".join(notes)


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


def draw_panel(
    ax: Axes, panel: Panel, *, truth: str = "truth", not_numbers: str = _NOT_NUMBERS
) -> None:
    """Draw a panel into matplotlib axes.

    Args:
        ax: Where to draw.
        panel: What to draw.
        truth: What the line behind a line is called.
        not_numbers: What is said where values are neither numbers nor masked.
    """
    ax.set_title(panel.title)
    if panel.places is not None:
        _draw_points(ax, panel, panel.places)
    elif panel.values.ndim == 1:
        _draw_line(ax, panel, truth)
    else:
        _draw_map(ax, panel)
    if panel.mark is not None and len(panel.mark) == 1:
        ax.axvline(panel.mark[0], color=PREDICTION_COLOUR, lw=1)
    elif panel.mark is not None:
        ax.plot(*panel.mark, "o", mfc="none", mec=PREDICTION_COLOUR, ms=9, mew=1.8)
    if not np.isfinite(np.ma.compressed(panel.values)).all():
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        place = {"transform": ax.transAxes, "ha": "center", "va": "center"}
        ax.text(0.5, 0.5, not_numbers, color="#b00020", bbox=box, **place)


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
        ax.plot(axis.points, reference, color=REFERENCE_COLOUR, lw=1, ls="--", label=truth)
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
    ax.set_xlabel(labelled(first.name, first.units))
    ax.set_ylabel(labelled(second.name, second.units))
    _draw_scale(ax, image, panel)


def _draw_map(ax: Axes, panel: Panel) -> None:
    first, second = panel.axes
    upwards = _span(second) if second.name == "time" else second.extent
    image = ax.imshow(
        panel.values.T,  # the first axis runs to the right, the second upwards
        origin="lower",
        aspect="auto" if second.name == "time" else "equal",
        extent=(*first.extent, *upwards),
        cmap=panel.colours,
        norm=Normalize(*panel.limits),
        interpolation="nearest",
    )
    ax.set_xlabel(labelled(first.name, first.units))
    ax.set_ylabel(labelled(second.name, second.units))
    ax.set_xticks(np.linspace(*first.extent, 3))
    ax.set_yticks(np.linspace(*upwards, 3) if second.name != "time" else second.points[[0, -1]])
    _draw_scale(ax, image, panel)


def _draw_scale(ax: Axes, image: ScalarMappable, panel: Panel) -> None:
    """Draw the scale of colours, next to a map and as high as the map itself."""
    beside = ax.inset_axes((1.04, 0.0, 0.06, 1.0))
    numbers = ScalarFormatter()
    numbers.set_powerlimits((-3, 4))
    label = textwrap.fill(panel.label, 26)  # no longer than the scale
    ticks = MaxNLocator(5)
    ax.figure.colorbar(image, cax=beside, label=label, ticks=ticks, format=numbers)


def _filled(values: np.ndarray) -> np.ndarray:
    """Return values with NaN, of which nothing is drawn, where they are masked."""
    return np.ma.filled(values, np.nan)


def _span(time: Axis) -> tuple[float, float]:
    """Return where the cells of frames begin and end, each half an interval around its time."""
    half = (time.points[1] - time.points[0]) / 2
    return float(time.points[0] - half), float(time.points[-1] + half)


def _unit(units: str) -> str:
    return "" if units == "1" else units
