"""Rows of eight complex numbers for numba: functions that emit instructions on them.

A row is eight real parts, then eight imaginary parts, float64. numba leaves vectorising to LLVM,
which does not see through the loops of a transform. Here what is done with rows is written as
ordinary Python functions over `Row`, which emit instructions when numba compiles a call of them
(`emitted`). A row's halves are vectors of eight numbers, which LLVM splits for processors whose
registers are shorter. Nothing is reordered or contracted, so bits do not depend on the processor.
Memory is addressed by plain integers, in bytes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
ROW = 2 * 8 * LANES  # bytes
_HALF = ROW // 2
_NUMBER, _INDEX, _SHORT = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(_NUMBER, LANES)
_LANES = ir.VectorType(_SHORT, LANES)


def emitted(emit: Callable[..., None]) -> Any:
    """Make a function that emits instructions callable from compiled ones, with integers."""
    names = list(inspect.signature(emit).parameters)[1:]

    def typed(typing_context: Any, *given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            emit(builder, *values)
            return context.get_dummy_value()

        return types.void(*[types.intp] * len(given)), generate

    # numba asks for a function with as many arguments as the calls have.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("typing_context", *names)]
    vars(typed)["__signature__"] = inspect.Signature(parameters)
    return intrinsic(typed)


class Row:
    """Eight complex numbers while code is generated; arithmetic on them emits instructions."""

    def __init__(self, builder: Any, re: Any, im: Any) -> None:
        self.builder, self.re, self.im = builder, re, im

    def _each(self, operation: Callable[..., Any], other: Row) -> Row:
        re, im = operation(self.re, other.re), operation(self.im, other.im)
        return Row(self.builder, re, im)

    def __add__(self, other: Row) -> Row:
        return self._each(self.builder.fadd, other)

    def __sub__(self, other: Row) -> Row:
        return self._each(self.builder.fsub, other)

    def __mul__(self, other: Row) -> Row:
        b = self.builder
        re = b.fsub(b.fmul(self.re, other.re), b.fmul(self.im, other.im))
        im = b.fadd(b.fmul(self.re, other.im), b.fmul(self.im, other.re))
        return Row(b, re, im)

    def times(self, factor: float | Any) -> Row:
        """Multiply by a real number, or by a vector of one for each lane."""
        vector = ir.Constant(VECTOR, [factor] * LANES) if isinstance(factor, float) else factor
        return self._each(self.builder.fmul, Row(self.builder, vector, vector))

    def times_i(self, sign: int) -> Row:
        """Multiply by `i`, or by `-i` for a negative sign."""
        b = self.builder
        return Row(b, b.fneg(self.im), self.re) if sign > 0 else Row(b, self.im, b.fneg(self.re))

    def conjugate_if(self, negative: bool) -> Row:
        """Return the conjugate, if that is wanted."""
        return Row(self.builder, self.re, self.builder.fneg(self.im)) if negative else self


def pointer(builder: Any, address: Any, distance: int, type_: Any) -> Any:
    """Return a pointer to what lies some bytes beyond an address."""
    return builder.inttoptr(builder.add(address, _INDEX(distance)), type_.as_pointer())


def beyond(builder: Any, address: Any, distance: Any, times: int) -> Any:
    """Return the address some times a distance further."""
    return builder.add(address, builder.mul(distance, _INDEX(times)))


def load(builder: Any, address: Any, row: int = 0) -> Row:
    """Load a row, that many rows beyond an address."""
    return Row(builder, *(load_vector(builder, address, 2 * row + half) for half in (0, 1)))


def store(z: Row, address: Any, row: int = 0) -> None:
    """Store a row."""
    for half, part in ((ROW * row, z.re), (ROW * row + _HALF, z.im)):
        z.builder.store(part, pointer(z.builder, address, half, VECTOR), align=8)


def load_vector(builder: Any, address: Any, vector: int = 0) -> Any:
    """Load eight real numbers, that many vectors beyond an address."""
    return builder.load(pointer(builder, address, _HALF * vector, VECTOR), align=8)


def load_repeated(builder: Any, address: Any, number: int = 0) -> Any:
    """Load one of the real numbers that lie at an address into all lanes."""
    value = builder.load(pointer(builder, address, 8 * number, _NUMBER), align=8)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, _SHORT(0))
    return builder.shuffle_vector(first, first, ir.Constant(_LANES, [0] * LANES))


def load_everywhere(builder: Any, address: Any, number: int) -> Row:
    """Load one of the complex numbers that lie at an address into all lanes."""
    parts = (load_repeated(builder, address, 2 * number + part) for part in (0, 1))
    return Row(builder, *parts)


def transposed(rows: Sequence[Row]) -> list[Row]:
    """Return eight rows whose lane `l` of row `k` is lane `k` of row `l`."""
    builder = rows[0].builder
    pairs = [lane + side for lane in range(LANES) for side in (0, LANES)]
    halves = [ir.Constant(_LANES, pairs[:LANES]), ir.Constant(_LANES, pairs[LANES:])]
    parts = []
    for vectors in ([row.re for row in rows], [row.im for row in rows]):
        for _ in range(3):  # each interleaves the first four with the last four
            vectors = [
                builder.shuffle_vector(vectors[k], vectors[k + LANES // 2], half)
                for k in range(LANES // 2)
                for half in halves
            ]
        parts.append(vectors)
    return [Row(builder, re, im) for re, im in zip(*parts, strict=True)]


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
