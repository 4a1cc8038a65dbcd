"""The square of a complex function on a torus, from Fourier coefficients to Fourier coefficients.

A velocity `(u, v)` as the function `z = u + i v` has in its square both products that the
equations of a plane flow need, `z^2 = u^2 - v^2 + 2 i u v`. So one call here is one evaluation of
their nonlinear term: a transform to points, the square, a transform back. Waves beyond the cutoff
are zero and are not transformed. What is done with eight columns between two transforms is done
while they are in the nearest cache.

Glossary
    cutoff      largest wave number along each axis; products are exact for more than three times
                as many points, the rule of two thirds
    wave        along `x`: from `-cutoff` on
    chunk       eight waves along `y`, in the same order; those in excess at the end are zero
    group       eight points along `x`
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mno.scenarios.kernels.caching import compiled
from mno.scenarios.kernels.rows import (
    LANES,
    ROW,
    VECTOR,
    Row,
    emitted,
    load,
    pointer,
    store,
    transposed,
)
from mno.scenarios.kernels.transforms import factors, plan, to_points, to_waves


@emitted
def _copy(builder: Any, source: Any, target: Any) -> None:
    """Copy one row."""
    store(load(builder, source), target)


@emitted
def _transpose(builder: Any, source: Any, target: Any) -> None:
    """Copy eight rows to eight rows, transposed."""
    for k, row in enumerate(transposed([load(builder, source, k) for k in range(LANES)])):
        store(row, target, k)


@emitted
def _square_row(builder: Any, row: Any, largest: Any) -> None:
    """Square one row; raise the eight numbers `largest` to the squares of absolute values."""
    b, z = builder, load(builder, row)
    re, im, product = b.fmul(z.re, z.re), b.fmul(z.im, z.im), b.fmul(z.re, z.im)
    store(Row(b, b.fsub(re, im), b.fadd(product, product)), row)
    size, place = b.fadd(re, im), pointer(b, largest, 0, VECTOR)
    before = b.load(place, align=8)
    b.store(b.select(b.fcmp_ordered(">", size, before), size, before), place, align=8)


@compiled
def square(z, places, tables, block, between, out):
    """Square `z` into `out`, times the number of points; the rest is `TorusSquare.arguments`.

    Returns:
        The square of the largest absolute value of `z` at the points.
    """
    waves, chunks = z.shape[0], z.shape[1]
    n, groups = block.shape[0], between.shape[0]
    radices, turns, starts = tables
    given, made = z.ctypes.data, out.ctypes.data
    here, there = block.ctypes.data, between.ctypes.data
    line = ROW * LANES * chunks
    for chunk in range(chunks):
        block[:] = 0.0
        for wave in range(waves):
            _copy(given + ROW * (wave * chunks + chunk), here + ROW * places[wave])
        to_points(here, n, radices, turns, starts)
        for group in range(groups):
            _transpose(here + ROW * LANES * group, there + line * group + ROW * LANES * chunk)
    largest = np.zeros(LANES)
    for group in range(groups):
        block[:] = 0.0
        for wave in range(waves):
            _copy(there + line * group + ROW * wave, here + ROW * places[wave])
        to_points(here, n, radices, turns, starts)
        for point in range(n):
            _square_row(here + ROW * point, largest.ctypes.data)
        to_waves(here, n, radices, turns, starts)
        for wave in range(waves):
            _copy(here + ROW * places[wave], there + line * group + ROW * wave)
    for chunk in range(chunks):
        for group in range(groups):
            _transpose(there + line * group + ROW * LANES * chunk, here + ROW * LANES * group)
        to_waves(here, n, radices, turns, starts)
        for wave in range(waves):
            _copy(here + ROW * places[wave], made + ROW * (wave * chunks + chunk))
    return largest.max()


def torus_points(cutoff: int) -> int:
    """Return the fewest points along an axis on which squares are exact up to a wave number."""
    groups = 3 * cutoff // LANES + 1
    while groups > 1 and not factors(groups):
        groups += 1
    return LANES * groups


class TorusSquare:
    """The plan and the workspace of `square`, for one thread.

    Attributes:
        shape: Of coefficients, `(waves, chunks, 2, 8)`, float64: wave of `x`, chunk of waves of
            `y`, real or imaginary parts, wave in the chunk.
        points: Along each axis.
        arguments: What `square` takes between `z` and `out`, its first and its last argument, both
            of that shape.

    Args:
        cutoff: Largest wave number along either axis, at least 1.
        points: `torus_points(cutoff)`, or more of that kind.
    """

    def __init__(self, cutoff: int, points: int) -> None:
        transform = plan(points)
        waves = np.arange(-cutoff, cutoff + 1)
        chunks = -(-len(waves) // LANES)
        self.shape = (len(waves), chunks, 2, LANES)
        self.points = points
        self.arguments = (
            transform.places[waves],
            transform.tables,
            np.empty((points, 2, LANES)),
            np.zeros((points // LANES, chunks * LANES, 2, LANES)),
        )
