"""Rows of eight complex numbers for numba: functions that emit instructions on them.

A row is eight real parts, then eight imaginary parts, float64. What is done with rows is written as
ordinary Python functions over `Row` and its halves, `Vector`, which emit instructions when numba
compiles a call of them (`mno.core.vectors`). Nothing is reordered: bits depend on no processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from mno.core.vectors import Address, Lanes, emitter, transposed

LANES = 8
HALF = 8 * LANES  # bytes of a vector
ROW = 2 * HALF


class Vector(Lanes):
    """Eight real numbers while code is generated."""

    number, size, count = ir.DoubleType(), 8, LANES

    def __neg__(self) -> Vector:
        return self._new(self.builder.fneg(self.value))

    def at_most(self, other: Vector) -> Vector:
        """Return the larger of both in each lane, this one where either is NaN."""
        is_larger = self.builder.fcmp_ordered(">", other.value, self.value)
        return self._new(self.builder.select(is_larger, other.value, self.value))


emitted = emitter(Vector)()
"""Make a function that emits instructions callable from compiled ones, with integers."""


class Row(NamedTuple):
    """Eight complex numbers while code is generated."""

    re: Vector
    im: Vector

    def __add__(self, other: Row) -> Row:  # type: ignore[override]
        return Row(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Row) -> Row:
        return Row(self.re - other.re, self.im - other.im)

    def __mul__(self, other: Row) -> Row:  # type: ignore[override]
        re = self.re * other.re - self.im * other.im
        return Row(re, self.re * other.im + self.im * other.re)

    def times(self, factor: Vector | float) -> Row:
        """Multiply by a real number, or by one for each lane."""
        return Row(self.re * factor, self.im * factor)

    def times_i(self, sign: int) -> Row:
        """Multiply by `i`, or by `-i` for a negative sign."""
        return Row(-self.im, self.re) if sign > 0 else Row(self.im, -self.re)

    def conjugate_if(self, negative: bool) -> Row:
        """Return the conjugate, if that is wanted."""
        return Row(self.re, -self.im) if negative else self


def beyond(address: Address, distance: Address, times: int) -> Address:
    """Return the address some times a distance further."""
    return address.moved(address.builder.mul(distance.value, ir.IntType(64)(times)))


def load(address: Address, row: int = 0) -> Row:
    """Load a row, that many rows beyond an address."""
    return Row(*(address.load(ROW * row + half) for half in (0, HALF)))


def store(z: Row, address: Address, row: int = 0) -> None:
    """Store a row there."""
    address.store(z.re, ROW * row)
    address.store(z.im, ROW * row + HALF)


def load_everywhere(address: Address, number: int) -> Row:
    """Load one of the complex numbers that lie at an address into all lanes."""
    return Row(*(address.load_everywhere(16 * number + part) for part in (0, 8)))


def transposed_rows(rows: Sequence[Row]) -> list[Row]:
    """Return eight rows whose lane `l` of row `k` is lane `k` of row `l`."""
    return [Row(*row) for row in zip(*map(transposed, zip(*rows, strict=True)), strict=True)]


def transformed(z: Sequence[Row], sign: int) -> list[Row]:
    """Return the sums over `s` of `exp(sign 2 pi i s t / r) z_s`, for `t = 0 .. r - 1`."""
    r = len(z)
    if r == 2:
        return [z[0] + z[1], z[0] - z[1]]
    if r == 4:
        a, b, c, d = z[0] + z[2], z[0] - z[2], z[1] + z[3], (z[1] - z[3]).times_i(sign)
        return [a + c, b + d, a - c, b - d]
    if r == 8:
        even, (a, b, c, d) = transformed(z[::2], sign), transformed(z[1::2], sign)
        b = (b + b.times_i(sign)).times(math.sqrt(0.5))
        d = (d.times_i(sign) - d).times(math.sqrt(0.5))
        odd = (a, b, c.times_i(sign), d)
        sums = [x + y for x, y in zip(even, odd, strict=True)]
        return sums + [x - y for x, y in zip(even, odd, strict=True)]
    # An odd number: s and r - s together, one cosine and one sine for both.
    pairs = [(z[s] + z[r - s], (z[s] - z[r - s]).times_i(sign)) for s in range(1, r // 2 + 1)]
    out = [sum((total for total, _ in pairs), z[0])] * r
    for t in range(1, r // 2 + 1):
        angles = [2.0 * math.pi * (s * t % r) / r for s in range(1, r // 2 + 1)]
        terms = list(zip(pairs, angles, strict=True))
        even = sum((total.times(math.cos(angle)) for (total, _), angle in terms), z[0])
        first, *others = (part.times(math.sin(angle)) for (_, part), angle in terms)
        odd = sum(others, first)
        out[t], out[r - t] = even + odd, even - odd
    return out
