"""One stage of a Runge-Kutta method on a row of cells of two species, as explicit vectors.

    u_t = D_u Laplacian u + u - u^3 - k - v        v_t = D_v Laplacian v + u - v

LLVM does not vectorise this as one loop, since it cannot tell ten arrays apart, and three loops are
bound by loads and stores. So here are functions that emit instructions, as in
`mno.scenarios.kernels.rows`: eight cells of both species at a time. The two neighbours along an
axis are added first, then the two sums: so the scheme has all symmetries of the square to the last
bit. Nothing is reordered or contracted.

A row holds `row_width(n)` numbers of u, then as many of v: eight before the first cell, the last of
them its ghost; the cells; a ghost, and what fills up whole vectors. What lies beyond that ghost is
computed as if it were cells, between the ghost and zero. So it stays finite, and no cell reads it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from mno.scenarios.kernels.caching import inlined
from mno.scenarios.kernels.rows import LANES, VECTOR, emitted, pointer

NUMBERS = 5
"""Of a stage: its `advance` and `weight`, `D_u / h^2`, `D_v / h^2`, `k`."""

_BYTES = 8
_INDEX, _SHORT = ir.IntType(64), ir.IntType(32)


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


@inlined
def row_width(n):
    """Return how many numbers a row of `n` cells takes for one species."""
    return (n + LANES - 1) // LANES * LANES + 2 * LANES


def _everywhere(builder: Any, numbers: Any, number: int) -> Cells:
    """Return one of the numbers at an address, eight times."""
    value = builder.load(pointer(builder, numbers, _BYTES * number, ir.DoubleType()), align=8)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, _SHORT(0))
    lanes = ir.Constant(ir.VectorType(_SHORT, LANES), [0] * LANES)
    return Cells(builder, builder.shuffle_vector(first, first, lanes))


def _load(builder: Any, address: Any, cells: int = 0) -> Cells:
    """Load what lies that many cells beyond an address."""
    return Cells(builder, builder.load(pointer(builder, address, _BYTES * cells, VECTOR), align=8))


def _store(cells: Cells, address: Any) -> None:
    cells.builder.store(cells.values, pointer(cells.builder, address, 0, VECTOR), align=8)


def _curvature(cells: Cells, here: Any, up: Any, down: Any) -> Cells:
    """Return the Laplacian times the square of a cell's width, with cells from `here` on."""
    b = cells.builder
    across, along = _load(b, up) + _load(b, down), _load(b, here, -1) + _load(b, here, 1)
    return (across + along) - Cells(b, ir.Constant(VECTOR, [4.0] * LANES)) * cells


def _stage(*, is_last: bool) -> Any:
    """Return a function that sets a row of `total`, and of `following` unless it is the last.

        following = now + advance * rate(here)        total = before + weight * rate(here)

    Rows are given by the addresses of their first cells of u. `to_v` is how many bytes further
    those of v are, `vectors` the length of a row, `numbers` the address of `NUMBERS`.
    """

    @emitted
    def stage(
        builder: Any, here: Any, up: Any, down: Any, now: Any, before: Any, following: Any,
        total: Any, to_v: Any, vectors: Any, numbers: Any,
    ) -> None:  # fmt: skip
        advance, weight, mobility_u, mobility_v, offset = (
            _everywhere(builder, numbers, number) for number in range(NUMBERS)
        )
        with cgutils.for_range(builder, vectors) as loop:
            along = builder.mul(loop.index, _INDEX(_BYTES * LANES))

            def in_u(row: Any) -> Any:
                return builder.add(row, along)

            def in_v(row: Any) -> Any:
                return builder.add(in_u(row), to_v)

            u, v = _load(builder, in_u(here)), _load(builder, in_v(here))
            spread_u = mobility_u * _curvature(u, in_u(here), in_u(up), in_u(down))
            spread_v = mobility_v * _curvature(v, in_v(here), in_v(up), in_v(down))
            rates = spread_u + (u - u * u * u - offset - v), spread_v + (u - v)
            for of, rate in zip((in_u, in_v), rates, strict=True):
                if not is_last:
                    _store(_load(builder, of(now)) + advance * rate, of(following))
                _store(_load(builder, of(before)) + weight * rate, of(total))

    return stage


stage_between, stage_last = _stage(is_last=False), _stage(is_last=True)
