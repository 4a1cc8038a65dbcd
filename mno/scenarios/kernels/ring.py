"""A ring between two wavy closed curves, and a mesh of triangles that fits it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

WAVES = np.arange(2, 6)  # of a curve around the ring; one wave would only shift it
SWING = math.sqrt(2.0) * float(np.sum(1.0 / WAVES))
"""Largest relative distance of a curve from its circle, over `waviness`."""


@dataclass(frozen=True)
class RingMesh:
    """Connectivity of a mesh of rings of points, from the inner curve to the outer one.

    Point `(i, j)`, the `i`-th around the `j`-th ring, has number `j * around + i`. Quadrilaterals
    are cut along diagonals that alternate like the squares of a chessboard, so that the mesh
    prefers no direction.

    Attributes:
        around: Points of a ring, an even number.
        rings: Rings, at least two.
    """

    around: int
    rings: int

    @property
    def num_points(self) -> int:
        """Points of the mesh."""
        return self.around * self.rings

    @property
    def inner(self) -> slice:
        """Numbers of the points on the inner curve."""
        return slice(0, self.around)

    @property
    def outer(self) -> slice:
        """Numbers of the points on the outer curve."""
        return slice(self.num_points - self.around, self.num_points)

    def triangles(self) -> np.ndarray:
        """Return the corners of all triangles, anticlockwise, shape `(triangles, 3)`."""
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

    def place(self, inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates of all points, at equal distances along each ray.

        Args:
            inner: Distance of the inner curve from the middle along each ray, shape `(around,)`.
            outer: The same of the outer curve.
        """
        radius = inner + self.shares()[:, None] * (outer - inner)
        angle = self.angles()
        return (radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()

    def shares(self) -> np.ndarray:
        """Return where each ring lies between the curves, from 0 to 1, shape `(rings,)`."""
        return np.linspace(0.0, 1.0, self.rings)

    def angles(self) -> np.ndarray:
        """Return the direction of each ray, in radians, shape `(around,)`."""
        return 2.0 * np.pi * np.arange(self.around) / self.around


def rim_lengths(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the length of a closed polygon that belongs to each corner: half of both its edges.

    Args:
        x: Coordinates of the corners in order, shape `(corners,)`.
        y: Likewise.
    """
    edges = np.hypot(np.roll(x, -1) - x, np.roll(y, -1) - y)
    return 0.5 * (edges + np.roll(edges, 1))


def draw_curve(rng: np.random.Generator, angles: np.ndarray, waviness: float) -> np.ndarray:
    """Draw a closed curve about the unit circle: its distance from the middle at some angles.

    It is `1 + waviness * sum over k of (a_k cos k t + b_k sin k t) / k`, `k` from 2 to 5, with
    weights uniform from -1 to 1: one draw is one curve, at any angles.
    """
    weights = rng.uniform(-1.0, 1.0, (2, len(WAVES), 1)) / WAVES[:, None]
    phases = np.outer(WAVES, angles)
    return 1.0 + waviness * np.sum(weights[0] * np.cos(phases) + weights[1] * np.sin(phases), 0)
