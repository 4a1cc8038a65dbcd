"""What happens to a block of states at one step of a scan, as vector code.

A block is a tuple of vectors: one vector per state, one lane per channel. Weights (B or C) lie in
memory, one float per state of the block.
"""

from __future__ import annotations

from mno.scan.cpu.functions import LOG2E, decay_and_hold, exp2, hold_by_rate
from mno.scan.cpu.vectors import FLOAT_BYTES, VECTOR_BYTES, Address, Lanes, emitted, half, twice


@emitted(0)
def decays(rates: list[Lanes], dt: Lanes) -> list[Lanes]:
    """Return exp(dt A), given A log2(e)."""
    return [exp2(rate * dt) for rate in rates]


@emitted(0)
def inverses(rates: list[Lanes]) -> list[Lanes]:
    """Return 1 / A, given A log2(e)."""
    return [rate.constant(LOG2E) / rate for rate in rates]


@emitted(twice)
def decays_and_holds(rates: list[Lanes], inverse: list[Lanes], dt: Lanes) -> list[Lanes]:
    """Return exp(dt A) and, behind them, (exp(dt A) - 1) / A."""
    pairs = [decay_and_hold(rate, one, dt) for rate, one in zip(rates, inverse, strict=True)]
    return [a for a, _ in pairs] + [hold for _, hold in pairs]


@emitted(half)
def first(blocks: list[Lanes]) -> list[Lanes]:
    """Return the first of two blocks."""
    return blocks[: len(blocks) // 2]


@emitted(half)
def second(blocks: list[Lanes]) -> list[Lanes]:
    """Return the second of two blocks."""
    return blocks[len(blocks) // 2 :]


@emitted(0)
def advanced_by_hold(
    h: list[Lanes], a: list[Lanes], hold: list[Lanes], u: Lanes, weights: Address
) -> list[Lanes]:
    """Return a h + hold B u."""
    return [
        state * decay + (u * weights.load_everywhere(n * FLOAT_BYTES)) * held
        for n, (state, decay, held) in enumerate(zip(h, a, hold, strict=True))
    ]


@emitted(0)
def plus_hold_by_rate(
    total: list[Lanes],
    by_h: list[Lanes],
    rates: list[Lanes],
    inverse: list[Lanes],
    a: list[Lanes],
    hold: list[Lanes],
    dt: Lanes,
    u: Lanes,
    weights: Address,
) -> list[Lanes]:
    """Return total + by_h B u d hold / d A."""
    sums = []
    for n in range(len(total)):
        slope = hold_by_rate(rates[n], inverse[n], dt, a[n], hold[n])
        drive = u * weights.load_everywhere(n * FLOAT_BYTES)
        sums.append(total[n] + by_h[n] * drive * slope)
    return sums


@emitted(0)
def advanced(h: list[Lanes], a: list[Lanes], drive: Lanes, weights: Address) -> list[Lanes]:
    """Return a h + drive B."""
    return [
        state * decay + drive * weights.load_everywhere(n * FLOAT_BYTES)
        for n, (state, decay) in enumerate(zip(h, a, strict=True))
    ]


@emitted(0)
def plus_outer(block: list[Lanes], factor: Lanes, weights: Address) -> list[Lanes]:
    """Return block_n + factor weight_n."""
    return [
        value + factor * weights.load_everywhere(n * FLOAT_BYTES) for n, value in enumerate(block)
    ]


@emitted(0)
def plus_weighted(total: Lanes, block: list[Lanes], weights: Address) -> Lanes:
    """Return total + sum_n block_n weight_n."""
    for n, value in enumerate(block):
        total = total + value * weights.load_everywhere(n * FLOAT_BYTES)
    return total


@emitted(0)
def plus_dot(total: Lanes, a: list[Lanes], b: list[Lanes]) -> Lanes:
    """Return total + sum_n a_n b_n."""
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


@emitted(0)
def times(a: list[Lanes], b: list[Lanes]) -> list[Lanes]:
    """Return a_n b_n."""
    return [x * y for x, y in zip(a, b, strict=True)]


@emitted(0)
def plus(a: list[Lanes], b: list[Lanes]) -> list[Lanes]:
    """Return a_n + b_n."""
    return [x + y for x, y in zip(a, b, strict=True)]


@emitted(0)
def plus_scaled(total: list[Lanes], block: list[Lanes], factor: Lanes) -> list[Lanes]:
    """Return total_n + block_n factor."""
    return [x + y * factor for x, y in zip(total, block, strict=True)]


@emitted()
def accumulate(target: Address, block: list[Lanes], factor: Lanes) -> None:
    """Add block_n factor to the vectors stored one behind the other at `target`."""
    for n, value in enumerate(block):
        at = n * VECTOR_BYTES
        target.store(target.load(at) + value * factor, at)


@emitted(0)
def like(block: list[Lanes], address: Address) -> list[Lanes]:
    """Load a block of as many vectors as `block` has, stored one behind the other."""
    return [address.load(n * VECTOR_BYTES) for n in range(len(block))]


@emitted()
def put(address: Address, block: list[Lanes]) -> None:
    """Store a block, one vector behind the other."""
    for n, value in enumerate(block):
        address.store(value, n * VECTOR_BYTES)


@emitted()
def put_rows(address: Address, row: Address, block: list[Lanes]) -> None:
    """Store a block, one vector per row."""
    for value in block:
        address.store(value)
        address = address.moved(row)


@emitted(0)
def zeros_like(block: list[Lanes]) -> list[Lanes]:
    """Return a block of zeros."""
    return [value.constant(0.0) for value in block]


@emitted(0)
def rows_like(block: list[Lanes], address: Address, row: Address) -> list[Lanes]:
    """Load a block of as many vectors as `block` has, one per row."""
    values = []
    for _ in block:
        values.append(address.load())
        address = address.moved(row)
    return values
