"""Linear interpolation of a prediction, on a grid or on unordered points, at places and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, KDTree, QhullError

from mno.core.fields import Axis

_REACH = 2.0
"""How far a place may be from the nearest of unordered points, in units of the largest distance
between one of them and its nearest neighbour."""

_SAME = 1e-5  # closer than this share of that distance, a place is the point (float32 rounds)


@dataclass(frozen=True, eq=False)
class Stencil:
    """Which points a value at some places is made of, and with which weights.

    Attributes:
        indices: Numbers of points, in C order of the grid, shape `(places, corners)`.
        weights: Their weights, which sum to 1, of the same shape.
        inside: Whether a place lies in the domain, shape `(places,)`; elsewhere the value is NaN.
    """

    indices: np.ndarray
    weights: np.ndarray
    inside: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Interpolate.

        Args:
            values: Shape `(frames, *grid)` or `(frames, points)`.

        Returns:
            Shape `(frames, places)`, float64.
        """
        flat = np.asarray(values).reshape(len(values), -1)
        at_places = np.zeros((len(flat), len(self.inside)))
        for index, weight in zip(self.indices.T, self.weights.T, strict=True):
            # What has no weight has no say, not even where it is missing.
            at_places += np.where(weight == 0.0, 0.0, weight * flat[:, index])
        at_places[:, ~self.inside] = np.nan
        return at_places


@dataclass(frozen=True, eq=False)
class Predicted:
    """Fields that a model or a solver predicts of one sample.

    Attributes:
        fields: By name; shape `(frames, *place)` over time, `(1, *place)` of a field without time.
        times: When the frames are, shape `(frames,)`: the last one given, then those predicted;
            empty where no field has time.
    """

    fields: Mapping[str, np.ndarray]
    times: np.ndarray

    def at(self, stencil: Stencil) -> dict[str, np.ndarray]:
        """Return each field at some places, shape `(frames or 1, places)`, float64."""
        return {name: stencil.apply(values) for name, values in self.fields.items()}


def on_grid(axes: Sequence[Axis], places: np.ndarray) -> Stencil:
    """Return the multilinear interpolation on a grid.

    Between the outermost points and the walls a field is constant.

    Args:
        axes: The axes of space.
        places: Shape `(places, axes)`, in the units of the axes.
    """
    count = len(places)
    indices, weights = np.zeros((count, 1), dtype=np.int64), np.ones((count, 1))
    inside = np.ones(count, dtype=bool)
    for axis, coordinate in zip(axes, places.T, strict=True):
        low, high = axis.extent
        margin = 1e-9 * (high - low)
        inside &= (coordinate >= low - margin) & (coordinate <= high + margin)
        below, share = brackets(axis.points, coordinate)
        above = np.minimum(below + 1, len(axis.points) - 1)
        corners = np.stack([below, above], axis=-1)
        shares = np.stack([1.0 - share, share], axis=-1)
        indices = (indices[:, :, None] * len(axis.points) + corners[:, None]).reshape(count, -1)
        weights = (weights[:, :, None] * shares[:, None]).reshape(count, -1)
    return Stencil(indices, weights, inside)


def brackets(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last point at or before each place, and the share of the way to the next.

    What lies beyond the outermost points, or is NaN, is brought to one of them.

    Args:
        points: Ascending, shape `(points,)`.
        at: Shape `(places,)`.
    """
    within = np.clip(np.nan_to_num(at), points[0], points[-1])
    below = np.clip(np.searchsorted(points, within, side="right") - 1, 0, max(len(points) - 2, 0))
    if len(points) < 2:
        return below, np.zeros(len(at))
    return below, (within - points[below]) / (points[below + 1] - points[below])


def on_points(points: np.ndarray, places: np.ndarray) -> Stencil:
    """Return the interpolation among unordered points.

    A place within their hull has the linear interpolation on the triangle (tetrahedron, interval)
    of points that it lies in; one outside the value of the nearest point. Places that are further
    from the nearest point than twice the largest distance between neighbours are outside.

    Args:
        points: Shape `(points, axes)`.
        places: Shape `(places, axes)`, in the same units.
    """
    count, dims = places.shape
    known = np.isfinite(places.sum(axis=1))
    tree = KDTree(points)
    distance, found = tree.query(np.where(known[:, None], places, points[0]))
    nearest = np.asarray(found).reshape(-1, 1)
    indices = np.repeat(nearest, dims + 1, axis=1)
    weights = np.zeros((count, dims + 1))
    weights[:, 0] = 1.0
    apart = 0.0
    if len(points) > 1:
        apart = float(np.asarray(tree.query(points, k=2)[0])[:, 1].max())
    same = _SAME * (apart or float(np.abs(points).max()))
    between = np.flatnonzero(known & (distance > same))
    _fill_linear(points, places, between, indices, weights)
    return Stencil(indices, weights, known & (distance <= max(_REACH * apart, same)))


def _fill_linear(
    points: np.ndarray,
    places: np.ndarray,
    rows: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Put barycentric weights into the rows whose places lie in the hull."""
    if not len(rows):
        return
    if points.shape[1] == 1:
        order = np.argsort(points[:, 0], kind="stable")
        line, at = points[order, 0], places[rows, 0]
        hull = (at >= line[0]) & (at <= line[-1])
        below, share = brackets(line, at[hull])
        ends = np.stack([below, np.minimum(below + 1, len(line) - 1)], axis=-1)
        indices[rows[hull]] = order[ends]
        weights[rows[hull]] = np.stack([1.0 - share, share], axis=-1)
        return
    try:
        mesh = Delaunay(points)
    except (QhullError, ValueError):  # too few points, or all on one line: the nearest it is
        return
    simplex: np.ndarray = np.atleast_1d(mesh.find_simplex(places[rows], tol=_SAME))
    transform = mesh.transform[simplex]
    shares = np.einsum("nij,nj->ni", transform[:, :-1], places[rows] - transform[:, -1])
    hull = (simplex >= 0) & np.isfinite(shares.sum(axis=1))  # a flat triangle has none
    last = 1.0 - shares[hull].sum(axis=1, keepdims=True)
    weights[rows[hull]] = np.concatenate([shares[hull], last], axis=1)
    indices[rows[hull]] = mesh.simplices[simplex[hull]]
