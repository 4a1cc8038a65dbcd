"""The three discretisations, and the loops over the steps of a tile that are made of them.

Exponential, softplus and their relatives come first. They are polynomials, Chebyshev fits whose
errors, relative to the function's value, are below 5e-7; a NaN passes through all of them.

A block is a list of vectors: one vector per state, one lane per channel. Weights (B or C) lie in
memory, one float per state of the block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit
from numba.core import types

from mno.scan.cpu.job import INDEX_BYTES, OPTIONS, ROW
from mno.scan.cpu.vectors import (
    AVX512,
    FLOAT_BYTES,
    VECTOR,
    VECTOR_BYTES,
    Address,
    Lanes,
    block_of_zeros,
    emitted,
    half,
    load_int,
    twice,
)

Block = list[Lanes]

LOG2E = 1.4426950408889634
# (2**r - 1) / r on [-1/2, 1/2], highest power first.
EXP2_COEFFICIENTS = (0.00133908674, 0.00966637369, 0.055503571, 0.240223489, 0.693147188)
# log(1 + e) / e on [0, 1], highest power first.
LOG1P_COEFFICIENTS = (0.0052534578, -0.0295885074, 0.078361668, -0.136747697, 0.191114311)
LOG1P_COEFFICIENTS += (-0.248443699, 0.333192713, -0.499995015, 0.999999971)
# d/dz (exp(z) - 1) / z for |z| <= log(2) / 2: the Taylor series, highest power first.
PHI_SLOPE_COEFFICIENTS = (1 / 5760, 1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2)
# Adding it rounds to an integer, which is then in the low bits of the sum.
_ROUNDING = 12582912.0
_LOWEST, _HIGHEST = -126.0, 127.0


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """Evaluate a polynomial, highest power first."""
    value = x.constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def exp2(x: Lanes) -> Lanes:
    """Return 2**x."""
    return exp2_in_parts(x)[0]


def exp2_in_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return 2**x, the integer nearest to x, and (2**r - 1) / r, r being x minus that integer."""
    if AVX512:
        whole = x.rounded()
        r = x - whole
        slope = polynomial(r, EXP2_COEFFICIENTS)
        return (slope * r + 1.0).scaled(whole), whole, slope
    x = x.where(">", _LOWEST, _LOWEST).where("<", _HIGHEST, _HIGHEST)
    shifted = x + _ROUNDING
    whole = shifted - _ROUNDING
    r = x - whole
    slope = polynomial(r, EXP2_COEFFICIENTS)
    return (slope * r + 1.0).add_to_exponent(shifted), whole, slope


def decay_and_hold(rate: Lanes, inverse: Lanes, dt: Lanes) -> tuple[Lanes, Lanes]:
    """Return a = exp(dt A) and (a - 1) / A, given A log2(e) and 1 / A.

    Where dt A is small, (a - 1) / dt A is the slope of the exponential's own polynomial: nothing
    cancels, and nothing is divided by zero.
    """
    a, whole, slope = exp2_in_parts(rate * dt)
    return a, whole.choose("==", 0.0, slope * (dt * LOG2E), (a - 1.0) * inverse)


def hold_by_rate(rate: Lanes, inverse: Lanes, dt: Lanes, a: Lanes, hold: Lanes) -> Lanes:
    """Return the derivative of (a - 1) / A by A."""
    x = rate * dt
    near = polynomial(x * (1 / LOG2E), PHI_SLOPE_COEFFICIENTS) * (dt * dt)
    return x.absolute().choose("<", 0.5, near, (dt * a - hold) * inverse)


@emitted(VECTOR)
def softplus(x: Lanes) -> Lanes:
    """Return log(1 + exp(x))."""
    e = exp2(x.absolute() * -LOG2E)
    return polynomial(e, LOG1P_COEFFICIENTS) * e + x.choose(">", 0.0, x, 0.0)


@emitted(types.UniTuple(VECTOR, 2))
def softplus_and_slope(x: Lanes) -> list[Lanes]:
    """Return log(1 + exp(x)) and its derivative, 1 / (1 + exp(-x))."""
    e = exp2(x.absolute() * -LOG2E)
    value = polynomial(e, LOG1P_COEFFICIENTS) * e + x.choose(">", 0.0, x, 0.0)
    return [value, x.choose(">", 0.0, 1.0, e) / (e + 1.0)]


@emitted(VECTOR)
def by_log2e(x: Lanes) -> Lanes:
    """Return x log2(e)."""
    return x * LOG2E


def times(a: Block, b: Block) -> Block:
    """Return a_n b_n."""
    return [x * y for x, y in zip(a, b, strict=True)]


def plus(a: Block, b: Block) -> Block:
    """Return a_n + b_n."""
    return [x + y for x, y in zip(a, b, strict=True)]


def plus_outer(block: Block, factor: Lanes, weights: Address) -> Block:
    """Return block_n + factor weight_n."""
    return [
        value + factor * weights.load_everywhere(n * FLOAT_BYTES) for n, value in enumerate(block)
    ]


def plus_weighted(total: Lanes, block: Block, weights: Address) -> Lanes:
    """Return total + sum_n block_n weight_n."""
    for n, value in enumerate(block):
        total = total + value * weights.load_everywhere(n * FLOAT_BYTES)
    return total


def plus_dot(total: Lanes, a: Block, b: Block) -> Lanes:
    """Return total + sum_n a_n b_n."""
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


def advanced(h: Block, a: Block, drive: Lanes, weights: Address) -> Block:
    """Return a h + drive B."""
    return [
        state * decay + drive * weights.load_everywhere(n * FLOAT_BYTES)
        for n, (state, decay) in enumerate(zip(h, a, strict=True))
    ]


def accumulate(target: Address, block: Block, factor: Lanes) -> None:
    """Add block_n factor to the vectors stored one behind the other at `target`."""
    for n, value in enumerate(block):
        at = n * VECTOR_BYTES
        target.store(target.load(at) + value * factor, at)


def stored(address: Address, count: int) -> Block:
    """Load a block stored one vector behind the other."""
    return [address.load(n * VECTOR_BYTES) for n in range(count)]


def put(address: Address, block: Block) -> None:
    """Store a block, one vector behind the other."""
    for n, value in enumerate(block):
        address.store(value, n * VECTOR_BYTES)


class Rule:
    """One discretisation, in the symbols of the scan; here `simplified`, the others say otherwise.

        h_t = a h_{t-1} + x B,   y_t = C . h_t,   with a = exp(dt A) and x = dt u

    Backwards, `by_...` is the gradient by what follows, and `carry` that by the state after a step.
    """

    reads_input = False
    """Whether x is u itself, and not dt u."""
    num_kept = 1
    """Blocks that `decays` returns, one behind the other."""

    def decays(self, rates: Block, inverse: Block, dt: Lanes) -> Block:
        """Return what a step makes of dt, which is kept for the way back: a."""
        return [exp2(rate * dt) for rate in rates]

    def read(self, h: Block, kept: Block, x: Lanes, B: Address) -> Block:
        """Return the state that the output is read from."""
        return advanced(h, kept, x, B)

    def end(self, read: Block, kept: Block, x: Lanes, B: Address) -> Block:
        """Return the state after the step."""
        return read

    def read_again(self, before: Block, after: Block, kept: Block, x: Lanes, B: Address) -> Block:
        """Return what `read` did, given the states before and after the step."""
        return after

    def by_end(self, carry: Block, kept: Block) -> Block:
        """Return the gradient by that state, but for what comes through the output."""
        return carry

    def by_weight(self, by_read: Block, by_end: Block, kept: Block) -> Block:
        """Return the gradient by x B."""
        return by_read

    def by_rates(self, total: Block, by_read: Block, kept: Block, step: Step) -> Block:
        """Add what reaches A other than through the decay."""
        return total

    def through(self, carry: Block, before: Block, by_end: Block, read: Block, step: Step) -> Block:
        """Return the gradient by dt A, as far as it comes through the decay."""
        return times(carry, before)

    def by_step(self, total: Lanes, carry: Block, step: Step) -> Lanes:
        """Add what reaches dt other than through the decay and through x."""
        return total


class _Centred(Rule):
    """Two half steps, the output between them: m = a h_{t-1} + x B, y_t = C . m, h_t = a (m + x B).

    a, dt and x = dt u are those of half a step, and so are the gradients by them.
    """

    def end(self, read: Block, kept: Block, x: Lanes, B: Address) -> Block:
        return times(kept, plus_outer(read, x, B))

    def read_again(self, before: Block, after: Block, kept: Block, x: Lanes, B: Address) -> Block:
        return self.read(before, kept, x, B)

    def by_end(self, carry: Block, kept: Block) -> Block:
        return times(carry, kept)

    def by_weight(self, by_read: Block, by_end: Block, kept: Block) -> Block:
        return plus(by_read, by_end)

    def through(self, carry: Block, before: Block, by_end: Block, read: Block, step: Step) -> Block:
        return plus(times(by_end, plus_outer(read, step.x, step.B)), times(carry, before))


class _ExactHold(Rule):
    """h_t = a h_{t-1} + b x B with b = (a - 1) / A and x = u; b is kept behind a."""

    reads_input = True
    num_kept = 2

    def decays(self, rates: Block, inverse: Block, dt: Lanes) -> Block:
        pairs = [decay_and_hold(rate, one, dt) for rate, one in zip(rates, inverse, strict=True)]
        return [a for a, _ in pairs] + [hold for _, hold in pairs]

    def read(self, h: Block, kept: Block, x: Lanes, B: Address) -> Block:
        return [
            state * decay + (x * B.load_everywhere(n * FLOAT_BYTES)) * hold
            for n, (state, decay, hold) in enumerate(zip(h, *_halves(kept), strict=True))
        ]

    def by_weight(self, by_read: Block, by_end: Block, kept: Block) -> Block:
        return times(by_read, _halves(kept)[1])

    def by_rates(self, total: Block, by_read: Block, kept: Block, step: Step) -> Block:
        sums, (a, hold) = [], _halves(kept)
        for n in range(len(total)):
            slope = hold_by_rate(step.rates[n], step.inverse[n], step.dt, a[n], hold[n])
            drive = step.x * step.B.load_everywhere(n * FLOAT_BYTES)
            sums.append(total[n] + by_read[n] * drive * slope)
        return sums

    def by_step(self, total: Lanes, carry: Block, step: Step) -> Lanes:
        # The derivative of (exp(dt A) - 1) / A by dt is exp(dt A).
        return plus_weighted(step.x.constant(0.0), carry, step.B) * step.x + total


def _halves(blocks: Block) -> tuple[Block, Block]:
    return blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]


class Step(NamedTuple):
    """What a step is made of: A log2(e), 1 / A, dt, x, and where B lies."""

    rates: Block
    inverse: Block
    dt: Lanes
    x: Lanes
    B: Address


RULES = {"simplified": Rule(), "zoh": _ExactHold(), "centred": _Centred()}


@emitted(0)
def inverses(rates: Block) -> Block:
    """Return 1 / A, given A log2(e)."""
    return [rate.constant(LOG2E) / rate for rate in rates]


@emitted(half)
def first(blocks: Block) -> Block:
    """Return the first of two blocks."""
    return _halves(blocks)[0]


@emitted(half)
def second(blocks: Block) -> Block:
    """Return the second of two blocks."""
    return _halves(blocks)[1]


@emitted(0)
def like(block: Block, address: Address) -> Block:
    """Load a block of as many vectors as `block` has, stored one behind the other."""
    return stored(address, len(block))


@emitted()
def keep(address: Address, block: Block) -> None:
    """Store a block, one vector behind the other."""
    put(address, block)


@emitted(0)
def rows_like(block: Block, address: Address, row: Address) -> Block:
    """Load a block of as many vectors as `block` has, one per row."""
    values = []
    for _ in block:
        values.append(address.load())
        address = address.moved(row)
    return values


@emitted()
def put_rows(address: Address, row: Address, block: Block) -> None:
    """Store a block, one vector per row."""
    for value in block:
        address.store(value)
        address = address.moved(row)


@emitted(0)
def sum_of(a: Block, b: Block) -> Block:
    """Return a_n + b_n."""
    return plus(a, b)


def forward_block(rule: Rule, count: int) -> Any:
    """Return the forward loop over all steps of a tile, for a vector of channels, `count` states.

    The state stays in registers along the steps. A tile may hold several lines: `bounds`
    (segments + 1 integers) cuts it, and only the first part goes on from the state of the tile
    before.

        h       state                                       row per state
        rates   A log2(e)                                   row per state
        B, C    weights, `weights_row` bytes per step
        dt      step                                        row per step
        drive   the rule's x                                row per step
        y       output, added to                            row per step
    """
    nothing = block_of_zeros(count)

    @emitted(0)
    def advance(state, rates, inverse, dt, drive, y, B, C):  # type: ignore[no-untyped-def]
        kept, x = rule.decays(rates, inverse, dt.load()), drive.load()
        read = rule.read(state, kept, x, B)
        y.store(plus_weighted(y.load(), read, C))
        return rule.end(read, kept, x, B)

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
                at, weights = i * ROW, i * weights_row
                state = advance(
                    state, a2, inverse, dt + at, drive + at, y + at, B + weights, C + weights
                )
        put_rows(h, ROW, state)

    return run


def backward_block(rule: Rule, count: int) -> Any:
    """Return the backward loop for blocks of `count` states; what it shares is as in the forward.

    It runs the tile forward again from `h`, keeping states and decays in `kept_h` and `kept_a`,
    and then backwards, with the gradients of the state and of A in registers. Further arguments:
        g           gradient of the loss by the state, times the decay     row per state
        rates_e     A                                               row per state
        dA          its gradient, added to                          row per state
        dy          gradient by the output                          row per step
        gx, gt      gradients by `drive` and by `dt` (but for what comes through `drive`), added to;
                    row per step
        dB, dC      gradients by the weights, lane by lane, added to; a block per step
    """
    nothing = block_of_zeros(count)
    block = count * VECTOR_BYTES
    kept_block = rule.num_kept * block

    @emitted(0)
    def advance(state, rates, inverse, dt, drive, B, kept_a, kept_h):  # type: ignore[no-untyped-def]
        kept, x = rule.decays(rates, inverse, dt.load()), drive.load()
        end = rule.end(rule.read(state, kept, x, B), kept, x, B)
        put(kept_a, kept)
        put(kept_h, end)
        return end

    @emitted(twice)
    def retreat(  # type: ignore[no-untyped-def]
        carry, by_a, before, after, rates, inverse, rates_e, kept_a, B, C, dt, drive, dy, gx, gt,
        dB, dC,
    ):  # fmt: skip
        kept, x, by_y = stored(kept_a, rule.num_kept * count), drive.load(), dy.load()
        step = Step(rates, inverse, dt.load(), x, B)
        read = rule.read_again(before, after, kept, x, B)
        by_end = rule.by_end(carry, kept)
        by_read = plus_outer(by_end, by_y, C)
        accumulate(dC, read, by_y)
        by_weight = rule.by_weight(by_read, by_end, kept)
        accumulate(dB, by_weight, x)
        gx.store(plus_weighted(gx.load(), by_weight, B))
        by_a = rule.by_rates(by_a, by_read, kept, step)
        carry = times(by_read, kept[:count])
        through = rule.through(carry, before, by_end, read, step)
        gt.store(rule.by_step(plus_dot(gt.load(), through, rates_e), carry, step))
        return carry + [total + value * step.dt for total, value in zip(by_a, through, strict=True)]

    @njit(**OPTIONS)
    def run(
        h, g, rates, rates_e, dA, B, C, weights_row, dt, drive, dy, gx, gt, dB, dC, kept_h, kept_a,
        bounds, segments,
    ):  # fmt: skip
        a2 = rows_like(nothing(), rates, ROW)
        inverse = inverses(a2)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = load_int(bounds + INDEX_BYTES * segment)
            stop = load_int(bounds + INDEX_BYTES * (segment + 1))
            # One more state than steps is kept per segment: the one it starts from.
            keep(kept_h + (start + segment) * block, state)
            for i in range(start, stop):
                state = advance(
                    state, a2, inverse, dt + i * ROW, drive + i * ROW, B + i * weights_row,
                    kept_a + i * kept_block, kept_h + (i + segment + 1) * block,
                )  # fmt: skip

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
                at, weights = i * ROW, i * weights_row
                before = like(carry, kept_h + (i + segment) * block)
                both = retreat(
                    carry, by_a, before, after, a2, inverse, a1, kept_a + i * kept_block,
                    B + weights, C + weights, dt + at, drive + at, dy + at, gx + at, gt + at,
                    dB + i * block, dC + i * block,
                )  # fmt: skip
                carry, by_a, after = first(both), second(both), before
        put_rows(g, ROW, carry)
        put_rows(dA, ROW, sum_of(rows_like(by_a, dA, ROW), by_a))

    return run
