"""Vectors of float32 for numba: a type, and arithmetic for functions that generate code.

numba leaves vectorising to LLVM, which does not see through the loops of a scan. Here a value of
type `VECTOR` is one LLVM vector of `LANES` floats, held in a register. What is done with vectors
is written as ordinary Python functions over `Lanes`, which emit instructions when numba compiles
a call of them (`@emitted`); a tuple of vectors is a list of `Lanes` there, and a loop over it is
unrolled. Memory is addressed by plain integers, in bytes.

LLVM splits vectors that are wider than the processor's registers, so eight lanes run anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

from mno.scan.cpu.job import FLOAT_BYTES


def _target_features() -> set[str]:
    """Return the processor features that numba compiles for, which its settings may restrict."""
    context: Any = cpu_target.target_context
    features = context.codegen()._tm_features
    return {name[1:] for name in features.split(",") if name.startswith("+")}


AVX512 = {"avx512f", "avx512dq"} <= _target_features()
LANES = 16 if AVX512 else 8
VECTOR_BYTES = LANES * FLOAT_BYTES

FLOAT_TYPE, INT_TYPE, ADDRESS_TYPE = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS_TYPE, INTS_TYPE = ir.VectorType(FLOAT_TYPE, LANES), ir.VectorType(INT_TYPE, LANES)
# Products may be fused into sums. Nothing may be assumed about NaN or infinity.
_FLAGS = ("contract", "nsz")


class _Vector(types.Type):
    """The numba type of one vector."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, type_: Any) -> None:
        super().__init__(manager, type_, FLOATS_TYPE)


class Lanes:
    """A vector while code is generated; arithmetic on it emits instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def _of(self, other: Lanes | float) -> Any:
        return (
            other.value if isinstance(other, Lanes) else ir.Constant(FLOATS_TYPE, [other] * LANES)
        )

    def _new(self, value: Any) -> Lanes:
        return Lanes(self.builder, value)

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._new(self.builder.fadd(self.value, self._of(other), flags=_FLAGS))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._new(self.builder.fsub(self.value, self._of(other), flags=_FLAGS))

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._new(self.builder.fmul(self.value, self._of(other), flags=_FLAGS))

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._new(self.builder.fdiv(self.value, self._of(other), flags=_FLAGS))

    def constant(self, number: float) -> Lanes:
        """Return a vector of one number."""
        return self._new(self._of(number))

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
        bits = self.builder.bitcast(self.value, INTS_TYPE)
        bits = self.builder.and_(bits, ir.Constant(INTS_TYPE, [0x7FFFFFFF] * LANES))
        return self._new(self.builder.bitcast(bits, FLOATS_TYPE))

    def add_to_exponent(self, low_bits: Lanes) -> Lanes:
        """Multiply by two to the power of the integer in the low bits of `low_bits`."""
        shift = ir.Constant(INTS_TYPE, [23] * LANES)
        power = self.builder.shl(self.builder.bitcast(low_bits.value, INTS_TYPE), shift)
        bits = self.builder.add(self.builder.bitcast(self.value, INTS_TYPE), power)
        return self._new(self.builder.bitcast(bits, FLOATS_TYPE))

    def rounded(self) -> Lanes:
        """Round to the nearest integer (AVX-512)."""
        name, nearest = "llvm.x86.avx512.mask.rndscale.ps.512", 8
        return self._avx512(name, [self.value, INT_TYPE(nearest), self.value], [])

    def scaled(self, power: Lanes) -> Lanes:
        """Multiply by two to the power of the integers `power` (AVX-512)."""
        return self._avx512(
            "llvm.x86.avx512.mask.scalef.ps.512", [self.value, power.value, self.value], []
        )

    def _avx512(self, name: str, arguments: list[Any], _: list[Any]) -> Lanes:
        mask, rounding = ir.IntType(16)(-1), INT_TYPE(4)
        arguments = [*arguments, mask, rounding]
        signature = ir.FunctionType(FLOATS_TYPE, [x.type for x in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self._new(self.builder.call(function, arguments))


class Address:
    """A place in memory while code is generated, counted in bytes."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def pointer(self, offset: int | Any, type_: Any) -> Any:
        """Return a pointer to `type_`, `offset` bytes further."""
        offset = ADDRESS_TYPE(offset) if isinstance(offset, int) else offset
        return self.builder.inttoptr(self.builder.add(self.value, offset), type_.as_pointer())

    def moved(self, distance: Address) -> Address:
        """Return the address `distance` further."""
        return Address(self.builder, self.builder.add(self.value, distance.value))

    def load(self, offset: int | Any = 0) -> Lanes:
        """Load one vector."""
        return Lanes(self.builder, self.builder.load(self.pointer(offset, FLOATS_TYPE), align=4))

    def store(self, value: Lanes, offset: int | Any = 0) -> None:
        """Store one vector."""
        self.builder.store(value.value, self.pointer(offset, FLOATS_TYPE), align=4)

    def load_everywhere(self, offset: int | Any = 0) -> Lanes:
        """Load one float into every lane."""
        number = self.builder.load(self.pointer(offset, FLOAT_TYPE), align=4)
        first = self.builder.insert_element(
            ir.Constant(FLOATS_TYPE, ir.Undefined), number, INT_TYPE(0)
        )
        return Lanes(
            self.builder,
            self.builder.shuffle_vector(first, first, ir.Constant(INTS_TYPE, [0] * LANES)),
        )


def _wrapped(context: Any, builder: Any, type_: Any, value: Any) -> Any:
    if isinstance(type_, types.UniTuple):
        items = cgutils.unpack_tuple(builder, value, type_.count)
        return [_wrapped(context, builder, type_.dtype, item) for item in items]
    if isinstance(type_, _Vector):
        return Lanes(builder, value)
    if type_ == types.float32:
        raise TypeError("floats reach vector code through memory")
    return Address(builder, context.cast(builder, value, type_, types.intp))


def twice(block: types.UniTuple) -> types.UniTuple:
    """Return the type of two blocks, one behind the other."""
    return types.UniTuple(VECTOR, 2 * block.count)


def half(blocks: types.UniTuple) -> types.UniTuple:
    """Return the type of one of two blocks."""
    return types.UniTuple(VECTOR, blocks.count // 2)


def emitted(
    returns: int | types.Type | Callable[[Any], types.Type] = types.void,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that emits vector code callable from compiled functions.

    Args:
        returns: type of the result, the position of the argument whose type it has, or a function
            of the first argument's type.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        names = ", ".join(emit.__code__.co_varnames[: emit.__code__.co_argcount])

        def typed(typing_context: Any, arguments: tuple[Any, ...]) -> Any:
            if isinstance(returns, int):
                result = arguments[returns]
            else:
                result = returns if isinstance(returns, types.Type) else returns(arguments[0])

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                pairs = zip(signature.args, values, strict=True)
                made = emit(*[_wrapped(context, builder, type_, value) for type_, value in pairs])
                if made is None:
                    return context.get_dummy_value()
                if isinstance(made, list):
                    return context.make_tuple(builder, result, [item.value for item in made])
                return made.value

            return result(*arguments), generate

        # numba asks for a function with as many arguments as the calls have.
        scope = {"typed": typed}
        exec(f"def {emit.__name__}(context, {names}): return typed(context, ({names},))", scope)
        return intrinsic(scope[emit.__name__])

    return decorate


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
