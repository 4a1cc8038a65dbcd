"""Stages of a Runge-Kutta method on a row of cells of two species, as explicit vectors.

    u_t = D_u Laplacian u + u - u^3 - k - v        v_t = D_v Laplacian v + u - v

LLVM does not vectorise a stage as one loop, since it cannot tell so many arrays apart, and several
loops are bound by loads and stores. So here are functions that emit instructions, as in
`mno.scenarios.kernels.rows`: eight cells of both species at a time. The two neighbours along an
axis are added first, then the two sums: so the scheme has all symmetries of the square to the last
bit. Nothing is reordered or contracted.

A row holds `row_width(n)` numbers of u, then as many of v: eight before the first cell, the last of
them its ghost; the cells; a ghost, and what fills up whole vectors. What lies beyond that ghost is
computed as if it were cells, between the ghost and zero. So it stays finite, and no cell reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from mno.scenarios.kernels.caching import inlined
from mno.scenarios.kernels.rows import (
    LANES,
    VECTOR,
    emitted,
    load_repeated,
    load_vector,
    pointer,
)
from mno.scenarios.kernels.six_stages import SHARES

_VECTOR = 8 * LANES  # bytes
_INDEX = ir.IntType(64)
_LANES = ir.VectorType(ir.IntType(32), LANES)


class Cells:
    """Eight numbers while code is generated; arithmetic on them emits instructions."""

    def __init__(self, builder: Any, values: Any) -> None:
        self.builder, self.values = builder, values

    def __add__(self, other: Cells) -> Cells:
        return Cells(self.builder, self.builder.fadd(self.values, other.values))

    def __sub__(self, other: Cells) -> Cells:
        return Cells(self.builder, self.builder.fsub(self.values, other.values))

    def __mul__(self, other: Cells) -> Cells:
        return Cells(self.builder, self.builder.fmul(self.values, other.values))

    def followed_by(self, other: Cells, start: int) -> Cells:
        """Return eight of these and the following numbers, from that lane on."""
        lanes = ir.Constant(_LANES, list(range(start, start + LANES)))
        return Cells(self.builder, self.builder.shuffle_vector(self.values, other.values, lanes))


@inlined
def row_width(n):
    """Return how many numbers a row of `n` cells takes for one species."""
    return (n + LANES - 1) // LANES * LANES + 2 * LANES


def _repeated(builder: Any, address: Any, count: int) -> list[Cells]:
    """Return the numbers at an address, each of them eight times."""
    return [Cells(builder, load_repeated(builder, address, number)) for number in range(count)]


def _load(builder: Any, address: Any, vector: int = 0) -> Cells:
    """Load eight numbers, that many vectors beyond an address."""
    return Cells(builder, load_vector(builder, address, vector))


def _store(cells: Cells, address: Any, vector: int = 0) -> None:
    """Store eight numbers there."""
    place = pointer(cells.builder, address, _VECTOR * vector, VECTOR)
    cells.builder.store(cells.values, place, align=8)


class _Species:
    """Eight cells of one species, that many bytes beyond the address of a row."""

    def __init__(self, builder: Any, beyond: Any) -> None:
        self.builder, self._beyond = builder, beyond

    def at(self, row: Any) -> Any:
        """Return the address of the cells in a row."""
        return self.builder.add(row, self._beyond)

    def load(self, row: Any) -> Cells:
        """Load the cells of a row."""
        return _load(self.builder, self.at(row))

    def curvature(self, here: Any, up: Any, down: Any) -> Cells:
        """Return the Laplacian times the square of a cell's width."""
        b, cells, address = self.builder, self.load(here), self.at(here)
        # A shuffle of whole vectors takes less time than one that straddles two cache lines.
        left = _load(b, address, -1).followed_by(cells, LANES - 1)
        right = cells.followed_by(_load(b, address, 1), 1)
        around = (self.load(up) + self.load(down)) + (left + right)
        return around - Cells(b, ir.Constant(VECTOR, [4.0] * LANES)) * cells


@contextmanager
def _along(builder: Any, vectors: Any, to_v: Any) -> Iterator[tuple[_Species, _Species]]:
    """Emit what is done with either species, eight cells after eight."""
    with cgutils.for_range(builder, vectors) as loop:
        beyond = builder.mul(loop.index, _INDEX(_VECTOR))
        yield _Species(builder, beyond), _Species(builder, builder.add(beyond, to_v))


def _rates(
    of_u: _Species, of_v: _Species, here: Any, up: Any, down: Any, numbers: Sequence[Cells]
) -> tuple[Cells, Cells]:
    """Return how fast eight cells of either species change."""
    mobility_u, mobility_v, offset = numbers
    u, v = of_u.load(here), of_v.load(here)
    spread_u = mobility_u * of_u.curvature(here, up, down)
    spread_v = mobility_v * of_v.curvature(here, up, down)
    return spread_u + (u - u * u * u - offset - v), spread_v + (u - v)


@emitted
def stage_between(
    builder: Any, here: Any, up: Any, down: Any, now: Any, following: Any, to_v: Any, vectors: Any,
    numbers: Any, advance: Any,
) -> None:  # fmt: skip
    """Set a row of the next stage, `following = now + advance * rate(here)`.

    Rows are addresses of their first cells of u; those of v are `to_v` bytes further. At `numbers`
    are `D_u / h^2`, `D_v / h^2` and `k`.
    """
    fixed, (length,) = _repeated(builder, numbers, 3), _repeated(builder, advance, 1)
    with _along(builder, vectors, to_v) as both:
        for species, rate in zip(both, _rates(*both, here, up, down, fixed), strict=True):
            _store(species.load(now) + length * rate, species.at(following))


@emitted
def stage_last(
    builder: Any, here: Any, up: Any, down: Any, now: Any, kept: Any, distance: Any, to_v: Any,
    vectors: Any, numbers: Any, weight: Any, shares: Any,
) -> None:  # fmt: skip
    """Set a row of the state at the end of the step, `now`.

    It is the sum of `SHARES` of the states of all stages, and of `weight * rate(here)`. The state
    of the second stage is at `kept`, that of the third `distance` bytes further, and so on.
    """
    fixed, (length,) = _repeated(builder, numbers, 3), _repeated(builder, weight, 1)
    first, *others = _repeated(builder, shares, len(SHARES))
    rows = [builder.add(kept, builder.mul(distance, _INDEX(k))) for k in range(len(others))]
    with _along(builder, vectors, to_v) as both:
        for species, rate in zip(both, _rates(*both, here, up, down, fixed), strict=True):
            total = first * species.load(now)
            for share, row in zip(others, rows, strict=True):
                total = total + share * species.load(row)
            _store(total + length * rate, species.at(now))


@emitted
def extremes(
    builder: Any, here: Any, up: Any, down: Any, to_v: Any, vectors: Any, cells: Any, largest: Any
) -> None:  # fmt: skip
    """Raise four vectors to the absolute values in a row: of u and its curvature, then of v.

    At `cells` are as many numbers as in a row: one for a cell, and zero beyond the last.
    """
    slots = [cgutils.alloca_once(builder, VECTOR) for _ in range(4)]
    for k, slot in enumerate(slots):
        builder.store(_load(builder, largest, k).values, slot)
    with _along(builder, vectors, to_v) as both:
        for k, species in enumerate(both):
            for slot, value in (
                (slots[2 * k], species.load(here)),
                (slots[2 * k + 1], species.curvature(here, up, down)),
            ):
                counted = (value * both[0].load(cells)).values
                for each in (counted, builder.fneg(counted)):
                    before = builder.load(slot)
                    is_larger = builder.fcmp_ordered(">", each, before)
                    builder.store(builder.select(is_larger, each, before), slot)
    for k, slot in enumerate(slots):
        _store(Cells(builder, builder.load(slot)), largest, k)
