"""Paths: the orders in which scans visit the points of a grid.

A path is a tuple of sweeps. A sweep lays the points out as lines; one scan direction runs along
each line and a second one back, each with its own parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mno.grid import Grid

PATHS = ("axial", "bidirectional")
DIRECTIONS = (False, True)
"""Whether each of a sweep's two scan directions runs in reverse."""


@dataclass(frozen=True)
class Sweep:
    """Lines through the points of a grid: along one axis, or one line through all points.

    Attributes:
        shape: Points along each axis.
        axis: The axis along which lines run; `None` for one line through all points in row-major
            order.
        delta_scale: Factor by which the step of a scan along the lines is multiplied.
    """

    shape: tuple[int, ...]
    axis: int | None
    delta_scale: float = 1.0

    def to_lines(self, points: Tensor) -> Tensor:
        """Bring a tensor of shape `(batch, points, features)` to `(lines, length, features)`."""
        if self.axis is None:
            return points
        grid = points.unflatten(1, self.shape).movedim(1 + self.axis, -2)
        return grid.flatten(0, -3)

    def from_lines(self, lines: Tensor) -> Tensor:
        """Undo `to_lines`."""
        if self.axis is None:
            return lines
        others = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return lines.unflatten(0, (-1, *others)).movedim(-2, 1 + self.axis).flatten(1, -2)


def num_sweeps(path: str, dims: int) -> int:
    """Return how many sweeps a path makes on a grid of that many dimensions.

    Raises:
        ValueError: The path is not known.
    """
    if path not in PATHS:
        raise ValueError(f"path={path!r} is not known; choose one of {', '.join(PATHS)}")
    return dims if path == "axial" else 1


def sweeps(path: str, grid: Grid | tuple[int, ...] | None, num_points: int) -> tuple[Sweep, ...]:
    """Lay a path through the points.

    Args:
        path: `axial`, every line of the grid along every axis, the fastest axis first; or
            `bidirectional`, one line through all points in row-major order.
        grid: The grid, whose spacing scales the step of each scan; a bare shape for no scaling; or
            `None` for points without a grid.
        num_points: Points that are there.

    Raises:
        ValueError: The path is not known, the grid has another number of points, or there is no
            grid where the path needs one.
    """
    num_sweeps(path, 1)
    if grid is None:
        if path == "axial":
            raise ValueError(
                "grid=None means points without a grid, which have no axes for path='axial'; "
                "give a grid or its shape, or use path='bidirectional'"
            )
        return (Sweep((num_points,), None),)
    known = grid if isinstance(grid, Grid) else Grid(tuple(grid), (1.0,) * len(grid))
    if known.num_points != num_points:
        raise ValueError(
            f"grid of shape {known.shape} has {known.num_points} points, but the input has "
            f"{num_points}; give the grid on which the input lives"
        )
    scale = known.delta_scale
    if path == "bidirectional":
        return (Sweep(known.shape, None, scale[-1]),)
    axes = reversed(range(len(known.shape)))
    return tuple(Sweep(known.shape, axis, scale[axis]) for axis in axes)
