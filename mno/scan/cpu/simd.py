"""Vector instructions that compiled functions call: loads, stores, transposes, sums, arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mno.scan.cpu.vectors import (
    ADDRESS_TYPE,
    FLOAT_TYPE,
    FLOATS_TYPE,
    INT_TYPE,
    INTS_TYPE,
    LANES,
    VECTOR,
    VECTOR_BYTES,
    Address,
    Lanes,
    emitted,
)


@emitted(VECTOR)
def load(address: Address) -> Lanes:
    """Load one vector."""
    return address.load()


@emitted()
def store(address: Address, value: Lanes) -> None:
    """Store one vector."""
    address.store(value)


@emitted()
def prefetch(address: Address) -> None:
    """Begin to bring the memory at an address near the processor."""
    builder = address.builder
    pointer = address.pointer(0, ir.IntType(8))
    signature = ir.FunctionType(ir.VoidType(), [pointer.type, INT_TYPE, INT_TYPE, INT_TYPE])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    reading, nearness, data = INT_TYPE(0), INT_TYPE(2), INT_TYPE(1)
    builder.call(function, [pointer, reading, nearness, data])


@emitted(VECTOR)
def load_everywhere(address: Address) -> Lanes:
    """Load one float into every lane."""
    return address.load_everywhere()


def _first_lanes(address: Address, count: Address) -> Any:
    """Return a mask of the first `count` lanes."""
    builder = address.builder
    number = builder.trunc(count.value, INT_TYPE)
    start = builder.insert_element(ir.Constant(INTS_TYPE, ir.Undefined), number, INT_TYPE(0))
    limit = builder.shuffle_vector(start, start, ir.Constant(INTS_TYPE, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(INTS_TYPE, list(range(LANES))), limit)


_MASK = ir.VectorType(ir.IntType(1), LANES)


@emitted(VECTOR)
def load_part(address: Address, count: Address) -> Lanes:
    """Load the first `count` lanes, and zeros behind them."""
    builder = address.builder
    pointer = address.pointer(0, FLOATS_TYPE)
    zeros = ir.Constant(FLOATS_TYPE, [0.0] * LANES)
    signature = ir.FunctionType(FLOATS_TYPE, [pointer.type, INT_TYPE, _MASK, FLOATS_TYPE])
    name = f"llvm.masked.load.v{LANES}f32.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    mask = _first_lanes(address, count)
    return Lanes(builder, builder.call(function, [pointer, INT_TYPE(4), mask, zeros]))


@emitted()
def store_part(address: Address, value: Lanes, count: Address) -> None:
    """Store the first `count` lanes."""
    builder = address.builder
    pointer = address.pointer(0, FLOATS_TYPE)
    signature = ir.FunctionType(ir.VoidType(), [FLOATS_TYPE, pointer.type, INT_TYPE, _MASK])
    name = f"llvm.masked.store.v{LANES}f32.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    builder.call(function, [value.value, pointer, INT_TYPE(4), _first_lanes(address, count)])


def _interleaved(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Return (a0, b0, a1, b1, ...), lower and upper half."""
    pairs = [index for lane in range(LANES) for index in (lane, lane + LANES)]
    low, high = (ir.Constant(INTS_TYPE, pairs[:LANES]), ir.Constant(INTS_TYPE, pairs[LANES:]))
    return builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)


@emitted()
def transpose(source: Address, source_row: Address, target: Address, target_row: Address) -> None:
    """Copy a square of `LANES` rows, each `..._row` bytes from the next, transposed."""
    builder = source.builder
    rows = [source.load(builder.mul(source_row.value, ADDRESS_TYPE(i))).value for i in range(LANES)]
    half = LANES // 2
    for _ in range(LANES.bit_length() - 1):
        pairs = [_interleaved(builder, rows[i], rows[i + half]) for i in range(half)]
        rows = [row for pair in pairs for row in pair]
    for i, row in enumerate(rows):
        target.store(Lanes(builder, row), builder.mul(target_row.value, ADDRESS_TYPE(i)))


@emitted(VECTOR)
def sums_of_vectors(address: Address) -> Lanes:
    """Sum each of the `LANES` vectors stored from `address` on; lane i is the sum of vector i."""
    builder = address.builder
    rows = [address.load(i * VECTOR_BYTES) for i in range(LANES)]
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = [_interleaved(builder, rows[i].value, rows[i + half].value) for i in range(half)]
        rows = [Lanes(builder, low) + Lanes(builder, high) for low, high in pairs]
    return rows[0]


def _scalar(type_: Any, llvm_type: Any) -> tuple[Any, Any]:
    """Return functions that load and store one number of a type."""

    @intrinsic
    def load_number(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.load(builder.inttoptr(values[0], llvm_type.as_pointer()), align=4)

        return type_(types.intp), generate

    @intrinsic
    def store_number(typing_context: Any, address: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = builder.inttoptr(values[0], llvm_type.as_pointer())
            builder.store(values[1], pointer, align=4)
            return context.get_dummy_value()

        return types.void(types.intp, type_), generate

    return load_number, store_number


load_float, store_float = _scalar(types.float32, FLOAT_TYPE)
load_int, store_int = _scalar(types.int32, INT_TYPE)
load_address, store_address = _scalar(types.int64, ADDRESS_TYPE)

ZERO = np.float32(0.0)


@emitted(VECTOR)
def product(a: Lanes, b: Lanes) -> Lanes:
    """Return a b."""
    return a * b


@emitted(VECTOR)
def fused(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """Return a b + c."""
    return a * b + c


@emitted(VECTOR)
def total(a: Lanes, b: Lanes) -> Lanes:
    """Return a + b."""
    return a + b


def block_of_zeros(count: int) -> Any:
    """Return a compiled function that makes a tuple of `count` vectors of zeros."""

    @intrinsic
    def make(typing_context: Any) -> Any:
        result = types.UniTuple(VECTOR, count)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            zeros = ir.Constant(FLOATS_TYPE, [0.0] * LANES)
            return context.make_tuple(builder, result, [zeros] * count)

        return result(), generate

    return make


@intrinsic
def _zeros(typing_context: Any) -> Any:
    """Return a vector of zeros."""
    return VECTOR(), lambda context, builder, signature, values: ir.Constant(
        FLOATS_TYPE, [0.0] * LANES
    )


zeros: Any = _zeros
