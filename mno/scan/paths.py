"""Paths: the orders in which scans visit the points of a grid, or points without one.

    bidirectional   row by row through all points, and back                          K = 2
    cross           the same with each axis in turn as the fastest, then all back    K = 2 per axis
    axial           every line of the grid along every axis by itself, both ways     K = 2 per axis
    hilbert         along a Hilbert curve, and back                                  K = 2
    zigzag          row by row, every other row backwards, and back                  K = 2
    temporal        every point by itself along time, the first axis, forwards       K = 1

Only `axial` and `temporal` lines are straight, so only with them is a scaled step a length along a
line in space or time. Points without a grid are visited along a Hilbert curve.

Weights belong to directions by their order. It is axis by axis, the fastest first, each there and
back, but for `cross`: there, row-major, column-major, both reversed, as in the public code of Cheng
et al., arXiv:2410.02113.
"""

import math

import torch
from torch import Tensor

from mno.core.grid import Grid
from mno.core.points import Points
from mno.scan.arguments import Direction, ScanPath
from mno.scan.curves import hilbert_curve, order_points, zigzag_curve

PATHS = ("axial", "bidirectional", "cross", "hilbert", "zigzag", "temporal")
Domain = Grid | Points | tuple[int, ...] | None
"""What a mixer is given of its points: a grid; its bare shape, for steps that are not scaled;
unordered points; or nothing, for points to be taken as they come."""

_CURVES = {"hilbert": hilbert_curve, "zigzag": zigzag_curve}


def num_directions(path: str, dims: int) -> int:
    """Return K, the number of scan directions of a path on a grid with that many axes.

    Raises:
        ValueError: The path is not known.
    """
    if path not in PATHS:
        raise ValueError(f"path={path!r} is not known; choose one of {', '.join(PATHS)}")
    if path == "temporal":
        return 1
    return 2 * dims if path in ("axial", "cross") else 2


def check_num_points(domain: Domain, num_points: int, name: str = "input") -> None:
    """Raise a `ValueError` if a domain does not have as many points as what lives there."""
    if domain is None:
        return
    known = isinstance(domain, Grid | Points)
    points = domain.num_points if known else math.prod(domain)
    if points == num_points:
        return
    if isinstance(domain, Points):
        given, remedy = f"coordinates of {points} points are given", "those at"
    else:
        shape = domain.shape if isinstance(domain, Grid) else domain
        given, remedy = f"grid of shape {shape} has {points} points", "the grid on"
    raise ValueError(
        f"{given}, but the {name} has {num_points}; give {remedy} which the {name} lives"
    )


def same_domain(one: Domain, other: Domain) -> bool:
    """Say whether two places are known to be the same points."""
    if isinstance(one, Points) and isinstance(other, Points):
        return one.coordinates is other.coordinates or torch.equal(
            one.coordinates, other.coordinates
        )
    return one == other


def scan_path(path: str, domain: Domain, num_points: int) -> ScanPath:
    """Lay one of `PATHS` through points, its tensors on the coordinates' device, or on the CPU.

    The spacing of a grid scales the steps, its bare shape does not; points without a domain are
    taken in the order in which they come.

    Raises:
        ValueError: The path is not known, there is another number of points, or the path needs a
            grid and there is none.
    """
    num_directions(path, 1)
    if domain is None or isinstance(domain, Points):
        return _without_grid(path, domain, num_points)
    grid = domain if isinstance(domain, Grid) else Grid(tuple(domain), (1.0,) * len(domain))
    check_num_points(grid, num_points)
    if path in _CURVES:
        return _along_curve(path, grid)
    axes = tuple(range(len(grid.shape)))[::-1]  # the fastest axis first
    axes = {"bidirectional": axes[:1], "temporal": axes[-1:]}.get(path, axes)
    ways = (False,) if path == "temporal" else (False, True)
    walked = [(axis, back) for axis in axes for back in ways]
    if path == "cross":
        walked = [(axis, back) for back in ways for axis in axes]
    directions = []
    for axis, back in walked:
        n, stride = grid.shape[axis], math.prod(grid.shape[axis + 1 :])
        if path == "bidirectional":
            n, stride = num_points, 1
        directions.append(Direction(num_points if path == "cross" else n, n, stride, back))
    return ScanPath(tuple(directions), scale=_scale(grid, [axis for axis, _ in walked]))


def _scale(grid: Grid, axes: list[int]) -> Tensor | None:
    factors = [grid.delta_scale[axis] for axis in axes]
    if all(factor == 1.0 for factor in factors):
        return None
    rows = []
    for axis, factor in zip(axes, factors, strict=True):
        shape = [1] * len(grid.shape)
        shape[axis] = -1
        along = torch.tensor(factor, dtype=torch.float32).reshape(shape)
        rows.append(along.expand(grid.shape).reshape(-1))
    return torch.stack(rows)[None]


def _along_curve(path: str, grid: Grid) -> ScanPath:
    """Walk a curve through a grid both ways; a step's length is the distance travelled."""
    order = _curve(path, grid.shape)[None]
    if all(factor == 1.0 for factor in grid.delta_scale):
        return _both_ways(order, None)
    lengths = [
        sum(factor) if isinstance(factor, tuple) else factor * n
        for n, factor in zip(grid.shape, grid.delta_scale, strict=True)
    ]
    axes = [
        torch.tensor(grid.centres(axis), dtype=torch.float64) * length
        for axis, length in enumerate(lengths)
    ]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    return _both_ways(order, _travelled(places[None], order))


def _curve(path: str, shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(_CURVES[path](shape), dtype=torch.int64)


# So that no tracer enters the numpy code and its cache. It is what
# `torch.compiler.assume_constant_result` does, which would load the tracer for everyone: 1.7 s.
_curve._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _without_grid(path: str, points: Points | None, num_points: int) -> ScanPath:
    if path not in ("bidirectional", "hilbert"):
        raise ValueError(
            f"path={path!r} needs a grid, but the points have none; give a grid or its shape, or "
            "use path='bidirectional'"
        )
    if points is None and path == "hilbert":
        raise ValueError(
            "path='hilbert' needs to know where the points are; give a grid or "
            "mno.nn.Points(coordinates)"
        )
    if points is None:
        line = Direction(num_points, num_points)
        return ScanPath((line, Direction(num_points, num_points, reverse=True)))
    check_num_points(points, num_points)
    places = points.coordinates if points.coordinates.ndim == 3 else points.coordinates[None]
    order = order_points(places)
    scale = None
    if points.reference_spacing is not None:
        scale = _travelled(places, order) / points.reference_spacing
    return _both_ways(order, scale)


def _both_ways(order: Tensor, scale: Tensor | None) -> ScanPath:
    """Order `(samples, points)`, scale `(samples, points)`."""
    n = order.shape[-1]
    return ScanPath(
        (Direction(n, n), Direction(n, n, reverse=True)),
        order.to(torch.int32)[:, None].expand(-1, 2, -1),
        None if scale is None else scale.float()[:, None].expand(-1, 2, -1),
    )


def _travelled(places: Tensor, order: Tensor) -> Tensor:
    """Return, for each point, the mean distance to its neighbours along a walk.

    Places are `(samples, points, axes)`, the order and the result `(samples, points)`.
    """
    if order.shape[-1] < 2:
        return torch.ones_like(order, dtype=torch.float32)
    walk = places.detach().gather(1, order[..., None].expand(places.shape))
    steps = walk.diff(dim=1).norm(dim=-1)
    around = (torch.cat([steps[:, :1], steps], 1) + torch.cat([steps, steps[:, -1:]], 1)) / 2
    return torch.empty_like(around).scatter_(1, order, around)
