"""Fourier transforms of eight columns at a time, in place, and squares of periodic functions.

    z_j = sum over k of exp(2 pi i j k / n) Z_k        (`to_points`)
    Z_k = sum over j of exp(-2 pi i j k / n) z_j       (`to_waves`, not normalised)

A block holds a row (`mno.scenarios.kernels.vectors`) for each of the `n` points or waves. Points
are in order. The row of a wave is its place: that with the digits of its number reversed, so that
nothing need be reordered. `n` is a product of the radices 2, 3, 4, 5 and 8, and a transform
has a stage for each: from the whole to parts to reach the waves (Gentleman and Sande 1966,
doi:10.1145/1464291.1464352), and from parts to the whole to reach the points (Cooley and Tukey
1965, doi:10.2307/2003354).

Squares go from Fourier coefficients to Fourier coefficients. Waves beyond the cutoff are zero;
products are exact for more than three times as many points, the rule of two thirds.

**A real function on a circle.** Of `2 n` real values the even ones are taken as real, the odd ones
as imaginary parts of `n` complex values `z_j`, whose transform has those of both in it. The
`n = 8 m` complex values are a block of `m` rows as they lie in memory, `j = 8 p + lane`. Transforms
of the eight lanes, turns, and transforms across them (the four steps of Bailey 1990,
doi:10.1007/BF00162341) make one of all. Its waves lie where it leaves them.

**A complex function on a torus.** A velocity `(u, v)` as the function `z = u + i v` has in its
square both products that the equations of a plane flow need, `z^2 = u^2 - v^2 + 2 i u v`. So one
call is one evaluation of their nonlinear term: a transform to points, the square, a transform back.
What is done with eight columns between two transforms is done while they are in the nearest cache.

Glossary of the torus
    wave        along `x`: from `-cutoff` on
    chunk       eight waves along `y`: first those from 0 on, then those from 0 down, so that a wave
                and its opposite are in the same lane; those beyond the cutoff are zero
    group       eight points along `x`
"""

from typing import Any

import numpy as np

from mno.core.compiled import compiled, inlined, named
from mno.core.vectors import Address
from mno.scenarios.kernels.vectors import (
    LANES,
    ROW,
    Row,
    beyond,
    emitted,
    load,
    load_everywhere,
    store,
    transformed,
    transposed_rows,
)

RADICES = (8, 4, 2, 3, 5)


Tables = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Arguments of the kernels: the radices; `exp(2 pi i s j / length)` of all stages, for point `j`
and `s = 1 .. radix - 1`; where each stage begins in them."""


def factors(n: int) -> list[int]:
    """Return the radices that a number of points is the product of; empty if it is none."""
    found = []
    for radix in RADICES:
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found if n == 1 else []


def plan(n: int) -> tuple[np.ndarray, Tables]:
    """Return the row of each wave, from 0 to `n - 1`, a product of the radices, and the tables."""
    radices = factors(n)
    digits, places = np.arange(n), np.zeros(n, np.int64)
    turns, starts, length = [], [], n
    for radix in radices:
        part = length // radix
        powers = np.outer(np.arange(part), np.arange(1, radix))
        starts.append(sum(map(len, turns)))
        turns.append(np.exp(2j * np.pi * powers / length).ravel().view(np.float64))
        places += digits % radix * part
        digits, length = digits // radix, part
    return places, (np.array(radices), np.concatenate(turns), np.array(starts))


def _stage(radix: int, sign: int) -> Any:
    """Return a function that does one stage, to points for a positive sign.

    It takes the addresses of a block and of the stage's turns, the points of the block, and those
    of the parts, `length`, that the stage makes (to points) or splits (to waves).
    """

    def turned(rows: list[Row], turns: list[Row]) -> list[Row]:
        return [rows[0], *(row * turn for row, turn in zip(rows[1:], turns, strict=True))]

    @emitted
    def butterfly(first: Address, distance: Address, turns: Address) -> None:
        """Transform `radix` rows."""
        addresses = [beyond(first, distance, s) for s in range(radix)]
        rows = [load(address) for address in addresses]
        factors = [load_everywhere(turns, s).conjugate_if(sign < 0) for s in range(radix - 1)]
        if sign > 0:
            rows = transformed(turned(rows, factors), sign)
        else:
            rows = turned(transformed(rows, sign), factors)
        for row, address in zip(rows, addresses, strict=True):
            store(row, address)

    def stage(block, turns, n, length):
        part = length // radix
        for j in range(part):
            turn = turns + 16 * (radix - 1) * j
            for start in range(j, n, length):
                butterfly(block + ROW * start, ROW * part, turn)

    return inlined(named(stage, f"to_{'points' if sign > 0 else 'waves'}_{radix}"))


_STAGES = {(radix, sign): _stage(radix, sign) for sign in (1, -1) for radix in RADICES}


def _transform(sign: int) -> Any:
    """Return a function that does all stages, to points for a positive sign.

    It takes the address of a block of `n` rows, `n`, and the tables of a plan.
    """
    by_8, by_4, by_2, by_3, by_5 = (_STAGES[radix, sign] for radix in RADICES)

    def transform(block, n, radices, turns, starts):
        length = 1 if sign > 0 else n
        for stage in range(radices.size):
            k = radices.size - 1 - stage if sign > 0 else stage
            if sign > 0:
                length *= radices[k]
            table = turns.ctypes.data + 8 * starts[k]
            if radices[k] == 8:
                by_8(block, table, n, length)
            elif radices[k] == 4:
                by_4(block, table, n, length)
            elif radices[k] == 2:
                by_2(block, table, n, length)
            elif radices[k] == 3:
                by_3(block, table, n, length)
            else:
                by_5(block, table, n, length)
            if sign < 0:
                length //= radices[k]

    return inlined(named(transform, "to_points" if sign > 0 else "to_waves"))


to_points, to_waves = _transform(1), _transform(-1)


@emitted
def _join(rows: Address, turns: Address) -> None:
    """Transform eight rows of lanes into eight rows of waves."""
    turned = [load(rows, k) * load(turns, k).conjugate_if(True) for k in range(LANES)]
    for k, row in enumerate(transformed(transposed_rows(turned), -1)):
        store(row, rows, k)


@emitted
def _part(rows: Address, turns: Address) -> None:
    """Transform eight rows of waves into eight rows of lanes."""
    waves = [load(rows, k) for k in range(LANES)]
    for k, row in enumerate(transposed_rows(transformed(waves, 1))):
        store(row * load(turns, k), rows, k)


@emitted
def _square_parts(row: Address) -> None:
    z = load(row)
    store(Row(z.re * z.re, z.im * z.im), row)


@compiled
def square_on_line(u, squaring, out):
    """Square `u`, coefficients from the constant on, into `out`, times the number of points.

    Both are complex128; `line_square` makes the rest.
    """
    places, turns, tables, across, block = squaring
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


def line_square(cutoff: int, points: int) -> tuple[Any, ...]:
    """Return the plan and the workspace of `square_on_line`, for one thread.

    `points` are `line_points(cutoff)`, or more of that kind.
    """
    n, m = points // 2, points // 2 // LANES
    places, tables = plan(m)
    waves = np.arange(n)
    row = places[waves % m]
    angles = 2.0 * np.pi * np.outer(np.arange(m), np.arange(LANES)) / n
    across = np.empty((m, 2, LANES))
    across[places, 0], across[places, 1] = np.cos(angles), np.sin(angles)
    turns = np.exp(2j * np.pi * np.arange(cutoff + 1) / points)
    numbers = (row // LANES * LANES + waves // m) * 2 * LANES + row % LANES
    return numbers, turns, tables, across, np.empty((m, 2, LANES))


@emitted
def _copy(source: Address, target: Address) -> None:
    store(load(source), target)


@emitted
def _transpose(source: Address, target: Address) -> None:
    """Copy eight rows to eight rows, transposed."""
    for k, row in enumerate(transposed_rows([load(source, k) for k in range(LANES)])):
        store(row, target, k)


@emitted
def _square_rows(rows: Address, largest: Address) -> None:
    """Square eight rows; raise the eight numbers `largest` to the squares of absolute values."""
    most = largest.load()
    for k in range(LANES):
        z = load(rows, k)
        re, im, product = z.re * z.re, z.im * z.im, z.re * z.im
        store(Row(re - im, product + product), rows, k)
        most = most.at_most(re + im)
    largest.store(most)


@compiled
def square_on_torus(z, squaring, out):
    """Square `z` into `out`, times the number of points; `torus_square` makes the rest.

    The wave 0 along `y` is read among those from 0 on, and written among both. Returns the square
    of the largest absolute value of `z` at the points.
    """
    places, columns, rows, tables, block, between = squaring
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


def torus_square(cutoff: int, points: int) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Return the shape of coefficients, and the plan and workspace of `square_on_torus`.

    The shape is `(waves, chunks, 2, 8)`, float64: wave of `x`, chunk of waves of `y`, real or
    imaginary parts, wave in the chunk. The workspace is for one thread. `points` along each axis
    are `torus_points(cutoff)`, or more of that kind; the cutoff is at least 1.
    """
    places, tables = plan(points)
    half = cutoff // LANES + 1  # chunks of waves from 0 on
    waves, up = np.arange(-cutoff, cutoff + 1), np.arange(cutoff + 1)
    columns, rows = np.concatenate([half * LANES + up, up]), places[np.concatenate([-up, up])]
    block = np.empty((points, 2, LANES))
    between = np.zeros((points // LANES, 2 * half * LANES, 2, LANES))
    shape = (len(waves), 2 * half, 2, LANES)
    return shape, (places[waves], columns, rows, tables, block, between)
