"""The inner loops: one block of states, one vector of channels, all steps of a tile.

The state, its gradient and the gradient of A stay in registers along the steps. A tile may hold
several lines: `bounds` (segments + 1 integers) cuts it, and only the first part goes on from the
state of the tile before.

    rates   A log2(e)                                   row per state
    h, g    state; gradient of the loss by the state, times the decay   row per state
    dt      step                                        row per step
    drive   dt u (simplified), u (exact hold)           row per step
    y       output, added to                            row per step
"""

from __future__ import annotations

from typing import Any

from numba import njit

from mno.scan.cpu.job import OPTIONS
from mno.scan.cpu.simd import block_of_zeros, load, load_int, store
from mno.scan.cpu.steps import (
    advanced,
    advanced_by_hold,
    decays,
    decays_and_holds,
    first,
    inverses,
    plus_outer,
    plus_weighted,
    put_rows,
    rows_like,
    second,
    times,
)
from mno.scan.cpu.tiles import INDEX_BYTES, ROW


def forward_block(count: int) -> Any:
    """Return the forward loop for blocks of `count` states."""
    nothing = block_of_zeros(count)

    @njit(**OPTIONS)
    def run(h, rates, B, C, weights_row, dt, drive, y, bounds, segments):
        a2 = rows_like(nothing(), rates, ROW)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            for i in range(start, stop):
                at = i * ROW
                a = decays(a2, load(dt + at))
                state = advanced(state, a, load(drive + at), B + i * weights_row)
                store(y + at, plus_weighted(load(y + at), state, C + i * weights_row))
        put_rows(h, ROW, state)

    return run


def forward_block_by_halves(count: int) -> Any:
    """Return the forward loop of the centred rule for blocks of `count` states.

    The output is taken between two half steps; `dt` and `drive` are those of half a step.
    """
    nothing = block_of_zeros(count)

    @njit(**OPTIONS)
    def run(h, rates, B, C, weights_row, dt, drive, y, bounds, segments):
        a2 = rows_like(nothing(), rates, ROW)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            for i in range(start, stop):
                at = i * ROW
                a = decays(a2, load(dt + at))
                half, weights = load(drive + at), B + i * weights_row
                middle = advanced(state, a, half, weights)
                store(y + at, plus_weighted(load(y + at), middle, C + i * weights_row))
                state = times(a, plus_outer(middle, half, weights))
        put_rows(h, ROW, state)

    return run


def forward_block_by_hold(count: int) -> Any:
    """Return the forward loop of the exact hold for blocks of `count` states; `drive` is u."""
    nothing = block_of_zeros(count)

    @njit(**OPTIONS)
    def run(h, rates, B, C, weights_row, dt, drive, y, bounds, segments):
        a2 = rows_like(nothing(), rates, ROW)
        inverse = inverses(a2)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            for i in range(start, stop):
                at = i * ROW
                both = decays_and_holds(a2, inverse, load(dt + at))
                state = advanced_by_hold(
                    state, first(both), second(both), load(drive + at), B + i * weights_row
                )
                store(y + at, plus_weighted(load(y + at), state, C + i * weights_row))
        put_rows(h, ROW, state)

    return run
