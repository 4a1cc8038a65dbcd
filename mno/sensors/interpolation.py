"""Linear interpolation of a prediction, on a grid or on unordered points, at places and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import Delaunay, KDTree, QhullError

from mno.core.fields import Axis

_REACH = 2.0
"""How far a place may be from the nearest of unordered points, in units of the largest distance
between one of them and its nearest neighbour."""

_SAME = 1e-5  # closer than this share of that distance, a place is the point (float32 rounds)


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
        corners, shares = _ends(axis.points, coordinate)
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


def _ends(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points before and after each place, and their weights, shape `(places, 2)`."""
    below, share = brackets(points, at)
    ends = np.stack([below, np.minimum(below + 1, len(points) - 1)], axis=-1)
    return ends, np.stack([1.0 - share, share], axis=-1)


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
    same = _SAME * (apart or float(np.abs(points).max()))
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
        ends, shares = _ends(line, at[hull])
        return hull, order[ends], shares
    try:
        mesh = Delaunay(points)
    except (QhullError, ValueError):  # too few points, or all on one line: the nearest it is
        return np.zeros(len(places), dtype=bool), 0, 0.0
    simplex: np.ndarray = np.atleast_1d(mesh.find_simplex(places, tol=_SAME))
    transform = mesh.transform[simplex]
    shares = np.einsum("nij,nj->ni", transform[:, :-1], places - transform[:, -1])
    hull = (simplex >= 0) & np.isfinite(shares.sum(axis=1))  # a flat triangle has none
    last = 1.0 - shares[hull].sum(axis=1, keepdims=True)
    return hull, mesh.simplices[simplex[hull]], np.concatenate([shares[hull], last], axis=1)
