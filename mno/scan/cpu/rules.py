"""The three discretisations, and the loops over the steps of a tile that are made of them.

Exponential, softplus and their relatives come first. They are polynomials, Chebyshev fits whose
errors, relative to the function's value, are below 5e-7; a NaN passes through all of them.

A block is a list of vectors: one vector per state, one lane per channel. Weights (B or C) lie in
memory, one float per state of the block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.core import types

from mno.scan.cpu import vectors as simd
from mno.scan.cpu.job import FLOAT_BYTES, INDEX_BYTES, ROW, made
from mno.scan.cpu.vectors import AVX512, VECTOR, VECTOR_BYTES, Address, Lanes, emitted

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


def exp2(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
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
    a, whole, slope = exp2(rate * dt)
    return a, whole.choose("==", 0.0, slope * (dt * LOG2E), (a - 1.0) * inverse)


def hold_by_rate(rate: Lanes, inverse: Lanes, dt: Lanes, a: Lanes, hold: Lanes) -> Lanes:
    """Return the derivative of (a - 1) / A by A."""
    x = rate * dt
    near = polynomial(x * (1 / LOG2E), PHI_SLOPE_COEFFICIENTS) * (dt * dt)
    return x.absolute().choose("<", 0.5, near, (dt * a - hold) * inverse)


def _softplus(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return log(1 + exp(x)), and exp(-|x|)."""
    e = exp2(x.absolute() * -LOG2E)[0]
    return polynomial(e, LOG1P_COEFFICIENTS) * e + x.choose(">", 0.0, x, 0.0), e


softplus = emitted(VECTOR)(lambda x: _softplus(x)[0])


@emitted(types.UniTuple(VECTOR, 2))
def softplus_and_slope(x: Lanes) -> list[Lanes]:
    """Return log(1 + exp(x)) and its derivative, 1 / (1 + exp(-x))."""
    value, e = _softplus(x)
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


def weight(weights: Address, n: int) -> Lanes:
    """Return weight_n in every lane."""
    return weights.load_everywhere(n * FLOAT_BYTES)


def plus_outer(block: Block, factor: Lanes, weights: Address) -> Block:
    """Return block_n + factor weight_n."""
    return [value + factor * weight(weights, n) for n, value in enumerate(block)]


def plus_weighted(total: Lanes, block: Block, weights: Address) -> Lanes:
    """Return total + sum_n block_n weight_n."""
    for n, value in enumerate(block):
        total = total + value * weight(weights, n)
    return total


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


class Step(NamedTuple):
    """What a step is made of: A log2(e), 1 / A, dt, x, where B and C lie, the gradient by y."""

    rates: Block
    inverse: Block
    dt: Lanes
    x: Lanes
    B: Address
    C: Address
    by_y: Lanes


class Back(NamedTuple):
    """What a step back finds: gradients by x B, by the state before, and by dt A via the decay."""

    read: Block  # the state that the output is read from
    by_weight: Block
    carry: Block
    through: Callable[
        [], Block
    ]  # asked for behind the stores: B is loaded anew, by which bits hold
    by_rates: Block  # with what reaches A other than through the decay
    by_step: Lanes | None = None  # what reaches dt other than through the decay and through x


class Rule:
    """One discretisation, in the symbols of the scan; here `simplified`, the others say otherwise.

    h_t = a h_{t-1} + x B,   y_t = C . h_t,   with a = exp(dt A) and x = dt u
    """

    reads_input = False
    """Whether x is u itself, and not dt u."""
    num_kept = 1
    """Blocks that `decays` returns, one behind the other."""

    def decays(self, rates: Block, inverse: Block, dt: Lanes) -> Block:
        """Return what a step makes of dt, which is kept for the way back: a."""
        return [exp2(rate * dt)[0] for rate in rates]

    def read(self, h: Block, kept: Block, x: Lanes, B: Address) -> Block:
        """Return the state that the output is read from."""
        return [h[n] * kept[n] + x * weight(B, n) for n in range(len(h))]

    def end(self, read: Block, kept: Block, x: Lanes, B: Address) -> Block:
        """Return the state after the step."""
        return read

    def back(
        self, carry: Block, by_rates: Block, before: Block, after: Block, kept: Block, step: Step
    ) -> Back:
        """Go back, given the gradient by the state after the step, and both states."""
        by_read = plus_outer(carry, step.by_y, step.C)
        carry = times(by_read, kept)
        return Back(after, by_read, carry, lambda: times(carry, before), by_rates)


class _Centred(Rule):
    """Two half steps, the output between them: m = a h_{t-1} + x B, y_t = C . m, h_t = a (m + x B).

    a, dt and x = dt u are those of half a step, and so are the gradients by them.
    """

    def end(self, read: Block, kept: Block, x: Lanes, B: Address) -> Block:
        return times(kept, plus_outer(read, x, B))

    def back(
        self, carry: Block, by_rates: Block, before: Block, after: Block, kept: Block, step: Step
    ) -> Back:
        read = self.read(before, kept, step.x, step.B)
        by_end = times(carry, kept)
        by_read = plus_outer(by_end, step.by_y, step.C)
        carry = times(by_read, kept)

        def through() -> Block:
            return plus(times(by_end, plus_outer(read, step.x, step.B)), times(carry, before))

        return Back(read, plus(by_read, by_end), carry, through, by_rates)


class _ExactHold(Rule):
    """h_t = a h_{t-1} + b x B with b = (a - 1) / A and x = u; b is kept behind a."""

    reads_input = True
    num_kept = 2

    def decays(self, rates: Block, inverse: Block, dt: Lanes) -> Block:
        pairs = [decay_and_hold(rate, one, dt) for rate, one in zip(rates, inverse, strict=True)]
        return [a for a, _ in pairs] + [hold for _, hold in pairs]

    def read(self, h: Block, kept: Block, x: Lanes, B: Address) -> Block:
        a, hold = _halves(kept)
        return [h[n] * a[n] + (x * weight(B, n)) * hold[n] for n in range(len(h))]

    def back(
        self, carry: Block, by_rates: Block, before: Block, after: Block, kept: Block, step: Step
    ) -> Back:
        (a, hold), sums = _halves(kept), []
        by_read = plus_outer(carry, step.by_y, step.C)
        for n in range(len(a)):
            slope = hold_by_rate(step.rates[n], step.inverse[n], step.dt, a[n], hold[n])
            sums.append(by_rates[n] + by_read[n] * (step.x * weight(step.B, n)) * slope)
        carry = times(by_read, a)
        # The derivative of (exp(dt A) - 1) / A by dt is exp(dt A).
        by_step = plus_weighted(step.x.constant(0.0), carry, step.B) * step.x
        by_weight = times(by_read, hold)
        return Back(after, by_weight, carry, lambda: times(carry, before), sums, by_step)


def _halves(blocks: Block) -> tuple[Block, Block]:
    return blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]


def _half(blocks: types.UniTuple) -> types.UniTuple:
    return types.UniTuple(VECTOR, blocks.count // 2)


RULES = {"simplified": Rule(), "zoh": _ExactHold(), "centred": _Centred()}

inverses = emitted(0)(lambda rates: [rate.constant(LOG2E) / rate for rate in rates])
first = emitted(_half)(lambda blocks: _halves(blocks)[0])
second = emitted(_half)(lambda blocks: _halves(blocks)[1])
like = emitted(0)(lambda block, address: stored(address, len(block)))
keep = emitted()(put)
sum_of = emitted(0)(plus)


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


def forward_block(rule: Rule, count: int) -> Any:
    """Return the forward loop over all steps of a tile, for a vector of channels, `count` states.

    The state stays in registers along the steps. A tile may hold several lines: `bounds`
    (segments + 1 integers) cuts it, and only the first part goes on from the tile before.

        h       state                                       row per state
        rates   A log2(e)                                   row per state
        B, C    weights, `weights_row` bytes per step
        dt      step                                        row per step
        drive   the rule's x                                row per step
        y       output, added to                            row per step
    """
    nothing = simd.zeros_of(types.UniTuple(VECTOR, count))

    @emitted(0)
    def advance(state, rates, inverse, dt, drive, y, B, C):  # type: ignore[no-untyped-def]
        kept, x = rule.decays(rates, inverse, dt.load()), drive.load()
        read = rule.read(state, kept, x, B)
        y.store(plus_weighted(y.load(), read, C))
        return rule.end(read, kept, x, B)

    def run(h, rates, B, C, weights_row, dt, drive, y, bounds, segments):
        a2 = rows_like(nothing(), rates, ROW)
        inverse = inverses(a2)
        state = rows_like(nothing(), h, ROW)
        for segment in range(segments):
            if segment > 0:
                state = nothing()
            start = simd.load_int(bounds + INDEX_BYTES * segment)
            stop = simd.load_int(bounds + INDEX_BYTES * (segment + 1))
            for i in range(start, stop):
                at, weights = i * ROW, i * weights_row
                state = advance(
                    state, a2, inverse, dt + at, drive + at, y + at, B + weights, C + weights
                )
        put_rows(h, ROW, state)

    return made(run, f"forward_{type(rule).__name__}_{count}")


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
    nothing = simd.zeros_of(types.UniTuple(VECTOR, count))
    block = count * VECTOR_BYTES
    kept_block = rule.num_kept * block

    @emitted(0)
    def advance(state, rates, inverse, dt, drive, B, kept_a, kept_h):  # type: ignore[no-untyped-def]
        kept, x = rule.decays(rates, inverse, dt.load()), drive.load()
        end = rule.end(rule.read(state, kept, x, B), kept, x, B)
        put(kept_a, kept)
        put(kept_h, end)
        return end

    @emitted(types.UniTuple(VECTOR, 2 * count))
    def retreat(  # type: ignore[no-untyped-def]
        carry, by_a, before, after, rates, inverse, rates_e, kept_a, B, C, dt, drive, dy, gx, gt,
        dB, dC,
    ):  # fmt: skip
        kept, x, by_y = stored(kept_a, rule.num_kept * count), drive.load(), dy.load()
        step = Step(rates, inverse, dt.load(), x, B, C, by_y)
        back = rule.back(carry, by_a, before, after, kept, step)
        accumulate(dC, back.read, by_y)
        accumulate(dB, back.by_weight, x)
        gx.store(plus_weighted(gx.load(), back.by_weight, B))
        by_step, through = gt.load(), back.through()
        for value, rate in zip(through, rates_e, strict=True):
            by_step = by_step + value * rate
        gt.store(by_step if back.by_step is None else back.by_step + by_step)
        return back.carry + plus(back.by_rates, [value * step.dt for value in through])

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
            start = simd.load_int(bounds + INDEX_BYTES * segment)
            stop = simd.load_int(bounds + INDEX_BYTES * (segment + 1))
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
            start = simd.load_int(bounds + INDEX_BYTES * segment)
            stop = simd.load_int(bounds + INDEX_BYTES * (segment + 1))
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

    return made(run, f"backward_{type(rule).__name__}_{count}")
