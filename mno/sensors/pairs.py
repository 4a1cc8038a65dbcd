"""Readings, and what model and solver say at their places and times, in the model's units.

Predictions are interpolated linearly, on a grid or on unordered points; readings never are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import Delaunay, KDTree, QhullError

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.core.readings import is_made
from mno.imports.mapping import conversion
from mno.imports.readings import Readings
from mno.sensors.inputs import RunInputs

_REACH = 2.0
"""How far a place may be from the nearest of unordered points, in units of the largest distance
between one of them and its nearest neighbour."""

_SAME_PLACE = 1e-5  # closer than this share of that distance, a place is the point (float32 rounds)


class Stencil(NamedTuple):
    """Which points a value at some places is made of, and with which weights."""

    indices: np.ndarray  # of points, in C order of the grid, shape (places, corners)
    weights: np.ndarray  # of the same shape; they sum to 1
    inside: np.ndarray  # whether a place is in the domain, shape (places,); else it has no value

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Interpolate `(frames, *grid)` or `(frames, points)` to `(frames, places)`, float64."""
        flat = np.asarray(values).reshape(len(values), -1)
        at_places = np.zeros((len(flat), len(self.inside)))
        for index, weight in zip(self.indices.T, self.weights.T, strict=True):
            # What has no weight has no say, not even where it is missing.
            at_places += np.where(weight == 0.0, 0.0, weight * flat[:, index])
        at_places[:, ~self.inside] = np.nan
        return at_places


class Predicted(NamedTuple):
    """Fields that a model or a solver predicts of one sample.

    They have shape `(frames, *place)` over time, `(1, *place)` without time. The times are those of
    the frames: the last one given, then those predicted; empty where no field has time.
    """

    fields: Mapping[str, np.ndarray]
    times: np.ndarray


def on_grid(axes: Sequence[Axis], places: np.ndarray) -> Stencil:
    """Return the multilinear interpolation on a grid at places, shape `(places, axes)`.

    Between the outermost points and the walls a field is constant.
    """
    count = len(places)
    indices, weights = np.zeros((count, 1), dtype=np.int64), np.ones((count, 1))
    inside = np.ones(count, dtype=bool)
    for axis, coordinate in zip(axes, places.T, strict=True):
        low, high = axis.extent
        margin = 1e-9 * (high - low)
        inside &= (coordinate >= low - margin) & (coordinate <= high + margin)
        corners, shares = ends(axis.points, coordinate)
        indices = (indices[:, :, None] * len(axis.points) + corners[:, None]).reshape(count, -1)
        weights = (weights[:, :, None] * shares[:, None]).reshape(count, -1)
    return Stencil(indices, weights, inside)


def brackets(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last of ascending points at or before each place, and the share of the way on.

    What lies beyond the outermost points, or is NaN, is brought to one of them.
    """
    within = np.clip(np.nan_to_num(at), points[0], points[-1])
    below = np.clip(np.searchsorted(points, within, side="right") - 1, 0, max(len(points) - 2, 0))
    if len(points) < 2:
        return below, np.zeros(len(at))
    return below, (within - points[below]) / (points[below + 1] - points[below])


def ends(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points before and after each place, and their weights, shape `(places, 2)`."""
    below, share = brackets(points, at)
    both = np.stack([below, np.minimum(below + 1, len(points) - 1)], axis=-1)
    return both, np.stack([1.0 - share, share], axis=-1)


def on_points(points: np.ndarray, places: np.ndarray) -> Stencil:
    """Return the interpolation among unordered points, both of shape `(any, axes)`.

    A place within their hull has the linear interpolation on the triangle (tetrahedron, interval)
    of points that it lies in; one outside the value of the nearest point. Places that are further
    from the nearest point than twice the largest distance between neighbours are outside.
    """
    count, dims = places.shape
    known = np.isfinite(places.sum(axis=1))
    tree = KDTree(points)
    distance, found = tree.query(np.where(known[:, None], places, points[0]))
    indices = np.repeat(np.asarray(found).reshape(-1, 1), dims + 1, axis=1)
    weights = np.zeros((count, dims + 1))
    weights[:, 0] = 1.0
    apart = 0.0
    if len(points) > 1:
        apart = float(np.asarray(tree.query(points, k=2)[0])[:, 1].max())
    same = _SAME_PLACE * (apart or float(np.abs(points).max()))
    between = np.flatnonzero(known & (distance > same))
    if len(between):
        hull, corners, shares = _linear(points, places[between])
        indices[between[hull]], weights[between[hull]] = corners, shares
    return Stencil(indices, weights, known & (distance <= max(_REACH * apart, same)))


def _linear(
    points: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray | int, np.ndarray | float]:
    """Return which places lie in the hull, and the corners around these with their weights."""
    if points.shape[1] == 1:
        order = np.argsort(points[:, 0], kind="stable")
        line, at = points[order, 0], places[:, 0]
        hull = (at >= line[0]) & (at <= line[-1])
        corners, shares = ends(line, at[hull])
        return hull, order[corners], shares
    try:
        mesh = Delaunay(points)
    except (QhullError, ValueError):  # too few points, or all on one line: the nearest it is
        return np.zeros(len(places), dtype=bool), 0, 0.0
    simplex: np.ndarray = np.atleast_1d(mesh.find_simplex(places, tol=_SAME_PLACE))
    transform = mesh.transform[simplex]
    shares = np.einsum("nij,nj->ni", transform[:, :-1], places - transform[:, -1])
    hull = (simplex >= 0) & np.isfinite(shares.sum(axis=1))  # a flat triangle has none
    last = 1.0 - shares[hull].sum(axis=1, keepdims=True)
    return hull, mesh.simplices[simplex[hull]], np.concatenate([shares[hull], last], axis=1)


_SAME_TIME = 1e-6  # of an interval: nearer than this, a time is that of the frame


@dataclass(frozen=True, eq=False)
class Series:
    """What one sensor measures of one quantity at one place, and what is said of it."""

    quantity: str  # name of the model's field
    sensor: str
    place: np.ndarray  # coordinates in the units of the axes, shape (axes,)
    times: np.ndarray  # of the frames, shape (frames,); empty for a field without time
    model: np.ndarray  # what it predicts there, shape (frames,), or (1,) without time
    solver: np.ndarray | None  # the same; none where there is no solver


@dataclass(frozen=True, eq=False)
class Pairs:
    """Readings that can be compared, one row each; arrays have shape `(rows,)`."""

    units: Mapping[str, str]  # the model's, of each quantity that is compared
    series: tuple[Series, ...]  # those that have a row
    of: np.ndarray  # number of each row's series
    time: np.ndarray  # in the unit of the prediction's times, from its time 0
    value: np.ndarray  # what was read
    uncertainty: np.ndarray  # standard uncertainty of it, NaN where none is given
    model: np.ndarray  # what the model predicts
    solver: np.ndarray | None  # what the solver says; none where there is none
    left_out: Mapping[str, int]  # number of readings that cannot be compared, by the reason

    def __len__(self) -> int:
        return len(self.value)


def pair(
    readings: Readings, outputs: Mapping[str, str], given: RunInputs,
    predictions: tuple[Predicted, ...], position_units: str = "m", start: float = 0.0,
) -> Pairs:  # fmt: skip
    """Bring predictions to the places and times of readings, in the model's units.

    Quantities of the readings are named like the model's fields, whose units are `outputs`. A field
    without time is compared with readings of any time. `predictions` are the model's, and the
    solver's where there is one; their time 0 is `start`, in seconds on the clock of the readings.
    Quantities, units or axes that do not fit are refused; so are readings without any to compare.
    """
    row_series = readings.series
    names = [readings.quantities[quantity] for quantity in readings.series_quantity]
    measured = np.array([name in outputs for name in names])
    if not measured.any():
        raise InputError(
            f"the readings are of {', '.join(readings.quantities)}; the model predicts "
            f"{', '.join(outputs)}: rename quantities in a mapping file (--mapping), as in "
            f"`fields: {{{readings.quantities[0]}: {{name: {next(iter(outputs))}}}}}`"
        )
    scales = {name: (1.0, 0.0) for name in readings.quantities}
    for name in set(names) & set(outputs):
        scales[name] = conversion(readings.units[name], outputs[name], f"sensor readings of {name}")
    factor, offset = np.array(list(scales.values()))[readings.series_quantity][row_series].T
    time = readings.time - start
    if given.time_units != "1":
        time = time * conversion("s", given.time_units, "time of the prediction")[0]
    places, stencil = at_sensors(readings, given, position_units)
    curves = [{n: stencil.apply(v) for n, v in said.fields.items()} for said in predictions]
    moving = np.array([name in curves[0] and len(curves[0][name]) > 1 for name in names])
    times = predictions[0].times
    said = [np.full((max(len(times), 1), len(names)), np.nan) for _ in curves]
    for fields, found in zip(curves, said, strict=True):
        for series in np.flatnonzero(measured):  # without time, the same in all frames
            found[:, series] = fields[names[series]][:, series]
    columns = [_in_time(times, curve, row_series, time) for curve in said]

    before = after = np.zeros(len(readings), dtype=bool)
    if moving.any():
        margin = _SAME_TIME * (times[1] - times[0])
        before = moving[row_series] & (time <= given.known_until + margin)
        after = moving[row_series] & (time > times[-1] + margin)
    reasons = {
        "of quantities that the model does not predict": ~measured[row_series],
        "again of the same time and sensor": repeated(readings),
        "without a place": np.isnan(places[:, 0])[row_series],
        "outside the domain": ~stencil.inside[row_series],
        "from the time of the frames that are given": before,
        "after the last frame that is predicted": after,
        "where a frame that is given lacks a value": np.isnan(np.sum(columns, axis=0)),
    }
    kept, left_out = _left_out(reasons)
    numbered = all(is_made(axis.name) for axis in given.axes)  # of readings: their names say where
    used, own_series = np.unique(row_series[kept], return_inverse=True)
    uncertainty = (readings.uncertainty * factor)[kept]
    return Pairs(
        units={name: units for name, units in outputs.items() if name in {names[s] for s in used}},
        series=tuple(
            Series(
                names[s], readings.sensors[readings.series_sensor[s]],
                places[s, :0] if numbered else places[s],
                times if moving[s] else np.empty(0),
                *(curve[:, s] if moving[s] else curve[:1, s] for curve in said),
                *([] if said[1:] else [None]),
            )
            for s in used
        ),
        of=own_series, time=time[kept], left_out=left_out,
        value=(readings.value * factor + offset)[kept],
        uncertainty=np.where(uncertainty > 0, uncertainty, np.nan),
        model=columns[0][kept],
        solver=columns[1][kept] if columns[1:] else None,
    )  # fmt: skip


def _left_out(reasons: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """Return which readings are kept, and how many are not; each for its first reason alone."""
    kept = np.ones(len(next(iter(reasons.values()))), dtype=bool)
    left_out = {}
    for reason, rows in reasons.items():
        if count := int(np.count_nonzero(kept & rows)):
            left_out[reason] = count
        kept &= ~rows
    if not kept.any():
        told = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InputError(
            f"none of {len(kept)} readings can be compared ({told}); check positions, "
            "position_units and --start"
        )
    return kept, left_out


def repeated(readings: Readings) -> np.ndarray:
    """Return which readings are of the same time and sensor as one before."""
    order = np.lexsort((readings.series, readings.time))
    again = np.zeros(len(readings), dtype=bool)
    same = (np.diff(readings.time[order]) == 0) & (np.diff(readings.series[order]) == 0)
    again[order[1:]] = same
    return again


def at_sensors(
    readings: Readings, given: RunInputs, position_units: str
) -> tuple[np.ndarray, Stencil]:
    """Return where each series is, `(series, axes)`, and how predictions are interpolated there.

    Places are in the order and the units of the prediction's axes, NaN of a series that has none.
    On an axis without a unit, positions stay as they are.
    """
    names = tuple(axis.name for axis in given.axes)
    if set(readings.axes) != set(names):
        raise InputError(
            f"the readings have positions along {', '.join(readings.axes) or 'no axis'}; the model "
            f"has {', '.join(names)}: give the table a column for each of these"
        )
    columns = []
    for axis in given.axes:
        given_in = position_units if axis.units != "1" else "1"
        factor, offset = conversion(given_in, axis.units, f"position along {axis.name}")
        column = readings.places[:, readings.axes.index(axis.name)] * factor + offset
        columns.append(np.append(column, np.nan)[readings.series_place])  # of number -1, NaN
    at = np.stack(columns, axis=-1)
    return at, on_grid(given.axes, at) if given.points is None else on_points(given.points, at)


def _in_time(
    times: np.ndarray, curves: np.ndarray, series: np.ndarray, at: np.ndarray
) -> np.ndarray:
    if not len(times):
        return curves[0, series]
    below, share = brackets(times, at)
    before, after = curves[below, series], curves[below + 1, series]
    between = (1 - share) * before + share * after
    # At a frame its neighbours have no say, not even where they are missing.
    return np.where(share > 1 - _SAME_TIME, after, np.where(share < _SAME_TIME, before, between))
