"""Vectors of float32: what a scan needs of them besides `mno.core.vectors`.

A value of numba's type `VECTOR` is one LLVM vector of `LANES` floats; eight lanes run anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

from mno.core.vectors import INDEX, INT, Address, emitter, everywhere, transposed
from mno.core.vectors import Lanes as AnyLanes


def _target_features() -> set[str]:
    """Return the processor features that numba compiles for, which its settings may restrict."""
    context: Any = cpu_target.target_context
    features = context.codegen()._tm_features
    return {name[1:] for name in features.split(",") if name.startswith("+")}


AVX512 = {"avx512f", "avx512dq"} <= _target_features()
LANES = 16 if AVX512 else 8
FLOAT_BYTES = 4
VECTOR_BYTES = LANES * FLOAT_BYTES
_FLOAT = ir.FloatType()
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(INT, LANES)


class _Vector(types.Type):
    """The numba type of one vector."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, type_: Any) -> None:
        super().__init__(manager, type_, _FLOATS)


class Lanes(AnyLanes):
    """A vector of float32."""

    number, size, count = _FLOAT, FLOAT_BYTES, LANES
    # Products may be fused into sums. Nothing may be assumed about NaN or infinity.
    flags = ("contract", "nsz")

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._new(self.builder.fdiv(self.value, self._of(other), flags=self.flags))

    def where(self, sign: str, bound: Lanes | float, other: Lanes | float) -> Lanes:
        """Keep the lanes for which `self sign bound` holds or cannot be told; `other` elsewhere."""
        keep = self.builder.fcmp_unordered(sign, self.value, self._of(bound))
        return self._new(self.builder.select(keep, self.value, self._of(other)))

    def choose(self, sign: str, bound: float, yes: Lanes | float, no: Lanes | float) -> Lanes:
        """Return `yes` where `self sign bound` holds and `no` elsewhere."""
        is_so = self.builder.fcmp_ordered(sign, self.value, self._of(bound))
        return self._new(self.builder.select(is_so, self._of(yes), self._of(no)))

    def absolute(self) -> Lanes:
        """Return the absolute value."""
        bits = self.builder.bitcast(self.value, _INTS)
        bits = self.builder.and_(bits, ir.Constant(_INTS, [0x7FFFFFFF] * LANES))
        return self._new(self.builder.bitcast(bits, _FLOATS))

    def add_to_exponent(self, low_bits: Lanes) -> Lanes:
        """Multiply by two to the power of the integer in the low bits of `low_bits`."""
        shift = ir.Constant(_INTS, [23] * LANES)
        power = self.builder.shl(self.builder.bitcast(low_bits.value, _INTS), shift)
        bits = self.builder.add(self.builder.bitcast(self.value, _INTS), power)
        return self._new(self.builder.bitcast(bits, _FLOATS))

    def rounded(self) -> Lanes:
        """Round to the nearest integer (AVX-512)."""
        nearest = INT(8)
        return self._avx512("rndscale", self.value, nearest, self.value)

    def scaled(self, power: Lanes) -> Lanes:
        """Multiply by two to the power of the integers `power` (AVX-512)."""
        return self._avx512("scalef", self.value, power.value, self.value)

    def _avx512(self, operation: str, *arguments: Any) -> Lanes:
        mask, rounding = ir.IntType(16)(-1), INT(4)
        name = f"llvm.x86.avx512.mask.{operation}.ps.512"
        return self._new(_called(self.builder, name, _FLOATS, *arguments, mask, rounding))


def _called(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call a function of LLVM's own."""
    signature = ir.FunctionType(result, [x.type for x in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


emitted = emitter(Lanes, (VECTOR, types.float32))

load = emitted(VECTOR)(lambda address: address.load())
store = emitted()(lambda address, vector: address.store(vector))
load_everywhere = emitted(VECTOR)(lambda address: address.load_everywhere())
load_float = emitted(types.float32)(lambda address: address.load(0, _FLOAT))
store_float = emitted()(lambda address, number: address.store(number))
load_int = emitted(types.int32)(lambda address: address.load(0, INT))
load_address = emitted(types.int64)(lambda address: address.load(0, INDEX))
store_address = emitted()(lambda address, number: address.store(number))
product = emitted(VECTOR)(lambda a, b: a * b)
fused = emitted(VECTOR)(lambda a, b, c: a * b + c)
total = emitted(VECTOR)(lambda a, b: a + b)
difference = emitted(VECTOR)(lambda a, b: a - b)


@emitted()
def store_int(address: Address, number: Address) -> None:
    """Store an integer of 32 bits."""
    address.store(Lanes(address.builder, address.builder.trunc(number.value, INT)))


@emitted()
def prefetch(address: Address) -> None:
    """Begin to bring the memory at an address near the processor."""
    pointer = address.pointer(0, ir.IntType(8))
    reading, nearness, data = INT(0), INT(2), INT(1)
    _called(address.builder, "llvm.prefetch.p0", ir.VoidType(), pointer, reading, nearness, data)


def _first_lanes(address: Address, count: Address) -> Any:
    """Return a mask of the first `count` lanes."""
    builder = address.builder
    limit = everywhere(builder, builder.trunc(count.value, INT), _INTS)
    return builder.icmp_signed("<", ir.Constant(_INTS, list(range(LANES))), limit)


@emitted(VECTOR)
def load_part(address: Address, count: Address) -> Lanes:
    """Load the first `count` lanes, and zeros behind them."""
    name, zeros = f"llvm.masked.load.v{LANES}f32.p0", ir.Constant(_FLOATS, [0.0] * LANES)
    arguments = address.pointer(0, _FLOATS), INT(4), _first_lanes(address, count), zeros
    return Lanes(address.builder, _called(address.builder, name, _FLOATS, *arguments))


@emitted()
def store_part(address: Address, vector: Lanes, count: Address) -> None:
    """Store the first `count` lanes."""
    name, pointer = f"llvm.masked.store.v{LANES}f32.p0", address.pointer(0, _FLOATS)
    arguments = vector.value, pointer, INT(4), _first_lanes(address, count)
    _called(address.builder, name, ir.VoidType(), *arguments)


@emitted()
def transpose(source: Address, source_row: Address, target: Address, target_row: Address) -> None:
    """Copy a square of `LANES` rows, each `..._row` bytes from the next, transposed."""
    builder = source.builder
    rows = [source.load(builder.mul(source_row.value, INDEX(i))) for i in range(LANES)]
    for i, row in enumerate(transposed(rows)):
        target.store(row, builder.mul(target_row.value, INDEX(i)))


@emitted(VECTOR)
def sums_of_vectors(address: Address) -> Lanes:
    """Sum each of the `LANES` vectors stored from `address` on; lane i is the sum of vector i."""
    rows = [address.load(i * VECTOR_BYTES) for i in range(LANES)]
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = [rows[i].interleaved(rows[i + half]) for i in range(half)]
        rows = [low + high for low, high in pairs]
    return rows[0]


def zeros_of(type_: types.Type) -> Any:
    """Return a compiled function that makes zeros of a type: a vector, or a tuple of vectors."""

    @intrinsic
    def make(typing_context: Any) -> Any:
        return type_(), lambda context, builder, signature, values: context.get_constant_null(type_)

    return make


zeros = zeros_of(VECTOR)
ZERO = np.float32(0.0)
