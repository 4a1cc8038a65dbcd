"""Linear finite elements once more, edge by edge, for checks of what `triangles.py` assembles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix


class Edges(NamedTuple):
    """Edges of triangles, one entry per triangle and edge, shape `(3 * triangles,)` each.

    Attributes:
        opposite: Number of the triangle's corner that does not lie on the edge.
        begin: Number of the point where the edge begins.
        end: Number of the point where it ends.
        conductance: What flows along it per difference between its ends.
        size: Area of the triangle, negative where its corners run clockwise.
    """

    opposite: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    conductance: np.ndarray
    size: np.ndarray

    def shares(self) -> np.ndarray:
        """Return the area that belongs to each point, a third of its triangles."""
        return np.bincount(self.opposite, self.size / 3.0)

    def matrix(self) -> csc_matrix:
        """Return the matrix that takes values at points to what leaves each of them."""
        rows = np.concatenate([self.begin, self.begin, self.end, self.end])
        columns = np.concatenate([self.begin, self.end, self.end, self.begin])
        entries = np.outer([1.0, -1.0, 1.0, -1.0], self.conductance).ravel()
        return csc_matrix((entries, (rows, columns)))


def edges_of(x: np.ndarray, y: np.ndarray, triangles: np.ndarray, coefficient: np.ndarray) -> Edges:
    """State the scheme edge by edge; it shares no arithmetic with `triangles.py`.

    Half the cotangent of the angle opposite an edge, times the mean coefficient of the triangle's
    corners, is its conductance.

    Args:
        x: Coordinates of the points, shape `(points,)`.
        y: Likewise.
        triangles: Numbers of the corners, anticlockwise, shape `(triangles, 3)`.
        coefficient: `a` of each point, shape `(points,)`.
    """
    a, b, c = np.concatenate([np.roll(triangles, k, axis=1) for k in range(3)]).T
    places = np.stack([x, y], axis=-1)
    to_b, to_c = places[b] - places[a], places[c] - places[a]
    twice = to_b[:, 0] * to_c[:, 1] - to_b[:, 1] * to_c[:, 0]
    mean = (coefficient[a] + coefficient[b] + coefficient[c]) / 3.0
    return Edges(a, b, c, 0.5 * mean * np.sum(to_b * to_c, axis=1) / twice, twice / 2.0)
