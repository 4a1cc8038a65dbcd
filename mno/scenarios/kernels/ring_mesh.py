"""Linear finite elements in a ring between two wavy closed curves, and the mesh that fits it.

Stiffness, lumped areas and sparse factors are stated by triangles for the solvers, and once more
edge by edge for checks (`edges_of`).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix

from mno.core.compiled import compiled
from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.scenarios.base import Check

WAVES = np.arange(2, 6)  # of a curve around the ring; one wave would only shift it
SWING = math.sqrt(2.0) * float(np.sum(1.0 / WAVES))
"""Largest relative distance of a curve from its circle, over `waviness`."""

MESH = Check(
    "mesh",
    "share by which the smallest triangle is smaller than a hundredth of the mean one",
    0.0,
    of_given=True,
)


def smallness(sizes: np.ndarray) -> float:
    """Measure the check `MESH` on the areas of triangles; NaN if one of them is."""
    return float(np.max([1.0 - 100.0 * np.min(sizes) / np.mean(sizes), 0.0]))


@dataclass(frozen=True)
class RingMesh:
    """Connectivity of a mesh of rings of points, from the inner curve to the outer one.

    Point `(i, j)`, the `i`-th around the `j`-th ring, has number `j * around + i`. Quadrilaterals
    are cut along diagonals that alternate like a chessboard's squares, so none is preferred.
    """

    around: int  # points of a ring, an even number
    rings: int  # at least two

    @property
    def num_points(self) -> int:
        """Points of the mesh."""
        return self.around * self.rings

    @property
    def axis(self) -> Axis:
        """The axis of points, which numbers them."""
        numbers, points = np.arange(self.num_points, dtype=np.float64), float(self.num_points)
        return Axis("point", "1", "number of the point", numbers, (0.0, points))

    @property
    def outer(self) -> slice:
        """Numbers of the points on the outer curve."""
        return slice(self.num_points - self.around, self.num_points)

    @cached_property
    def triangles(self) -> np.ndarray:
        """The corners of all triangles, anticlockwise, shape `(triangles, 3)`."""
        i, j = np.meshgrid(np.arange(self.around), np.arange(self.rings - 1))
        i, j = i.ravel(), j.ravel()
        following = (i + 1) % self.around
        a, b = j * self.around + i, (j + 1) * self.around + i
        c, d = (j + 1) * self.around + following, j * self.around + following
        # a, b, c, d run along the ray outwards and back along the next one: anticlockwise.
        one_way = (i + j) % 2 == 0
        first = np.where(one_way[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
        second = np.where(one_way[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
        return np.concatenate([first, second])

    def sizes(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the areas of the triangles between points; an InputError where one has none."""
        sizes = areas(x, y, self.triangles)
        if not sizes.min() > 0.0:
            raise InputError(
                "x and y are not the points of a ring, from the inner curve outwards: a triangle "
                f"between them has area {sizes.min():.3g}, expected positive numbers; give what "
                "sample draws"
            )
        return sizes

    def place(self, inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates of all points, at equal distances along each ray.

        The curves are given by their distance from the middle along each ray, shape `(around,)`.
        """
        radius = inner + np.linspace(0.0, 1.0, self.rings)[:, None] * (outer - inner)
        angle = self.angles()
        return (radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()

    def angles(self) -> np.ndarray:
        """Return the direction of each ray, in radians, shape `(around,)`."""
        return 2.0 * np.pi * np.arange(self.around) / self.around


def draw_curve(rng: np.random.Generator, angles: np.ndarray, waviness: float) -> np.ndarray:
    """Draw a closed curve about the unit circle: its distance from the middle at some angles.

    It is `1 + waviness * sum over k of (a_k cos k t + b_k sin k t) / k`, `k` from 2 to 5, with
    weights uniform from -1 to 1: one draw is one curve, at any angles.
    """
    weights = rng.uniform(-1.0, 1.0, (2, len(WAVES), 1)) / WAVES[:, None]
    phases = np.outer(WAVES, angles)
    return 1.0 + waviness * np.sum(weights[0] * np.cos(phases) + weights[1] * np.sin(phases), 0)


def areas(x: np.ndarray, y: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the area of each triangle, negative where its corners run clockwise."""
    a, b, c = triangles.T
    return 0.5 * ((x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]))


def lumped(per_triangle: np.ndarray, triangles: np.ndarray, num_points: int) -> np.ndarray:
    """Share a quantity of each triangle equally among its corners, shape `(points,)`."""
    return np.bincount(triangles.ravel(), np.repeat(per_triangle / 3.0, 3), num_points)


def stiffness(
    x: np.ndarray, y: np.ndarray, triangles: np.ndarray, coefficient: np.ndarray
) -> csc_matrix:
    """Return the matrix of `-div(a grad u)` for linear elements, with nothing passing the rim.

    An entry is the sum over triangles T that have both points of
    `a_T area_T (grad phi_i . grad phi_j)`; the coefficient `a` has shape `(triangles,)`.
    """
    entries = coefficient[:, None, None] * _of_triangles(x, y, triangles)
    rows = np.repeat(triangles, 3, axis=1).ravel()
    columns = np.tile(triangles, (1, 3)).ravel()
    return csc_matrix((entries.ravel(), (rows, columns)), shape=(len(x), len(x)))


@compiled
def left_along(x, y, triangles, coefficient, values, along):
    """Return the rates of what is left at points, `load - stiffness values`, as values stay.

    `along` are directions of x, y and the coefficient at points, whose mean over its corners each
    triangle has, `(3, points, direction)`; rates have shape `(points, direction)`.
    """
    (along_x, along_y, along_c), left = along, np.zeros(along.shape[1:])
    opposite_x, opposite_y, turned = np.empty(3), np.empty(3), np.empty(3)
    for corners in triangles:
        total, gx, gy = 0.0, 0.0, 0.0
        for i in range(3):
            here, begin, end = corners[i], corners[(i + 1) % 3], corners[(i + 2) % 3]
            opposite_x[i], opposite_y[i] = x[end] - x[begin], y[end] - y[begin]
            turned[i] = values[begin] - values[end]
            total += coefficient[here]
            gx += opposite_x[i] * values[here]
            gy += opposite_y[i] * values[here]
        twice = opposite_x[1] * opposite_y[2] - opposite_y[1] * opposite_x[2]  # the area
        share = total / (6.0 * twice)
        for i in range(3):
            ox, oy, own = opposite_x[i], opposite_y[i], left[corners[i]]
            flow = share * (ox * gx + oy * gy)
            grows = 1.0 / 6.0 + flow / twice
            for j in range(3):
                sign = (0.0, -1.0, 1.0)[(j - i) % 3]
                by_x = -grows * opposite_y[j] - share * (sign * gx + turned[j] * ox)
                by_y = grows * opposite_x[j] - share * (sign * gy + turned[j] * oy)
                by_c = -flow / total
                to_x, to_y, to_c = along_x[corners[j]], along_y[corners[j]], along_c[corners[j]]
                for k in range(len(own)):
                    own[k] += by_x * to_x[k] + by_y * to_y[k] + by_c * to_c[k]
    return left


def _of_triangles(x: np.ndarray, y: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the matrix of each triangle for a coefficient of one, `(triangles, 3, 3)`."""
    # The gradient of the function of a corner is the opposite edge, turned, over twice the area.
    opposite_x = x[np.roll(triangles, -2, axis=1)] - x[np.roll(triangles, -1, axis=1)]
    opposite_y = y[np.roll(triangles, -2, axis=1)] - y[np.roll(triangles, -1, axis=1)]
    products = (
        opposite_x[:, :, None] * opposite_x[:, None, :]
        + opposite_y[:, :, None] * opposite_y[:, None, :]
    )
    return products / (4.0 * areas(x, y, triangles))[:, None, None]


class Edges(NamedTuple):
    """Edges of triangles, one entry per triangle and edge, shape `(3 * triangles,)` each."""

    opposite: np.ndarray  # number of the triangle's corner that does not lie on the edge
    begin: np.ndarray  # number of the point where the edge begins
    end: np.ndarray
    conductance: np.ndarray  # what flows along it per difference between its ends
    size: np.ndarray  # area of the triangle, negative where its corners run clockwise

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
    """State the scheme edge by edge; it shares no arithmetic with `stiffness` and `areas`.

    Half the cotangent of the angle opposite an edge, times the mean coefficient of the triangle's
    corners, is its conductance; the coefficient has shape `(points,)`.
    """
    a, b, c = np.concatenate([np.roll(triangles, k, axis=1) for k in range(3)]).T
    places = np.stack([x, y], axis=-1)
    to_b, to_c = places[b] - places[a], places[c] - places[a]
    twice = to_b[:, 0] * to_c[:, 1] - to_b[:, 1] * to_c[:, 0]
    mean = (coefficient[a] + coefficient[b] + coefficient[c]) / 3.0
    return Edges(a, b, c, 0.5 * mean * np.sum(to_b * to_c, axis=1) / twice, twice / 2.0)
