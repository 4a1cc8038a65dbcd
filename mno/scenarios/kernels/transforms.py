"""Fourier transforms of eight columns at a time, in place.

    z_j = sum over k of exp(2 pi i j k / n) Z_k        (`to_points`)
    Z_k = sum over j of exp(-2 pi i j k / n) z_j       (`to_waves`, not normalised)

A block holds a row (`mno.scenarios.kernels.vectors`) for each of the `n` points or waves. Points
are in order. The row of a wave is its place: that with the digits of its number reversed, so that
nothing need be reordered. `n` is a product of the radices 2, 3, 4, 5 and 8, and a transform
has a stage for each: from the whole to parts to reach the waves (Gentleman and Sande 1966,
doi:10.1145/1464291.1464352), and from parts to the whole to reach the points (Cooley and Tukey
1965, doi:10.2307/2003354).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mno.core.compiled import inlined, named
from mno.scenarios.kernels.vectors import (
    ROW,
    Row,
    beyond,
    emitted,
    load,
    load_everywhere,
    store,
    transformed,
)

RADICES = (8, 4, 2, 3, 5)


@dataclass(frozen=True)
class Plan:
    """What a transform of `n` points needs.

    Attributes:
        places: Row of each wave, from 0 to `n - 1`.
        tables: Arguments of the kernels: the radices; `exp(2 pi i s j / length)` of all stages, for
            point `j` and `s = 1 .. radix - 1`; where each stage begins in them.
    """

    places: np.ndarray
    tables: tuple[np.ndarray, np.ndarray, np.ndarray]


def factors(n: int) -> list[int]:
    """Return the radices that a number of points is the product of; empty if it is none."""
    found = []
    for radix in RADICES:
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found if n == 1 else []


def plan(n: int) -> Plan:
    """Plan the transforms of `n` points, a product of the radices."""
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
    return Plan(places, (np.array(radices), np.concatenate(turns), np.array(starts)))


def _stage(radix: int, sign: int) -> Any:
    """Return a function that does one stage, to points for a positive sign.

    It takes the addresses of a block and of the stage's turns, the points of the block, and those
    of the parts, `length`, that the stage makes (to points) or splits (to waves).
    """

    def turned(rows: list[Row], turns: list[Row]) -> list[Row]:
        return [rows[0], *(row * turn for row, turn in zip(rows[1:], turns, strict=True))]

    @emitted
    def butterfly(builder: Any, first: Any, distance: Any, turns: Any) -> None:
        """Transform `radix` rows."""
        addresses = [beyond(builder, first, distance, s) for s in range(radix)]
        rows = [load(builder, address) for address in addresses]
        factors = [
            load_everywhere(builder, turns, s).conjugate_if(sign < 0) for s in range(radix - 1)
        ]
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
