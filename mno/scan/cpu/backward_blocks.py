"""The inner loops of the backward pass; the layout is that of `mno.scan.cpu.forward_blocks`."""

from __future__ import annotations

from typing import Any

from numba import njit

from mno.scan.cpu.job import OPTIONS
from mno.scan.cpu.simd import block_of_zeros, fused, load, load_int, store, zeros
from mno.scan.cpu.steps import (
    accumulate,
    advanced,
    advanced_by_hold,
    decays,
    decays_and_holds,
    first,
    inverses,
    like,
    plus,
    plus_dot,
    plus_hold_by_rate,
    plus_outer,
    plus_scaled,
    plus_weighted,
    put,
    put_rows,
    rows_like,
    second,
    times,
)
from mno.scan.cpu.tiles import INDEX_BYTES, ROW
from mno.scan.cpu.vectors import VECTOR_BYTES


def backward_block(count: int) -> Any:
    """Return the backward loop for blocks of `count` states.

    It runs the tile forward again from `h`, keeping states and decays in `kept_h` and `kept_a`,
    and then backwards. Further arguments:
        rates_e     A                                               row per state
        dA          its gradient, added to                          row per state
        dy          gradient by the output                          row per step
        gx, gt      gradients by `drive` and, through the decay, by `dt`, added to; row per step
        dB, dC      gradients by the weights, lane by lane, added to; a block per step
    """
    nothing = block_of_zeros(count)
    block = count * VECTOR_BYTES

    @njit(**OPTIONS)
    def run(
        h,
        g,
        rates,
        rates_e,
        dA,
        B,
        C,
        weights_row,
        dt,
        drive,
        dy,
        gx,
        gt,
        dB,
        dC,
        kept_h,
        kept_a,
        bounds,
        segments,
    ):
        a2 = rows_like(nothing(), rates, ROW)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            # One more state than steps is kept per segment: the one it starts from.
            put(kept_h + (start + segment) * block, state)
            for i in range(start, stop):
                at = i * ROW
                a = decays(a2, load(dt + at))
                state = advanced(state, a, load(drive + at), B + i * weights_row)
                put(kept_a + i * block, a)
                put(kept_h + (i + segment + 1) * block, state)

        a1 = rows_like(nothing(), rates_e, ROW)
        by_a = nothing()
        carry = rows_like(nothing(), g, ROW)
        for back in range(segments):
            segment = segments - 1 - back
            if back > 0:
                carry = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            after = like(carry, kept_h + (stop + segment) * block)
            for j in range(stop - start):
                i = stop - 1 - j
                at = i * ROW
                by_y = load(dy + at)
                by_h = plus_outer(carry, by_y, C + i * weights_row)
                before = like(carry, kept_h + (i + segment) * block)
                accumulate(dC + i * block, after, by_y)
                after = before
                accumulate(dB + i * block, by_h, load(drive + at))
                store(gx + at, plus_weighted(load(gx + at), by_h, B + i * weights_row))
                carry = times(by_h, like(carry, kept_a + i * block))
                through_decay = times(carry, before)
                store(gt + at, plus_dot(load(gt + at), through_decay, a1))
                by_a = plus_scaled(by_a, through_decay, load(dt + at))
        put_rows(g, ROW, carry)
        put_rows(dA, ROW, plus(rows_like(by_a, dA, ROW), by_a))

    return run


def backward_block_by_halves(count: int) -> Any:
    """Return the backward loop of the centred rule for blocks of `count` states.

    As `backward_block`, with `dt`, `drive` and the gradients by them those of half a step.
    """
    nothing = block_of_zeros(count)
    block = count * VECTOR_BYTES

    @njit(**OPTIONS)
    def run(
        h,
        g,
        rates,
        rates_e,
        dA,
        B,
        C,
        weights_row,
        dt,
        drive,
        dy,
        gx,
        gt,
        dB,
        dC,
        kept_h,
        kept_a,
        bounds,
        segments,
    ):
        a2 = rows_like(nothing(), rates, ROW)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            # One more state than steps is kept per segment: the one it starts from.
            put(kept_h + (start + segment) * block, state)
            for i in range(start, stop):
                at = i * ROW
                a = decays(a2, load(dt + at))
                half, weights = load(drive + at), B + i * weights_row
                state = times(a, plus_outer(advanced(state, a, half, weights), half, weights))
                put(kept_a + i * block, a)
                put(kept_h + (i + segment + 1) * block, state)

        a1 = rows_like(nothing(), rates_e, ROW)
        by_a = nothing()
        carry = rows_like(nothing(), g, ROW)
        for back in range(segments):
            segment = segments - 1 - back
            if back > 0:
                carry = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            for j in range(stop - start):
                i = stop - 1 - j
                at = i * ROW
                by_y, half, weights = load(dy + at), load(drive + at), B + i * weights_row
                a = like(carry, kept_a + i * block)
                before = like(carry, kept_h + (i + segment) * block)
                middle = advanced(before, a, half, weights)
                by_end = times(carry, a)
                by_middle = plus_outer(by_end, by_y, C + i * weights_row)
                by_drive = plus(by_middle, by_end)
                accumulate(dC + i * block, middle, by_y)
                accumulate(dB + i * block, by_drive, half)
                store(gx + at, plus_weighted(load(gx + at), by_drive, weights))
                carry = times(by_middle, a)
                through_decay = plus(
                    times(by_end, plus_outer(middle, half, weights)), times(carry, before)
                )
                store(gt + at, plus_dot(load(gt + at), through_decay, a1))
                by_a = plus_scaled(by_a, through_decay, load(dt + at))
        put_rows(g, ROW, carry)
        put_rows(dA, ROW, plus(rows_like(by_a, dA, ROW), by_a))

    return run


def backward_block_by_hold(count: int) -> Any:
    """Return the backward loop of the exact hold for blocks of `count` states.

    As `backward_block`, but `drive` is u, and `gt` receives all of the gradient by `dt`.
    """
    nothing = block_of_zeros(count)
    block = count * VECTOR_BYTES

    @njit(**OPTIONS)
    def run(
        h,
        g,
        rates,
        rates_e,
        dA,
        B,
        C,
        weights_row,
        dt,
        drive,
        dy,
        gx,
        gt,
        dB,
        dC,
        kept_h,
        kept_a,
        bounds,
        segments,
    ):
        a2 = rows_like(nothing(), rates, ROW)
        inverse = inverses(a2)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            # One more state than steps is kept per segment: the one it starts from.
            put(kept_h + (start + segment) * block, state)
            for i in range(start, stop):
                at = i * ROW
                both = decays_and_holds(a2, inverse, load(dt + at))
                state = advanced_by_hold(
                    state, first(both), second(both), load(drive + at), B + i * weights_row
                )
                put(kept_a + 2 * i * block, both)
                put(kept_h + (i + segment + 1) * block, state)

        a1 = rows_like(nothing(), rates_e, ROW)
        by_a = nothing()
        carry = rows_like(nothing(), g, ROW)
        for back in range(segments):
            segment = segments - 1 - back
            if back > 0:
                carry = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            after = like(carry, kept_h + (stop + segment) * block)
            for j in range(stop - start):
                i = stop - 1 - j
                at = i * ROW
                by_y = load(dy + at)
                by_h = plus_outer(carry, by_y, C + i * weights_row)
                before = like(carry, kept_h + (i + segment) * block)
                accumulate(dC + i * block, after, by_y)
                after = before
                u = load(drive + at)
                step = load(dt + at)
                a = like(carry, kept_a + 2 * i * block)
                hold = like(carry, kept_a + (2 * i + 1) * block)
                by_weight = times(by_h, hold)
                accumulate(dB + i * block, by_weight, u)
                store(gx + at, plus_weighted(load(gx + at), by_weight, B + i * weights_row))
                by_a = plus_hold_by_rate(
                    by_a, by_h, a2, inverse, a, hold, step, u, B + i * weights_row
                )
                carry = times(by_h, a)
                through_decay = times(carry, before)
                by_step = plus_dot(load(gt + at), through_decay, a1)
                # The derivative of (exp(dt A) - 1) / A by dt is exp(dt A).
                by_drive = plus_weighted(zeros(), carry, B + i * weights_row)
                store(gt + at, fused(by_drive, u, by_step))
                by_a = plus_scaled(by_a, through_decay, step)
        put_rows(g, ROW, carry)
        put_rows(dA, ROW, plus(rows_like(by_a, dA, ROW), by_a))

    return run
