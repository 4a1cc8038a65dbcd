"""Curves that visit all points of a grid, or unordered points, and stay near where they are."""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.compiler import is_compiling

Box = tuple[int, int, int]
Edge = tuple[int, int]
"""An edge of a part of a box: the axis along which it lies, and its length, negative backwards."""
Part = tuple[Box, tuple[Edge, Edge, Edge]]
"""A part of a box: where its walk starts, and its edges, the one that the walk ends along first."""

CELLS = 2**16
"""Cells along the longest side of the box around unordered points."""


@lru_cache(maxsize=16)
def zigzag_curve(shape: tuple[int, ...]) -> np.ndarray:
    """Walk through a grid row by row, every other row backwards.

    Each step moves by one point along one axis (a reflected Gray code with a digit per axis). What
    is returned and raised is as of `hilbert_curve`.
    """
    _check(shape)
    position = np.arange(math.prod(shape))
    digits = []
    for axis, n in enumerate(shape):
        rows, digit = np.divmod(position // math.prod(shape[axis + 1 :]), n)
        digits.append(np.where(rows % 2 == 0, digit, n - 1 - digit))
    return _numbers(np.stack(digits, axis=-1), shape)


@lru_cache(maxsize=16)
def hilbert_curve(shape: tuple[int, ...]) -> np.ndarray:
    """Walk through a grid of any shape along a generalised Hilbert curve.

    Each step moves by one point along one axis, for every shape: there is no diagonal step. The
    walk goes from one end of an edge of the grid to the other. Colour the points like a chessboard:
    with an even number of them such a walk must end on the other colour, so its edge must be even,
    and with an odd number any edge will do. An edge is chosen by this rule (the longest that obeys
    it), and boxes are divided so that every part obeys it again. On squares whose sides are powers
    of two it is Hilbert's curve.

    Returns:
        Row-major number of the point visited at each position, int32, `(points,)`, read-only.

    Raises:
        ValueError: There are not one to three axes, or one is without points.

    Source:
        D. Hilbert, Math. Ann. 38, 459 (1891). The division of a box into two, three or five parts
        is that of J. Červený, "gilbert", github.com/jakubcerveny/gilbert, where some odd sides give
        diagonal steps; which division is used where is chosen here so that none do.
    """
    _check(shape)
    allowed = [axis for axis, n in enumerate(shape) if n % 2 == 0] or range(len(shape))
    first = max(allowed, key=lambda axis: shape[axis])
    axes = [first, *(axis for axis in reversed(range(len(shape))) if axis != first)]
    a, b, c = (*(shape[axis] for axis in axes), 1, 1)[:3]
    walk = _walk((a, b, c), {})
    return _numbers(walk[:, [axes.index(axis) for axis in range(len(shape))]], shape)


def _walk(box: Box, known: dict[Box, np.ndarray]) -> np.ndarray:
    """Walk through a box from the corner at the origin to the other end of its first edge.

    Either the first edge is even, or all are odd. Places are `(points, 3)`.
    """
    if box in known:
        return known[box]
    walk = np.zeros((math.prod(box), 3), dtype=np.int32)
    a, b, c = box
    if b == c == 1:
        walk[:, 0] = np.arange(a)
    elif _second_and_third_change_places(b, c):
        walk[:, [0, 2, 1]] = _walk((a, c, b), known)
    else:
        done = 0
        for start, edges in _divide(a, b, c):
            lengths = [abs(length) for _, length in edges]
            part = _walk((lengths[0], lengths[1], lengths[2]), known)
            for (axis, length), along in zip(edges, part.T, strict=True):
                domain = start[axis] + along * (1 if length > 0 else -1)
                walk[done : done + len(part), axis] = domain
            done += len(part)
    known[box] = walk
    return walk


def _second_and_third_change_places(b: int, c: int) -> bool:
    """Whether the third edge must come second, for the divisions below to fit.

    The second is the longer where one is much longer, or both are odd; otherwise the third is even.
    """
    if 3 * b > 4 * c:
        return False
    return 3 * c > 4 * b or (c % 2 == 1 and (b % 2 == 0 or b < c))


def _divide(a: int, b: int, c: int) -> list[Part]:
    """Divide a box into parts of which each starts next to the end of the one before."""
    a2, b2, c2 = _half(a), _half(b), _half(c)
    if 2 * a > 3 * b and 2 * a > 3 * c:  # in two, along the first edge
        return [((0, 0, 0), ((0, a2), (1, b), (2, c))), ((a2, 0, 0), ((0, a - a2), (1, b), (2, c)))]
    if 3 * b > 4 * c or c % 2 == 1:  # in three, as in the plane: out, across, and back
        return [
            ((0, 0, 0), ((1, b2), (2, c), (0, a2))),
            ((0, b2, 0), ((0, a), (1, b - b2), (2, c))),
            ((a - 1, b2 - 1, 0), ((1, -b2), (2, c), (0, a2 - a))),
        ]
    return [  # in five
        ((0, 0, 0), ((1, b2), (2, c2), (0, a2))),
        ((0, b2, 0), ((2, c), (0, a2), (1, b - b2))),
        ((0, b2 - 1, c - 1), ((0, a), (1, -b2), (2, c2 - c))),
        ((a - 1, b2, c - 1), ((2, -c), (0, a2 - a), (1, b - b2))),
        ((a - 1, b2 - 1, 0), ((1, -b2), (2, c2), (0, a2 - a))),
    ]


def _half(n: int) -> int:
    """Return half of a length, even where that leaves something of it."""
    return n // 2 + 1 if n // 2 % 2 == 1 and n > 2 else n // 2


def _check(shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(
            f"no curve through a grid of shape {shape}: expected one to three axes with at least "
            "one point each"
        )


def _numbers(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.asarray(np.ravel_multi_index(tuple(places.T), shape), dtype=np.int32)
    numbers.flags.writeable = False  # the cache hands it to every caller
    return numbers


@torch.no_grad()
def order_points(coordinates: Float[Tensor, "samples point axis"]) -> Int[Tensor, "samples point"]:
    """Order unordered points along a Hilbert curve through the box around each sample's points.

    The box is divided into equal cubic cells, `CELLS` along its longest side, so that all axes
    count alike; points in the same cell keep their order. Neither the place nor the size of the
    whole changes the order. On one axis the order is that of the coordinates. What is returned is
    the number of the point visited at each position, int64.

    Raises:
        ValueError: There are not one to three axes, or a coordinate is not finite (not checked
            while a graph is traced, which cannot depend on values).

    Source:
        J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707, 381 (2004).
    """
    samples, points, axes = coordinates.shape
    if not 1 <= axes <= 3:
        raise ValueError(
            f"coordinates have shape {tuple(coordinates.shape)}; expected (samples, points, axes) "
            "with one to three axes"
        )
    if not torch.compiler.is_compiling() and not bool(coordinates.isfinite().all()):
        bad = (~coordinates.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"coordinate {coordinates[tuple(bad)].item()} at {bad} (sample, point, axis) is not "
            "finite; leave the point out or give it a place"
        )
    if axes == 1:
        return _order(coordinates[..., 0])
    if points == 0:
        return coordinates.new_zeros((samples, 0), dtype=torch.int64)
    # Half precision has fewer digits than there are cells.
    places = coordinates.float() if coordinates.dtype.itemsize < 4 else coordinates
    inside = places - places.amin(dim=1, keepdim=True)
    side = inside.amax(dim=(1, 2), keepdim=True)
    share = inside / torch.where(side > 0, side, 1.0)
    cells = (share * (CELLS - 1)).int()
    return _order(_hilbert_index([cells[..., axis].clone() for axis in range(axes)]))


def _order(keys: Tensor) -> Tensor:
    # In a graph, too, it is stable, but may not say so.
    return keys.argsort(dim=-1, stable=True) if not is_compiling() else keys.argsort(dim=-1)


def _hilbert_index(x: list[Tensor]) -> Tensor:
    """Return the position of cells, given by their number along each axis, on Hilbert's curve.

    The numbers, int32, are used up.
    """
    bits = (CELLS - 1).bit_length()
    for bit in reversed(range(1, bits)):  # undo the turns of ever smaller cubes
        low = (1 << bit) - 1
        for part in x:
            upper = -(part >> bit & 1)  # all ones, or zero
            swapped = (x[0] ^ part) & low & ~upper
            part ^= swapped
            x[0] ^= swapped | upper & low
    for before, part in pairwise(x):  # Gray code
        part ^= before
    flips = x[-1] >> 1
    for shift in (1, 2, 4, 8):  # each bit becomes the parity of the bits above it
        flips ^= flips >> shift
    index = torch.zeros_like(x[0], dtype=torch.int64)
    for bit in reversed(range(bits)):
        for part in x:
            index = index << 1 | ((part ^ flips) >> bit & 1)
    return index
