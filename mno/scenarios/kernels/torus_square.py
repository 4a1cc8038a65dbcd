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
    chunk       eight waves along `y`: first those from 0 on, then those from 0 down, so that a wave
                and its opposite are in the same lane; those beyond the cutoff are zero
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
def _square_rows(builder: Any, rows: Any, largest: Any) -> None:
    """Square eight rows; raise the eight numbers `largest` to the squares of absolute values."""
    b, place = builder, pointer(builder, largest, 0, VECTOR)
    most = b.load(place, align=8)
    for k in range(LANES):
        z = load(b, rows, k)
        re, im, product = b.fmul(z.re, z.re), b.fmul(z.im, z.im), b.fmul(z.re, z.im)
        store(Row(b, b.fsub(re, im), b.fadd(product, product)), rows, k)
        size = b.fadd(re, im)
        most = b.select(b.fcmp_ordered(">", size, most), size, most)
    b.store(most, place, align=8)


@compiled
def square_on_torus(z, places, columns, rows, tables, block, between, out):
    """Square `z` into `out`, times the number of points; the rest is `TorusSquare.arguments`.

    The wave 0 along `y` is read among those from 0 on, and written among both.

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
        for k in range(1, columns.size):
            _copy(there + line * group + ROW * columns[k], here + ROW * rows[k])
        to_points(here, n, radices, turns, starts)
        for point in range(0, n, LANES):
            _square_rows(here + ROW * point, largest.ctypes.data)
        to_waves(here, n, radices, turns, starts)
        for k in range(columns.size):
            _copy(here + ROW * rows[k], there + line * group + ROW * columns[k])
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
    """The plan and the workspace of `square_on_torus`, for one thread.

    Attributes:
        shape: Of coefficients, `(waves, chunks, 2, 8)`, float64: wave of `x`, chunk of waves of
            `y`, real or imaginary parts, wave in the chunk.
        points: Along each axis.
        arguments: What `square_on_torus` takes between `z` and `out`, its first and its last argument, both
            of that shape.

    Args:
        cutoff: Largest wave number along either axis, at least 1.
        points: `torus_points(cutoff)`, or more of that kind.
    """

    def __init__(self, cutoff: int, points: int) -> None:
        transform = plan(points)
        half = cutoff // LANES + 1  # chunks of waves from 0 on
        waves, up = np.arange(-cutoff, cutoff + 1), np.arange(cutoff + 1)
        self.shape = (len(waves), 2 * half, 2, LANES)
        self.points = points
        self.arguments = (
            transform.places[waves],
            np.concatenate([half * LANES + up, up]),
            transform.places[np.concatenate([-up, up])],
            transform.tables,
            np.empty((points, 2, LANES)),
            np.zeros((points // LANES, 2 * half * LANES, 2, LANES)),
        )
