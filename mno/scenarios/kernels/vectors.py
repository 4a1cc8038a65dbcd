"""Rows of eight complex numbers for numba: functions that emit instructions on them.

A row is eight real parts, then eight imaginary parts, float64. numba leaves vectorising to LLVM,
which does not see through the loops of a transform. Here what is done with rows is written as
ordinary Python functions over `Row` and its halves, `Vector`, which emit instructions when numba
compiles a call of them (`emitted`). LLVM splits vectors of eight for processors whose registers are
shorter. Nothing is reordered or contracted, so bits do not depend on the processor. Memory is
addressed by plain integers, in bytes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
HALF = 8 * LANES  # bytes of a vector
ROW = 2 * HALF
INDEX = ir.IntType(64)
_NUMBER, _SHORT = ir.DoubleType(), ir.IntType(32)
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


@dataclass(frozen=True)
class Vector:
    """Eight real numbers while code is generated; arithmetic on them emits instructions."""

    builder: Any
    values: Any

    @classmethod
    def of(cls, builder: Any, number: float) -> Vector:
        """Return a number in all lanes."""
        return cls(builder, ir.Constant(VECTOR, [number] * LANES))

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.values, other.values))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.values, other.values))

    def __mul__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.values, other.values))

    def __neg__(self) -> Vector:
        return Vector(self.builder, self.builder.fneg(self.values))

    def at_most(self, other: Vector) -> Vector:
        """Return the larger of both in each lane, this one where either is NaN."""
        is_larger = self.builder.fcmp_ordered(">", other.values, self.values)
        return Vector(self.builder, self.builder.select(is_larger, other.values, self.values))

    def followed_by(self, other: Vector, lanes: Sequence[int]) -> Vector:
        """Return eight of these and the other's numbers, by their lanes from 0 to 15."""
        chosen = ir.Constant(_LANES, list(lanes))
        return Vector(self.builder, self.builder.shuffle_vector(self.values, other.values, chosen))


@dataclass(frozen=True)
class Row:
    """Eight complex numbers while code is generated."""

    re: Vector
    im: Vector

    def __add__(self, other: Row) -> Row:
        return Row(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Row) -> Row:
        return Row(self.re - other.re, self.im - other.im)

    def __mul__(self, other: Row) -> Row:
        re = self.re * other.re - self.im * other.im
        return Row(re, self.re * other.im + self.im * other.re)

    def times(self, factor: Any) -> Row:
        """Multiply by a real number, or by one for each lane."""
        each = Vector.of(self.re.builder, factor) if isinstance(factor, float) else factor
        return Row(self.re * each, self.im * each)

    def times_i(self, sign: int) -> Row:
        """Multiply by `i`, or by `-i` for a negative sign."""
        return Row(-self.im, self.re) if sign > 0 else Row(self.im, -self.re)

    def conjugate_if(self, negative: bool) -> Row:
        """Return the conjugate, if that is wanted."""
        return Row(self.re, -self.im) if negative else self


def beyond(builder: Any, address: Any, distance: Any, times: int) -> Any:
    """Return the address some times a distance further."""
    return builder.add(address, builder.mul(distance, INDEX(times)))


def _pointer(builder: Any, address: Any, distance: int, type_: Any) -> Any:
    return builder.inttoptr(builder.add(address, INDEX(distance)), type_.as_pointer())


def load_vector(builder: Any, address: Any, vector: int = 0) -> Vector:
    """Load eight real numbers, that many vectors beyond an address."""
    place = _pointer(builder, address, HALF * vector, VECTOR)
    return Vector(builder, builder.load(place, align=8))


def store_vector(vector: Vector, address: Any, place: int = 0) -> None:
    """Store eight real numbers there."""
    b = vector.builder
    b.store(vector.values, _pointer(b, address, HALF * place, VECTOR), align=8)


def load_repeated(builder: Any, address: Any, number: int = 0) -> Vector:
    """Load one of the real numbers that lie at an address into all lanes."""
    value = builder.load(_pointer(builder, address, 8 * number, _NUMBER), align=8)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, _SHORT(0))
    return Vector(builder, first).followed_by(Vector(builder, first), [0] * LANES)


def load(builder: Any, address: Any, row: int = 0) -> Row:
    """Load a row, that many rows beyond an address."""
    return Row(*(load_vector(builder, address, 2 * row + half) for half in (0, 1)))


def store(z: Row, address: Any, row: int = 0) -> None:
    """Store a row there."""
    store_vector(z.re, address, 2 * row)
    store_vector(z.im, address, 2 * row + 1)


def load_everywhere(builder: Any, address: Any, number: int) -> Row:
    """Load one of the complex numbers that lie at an address into all lanes."""
    return Row(*(load_repeated(builder, address, 2 * number + part) for part in (0, 1)))


def transposed(rows: Sequence[Row]) -> list[Row]:
    """Return eight rows whose lane `l` of row `k` is lane `k` of row `l`."""
    pairs = [lane + side for lane in range(LANES) for side in (0, LANES)]
    parts = []
    for vectors in ([row.re for row in rows], [row.im for row in rows]):
        for _ in range(3):  # each interleaves the first four with the last four
            vectors = [
                vectors[k].followed_by(vectors[k + LANES // 2], lanes)
                for k in range(LANES // 2)
                for lanes in (pairs[:LANES], pairs[LANES:])
            ]
        parts.append(vectors)
    return [Row(re, im) for re, im in zip(*parts, strict=True)]


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
