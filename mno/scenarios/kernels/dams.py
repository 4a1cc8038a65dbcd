"""Bodies of water behind dams: ellipses and rectangles that lie anywhere, at any angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUBPOINTS = 8  # along each axis of a cell that an edge runs through


@dataclass(frozen=True)
class Dam:
    """Water of one depth inside an ellipse or a rectangle.

    Attributes:
        depth: That of the water.
        centre: Coordinates x and y.
        radii: Half lengths of the axes, or of the sides.
        angle: Between the first of them and the axis x, in radians.
        is_rectangle: Whether it is a rectangle.
    """

    depth: float
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0
    is_rectangle: bool = False

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how far points lie from the centre, in units of the edge's distance."""
        x, y = x - self.centre[0], y - self.centre[1]
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        along = np.abs(cosine * x + sine * y) / self.radii[0]
        across = np.abs(cosine * y - sine * x) / self.radii[1]
        return np.maximum(along, across) if self.is_rectangle else np.hypot(along, across)


def draw_dams(
    rng: np.random.Generator,
    largest_number: int,
    depths: tuple[float, float],
    radii: tuple[float, float],
    spread: float,
) -> list[Dam]:
    """Draw dams; one state of the generator gives the same ones on every grid.

    Args:
        rng: What they are drawn from.
        largest_number: Each number from one to this is as likely.
        depths: Bounds of their depths, which are uniform.
        radii: Bounds of both radii, likewise.
        spread: How far from the middle their centres may lie along either axis, likewise.
    """
    return [
        Dam(
            depth=rng.uniform(*depths),
            centre=(rng.uniform(-spread, spread), rng.uniform(-spread, spread)),
            radii=(rng.uniform(*radii), rng.uniform(*radii)),
            angle=rng.uniform(0.0, math.pi),
            is_rectangle=rng.random() < 0.5,
        )
        for _ in range(rng.integers(1, largest_number, endpoint=True))
    ]


def depth_at(dams: Sequence[Dam], outside: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the depth at points; where dams overlap, that of the deepest."""
    depth = np.full(x.shape, outside)
    for dam in dams:
        depth = np.where(dam.distance(x, y) <= 1.0, np.maximum(depth, dam.depth), depth)
    return depth


def mean_depth(
    dams: Sequence[Dam], outside: float, x: np.ndarray, y: np.ndarray, width: float
) -> np.ndarray:
    """Return the mean depth of square cells, by 8 x 8 points in those that an edge may cut.

    Args:
        dams: What is deeper than the water outside.
        outside: Depth of the latter.
        x: Coordinates of the cells' centres.
        y: The same along y.
        width: That of a cell.
    """
    means = depth_at(dams, outside, x, y)
    cut = np.zeros(x.shape, dtype=bool)
    for dam in dams:
        # A point moves `distance` by at most its own move over the smaller radius.
        reach = width / math.sqrt(2.0) / min(dam.radii)
        cut |= np.abs(dam.distance(x, y) - 1.0) <= reach
    places = width * ((np.arange(SUBPOINTS) + 0.5) / SUBPOINTS - 0.5)
    points_x, points_y = np.broadcast_arrays(
        x[cut][:, None, None] + places[:, None], y[cut][:, None, None] + places
    )
    means[cut] = depth_at(dams, outside, points_x, points_y).mean(axis=(1, 2))
    return means
