"""The square of a real function on a circle, from Fourier coefficients to Fourier coefficients.

Of `2 n` real values the even ones are taken as real, the odd ones as imaginary parts of `n` complex
values `z_j`, whose transform has those of both in it. The `n = 8 m` complex values are a block of
`m` rows as they lie in memory, `j = 8 p + lane`. Transforms of the eight lanes, turns, and
transforms across them (the four steps of Bailey 1990, doi:10.1007/BF00162341) make one of all. Its
waves lie where it leaves them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mno.scenarios.kernels.caching import compiled
from mno.scenarios.kernels.rows import (
    LANES,
    ROW,
    Row,
    emitted,
    load,
    store,
    transformed,
    transposed,
)
from mno.scenarios.kernels.transforms import factors, plan, to_points, to_waves


@emitted
def _join(builder: Any, rows: Any, turns: Any) -> None:
    """Transform eight rows of lanes into eight rows of waves."""
    lanes = transposed(
        [load(builder, rows, k) * load(builder, turns, k).conjugate_if(True) for k in range(LANES)]
    )
    for k, row in enumerate(transformed(lanes, -1)):
        store(row, rows, k)


@emitted
def _part(builder: Any, rows: Any, turns: Any) -> None:
    """Transform eight rows of waves into eight rows of lanes."""
    waves = [load(builder, rows, k) for k in range(LANES)]
    for k, row in enumerate(transposed(transformed(waves, 1))):
        store(row * load(builder, turns, k), rows, k)


@emitted
def _square_parts(builder: Any, row: Any) -> None:
    """Square real and imaginary parts, each for itself."""
    b, z = builder, load(builder, row)
    store(Row(b, b.fmul(z.re, z.re), b.fmul(z.im, z.im)), row)


@compiled
def square_on_line(u, places, turns, tables, across, block, out):
    """Square `u`, coefficients from the constant on, into `out`, times the number of points.

    Both are complex128; what is between them is `LineSquare.arguments`.
    """
    waves, n, m = u.size, block.size // 2, block.shape[0]
    flat = block.ravel()
    radices, table, starts = tables
    here, lanes = block.ctypes.data, across.ctypes.data
    flat[:] = 0.0
    # exp(2 pi i j k / n) for the even points; the odd ones are half a distance further.
    flat[places[0]] = flat[places[0] + LANES] = u[0].real
    for k in range(1, waves):
        turned = 1j * turns[k] * u[k]
        z, mirror = u[k] + turned, np.conj(u[k] - turned)
        flat[places[k]] += z.real
        flat[places[k] + LANES] += z.imag
        flat[places[n - k]] += mirror.real
        flat[places[n - k] + LANES] += mirror.imag
    for group in range(m // LANES):
        _part(here + LANES * ROW * group, lanes + LANES * ROW * group)
    to_points(here, m, radices, table, starts)
    for point in range(m):
        _square_parts(here + ROW * point)
    to_waves(here, m, radices, table, starts)
    for group in range(m // LANES):
        _join(here + LANES * ROW * group, lanes + LANES * ROW * group)
    out[0] = flat[places[0]] + flat[places[0] + LANES]
    for k in range(1, waves):
        z = complex(flat[places[k]], flat[places[k] + LANES])
        mirror = complex(flat[places[n - k]], -flat[places[n - k] + LANES])
        out[k] = 0.5 * ((z + mirror) - 1j * np.conj(turns[k]) * (z - mirror))


def line_points(cutoff: int) -> int:
    """Return the fewest points on which squares are exact up to a wave number."""
    parts = 3 * cutoff // (2 * LANES**2) + 1
    while parts > 1 and not factors(parts):
        parts += 1
    return 2 * LANES**2 * parts


class LineSquare:
    """The plan and the workspace of `square_on_line`, for one thread.

    Attributes:
        points: Number of points.
        arguments: What `square_on_line` takes between `u` and `out`.

    Args:
        cutoff: Largest wave number, at least 1.
        points: `line_points(cutoff)`, or more of that kind.
    """

    def __init__(self, cutoff: int, points: int) -> None:
        n, m = points // 2, points // 2 // LANES
        transform = plan(m)
        waves = np.arange(n)
        row = transform.places[waves % m]
        angles = 2.0 * np.pi * np.outer(np.arange(m), np.arange(LANES)) / n
        across = np.empty((m, 2, LANES))
        across[transform.places, 0], across[transform.places, 1] = np.cos(angles), np.sin(angles)
        self.points = points
        self.arguments = (
            (row // LANES * LANES + waves // m) * 2 * LANES + row % LANES,
            np.exp(2j * np.pi * np.arange(cutoff + 1) / points),
            transform.tables,
            across,
            np.empty((m, 2, LANES)),
        )
