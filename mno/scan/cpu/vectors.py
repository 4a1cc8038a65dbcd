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


def _target_features() -> set[str]:
    """Return the processor features that numba compiles for, which its settings may restrict."""
    context: Any = cpu_target.target_context
    features = context.codegen()._tm_features
    return {name[1:] for name in features.split(",") if name.startswith("+")}


AVX512 = {"avx512f", "avx512dq"} <= _target_features()
LANES = 16 if AVX512 else 8
FLOAT_BYTES = 4
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
        nearest = INT_TYPE(8)
        return self._avx512("rndscale", self.value, nearest, self.value)

    def scaled(self, power: Lanes) -> Lanes:
        """Multiply by two to the power of the integers `power` (AVX-512)."""
        return self._avx512("scalef", self.value, power.value, self.value)

    def _avx512(self, operation: str, *arguments: Any) -> Lanes:
        mask, rounding = ir.IntType(16)(-1), INT_TYPE(4)
        name = f"llvm.x86.avx512.mask.{operation}.ps.512"
        return self._new(_called(self.builder, name, FLOATS_TYPE, *arguments, mask, rounding))


def _called(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call a function of LLVM's own."""
    signature = ir.FunctionType(result, [x.type for x in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _everywhere(builder: Any, number: Any, type_: Any) -> Any:
    """Return a vector of a type with one number in every lane."""
    first = builder.insert_element(ir.Constant(type_, ir.Undefined), number, INT_TYPE(0))
    return builder.shuffle_vector(first, first, ir.Constant(INTS_TYPE, [0] * LANES))


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

    def load(self, offset: int | Any = 0, type_: Any = FLOATS_TYPE) -> Lanes:
        """Load one vector, or one number of another type."""
        return Lanes(self.builder, self.builder.load(self.pointer(offset, type_), align=4))

    def store(self, value: Lanes | Address, offset: int | Any = 0) -> None:
        """Store one vector or number."""
        self.builder.store(value.value, self.pointer(offset, value.value.type), align=4)

    def load_everywhere(self, offset: int | Any = 0) -> Lanes:
        """Load one float into every lane."""
        number = self.load(offset, FLOAT_TYPE).value
        return Lanes(self.builder, _everywhere(self.builder, number, FLOATS_TYPE))


def _wrapped(context: Any, builder: Any, type_: Any, value: Any) -> Any:
    if isinstance(type_, types.BaseTuple):
        parts: Any = type_
        items = cgutils.unpack_tuple(builder, value, len(parts))
        return [_wrapped(context, builder, *pair) for pair in zip(parts, items, strict=True)]
    if isinstance(type_, _Vector) or type_ == types.float32:
        return Lanes(builder, value)
    return Address(builder, context.cast(builder, value, type_, types.intp))


def emitted(
    returns: int | types.Type | Callable[[Any], types.Type] = types.void,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that emits vector code callable from compiled functions.

    What it returns is of that type, of the type of the argument at that position, or of one made of
    the first argument's type.
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
        exec(f"def called(context, {names}): return typed(context, ({names},))", scope)
        return intrinsic(scope["called"])

    return decorate


load = emitted(VECTOR)(lambda address: address.load())
store = emitted()(lambda address, vector: address.store(vector))
load_everywhere = emitted(VECTOR)(lambda address: address.load_everywhere())
load_float = emitted(types.float32)(lambda address: address.load(0, FLOAT_TYPE))
store_float = emitted()(lambda address, number: address.store(number))
load_int = emitted(types.int32)(lambda address: address.load(0, INT_TYPE))
load_address = emitted(types.int64)(lambda address: address.load(0, ADDRESS_TYPE))
store_address = emitted()(lambda address, number: address.store(number))
product = emitted(VECTOR)(lambda a, b: a * b)
fused = emitted(VECTOR)(lambda a, b, c: a * b + c)
total = emitted(VECTOR)(lambda a, b: a + b)


@emitted()
def store_int(address: Address, number: Address) -> None:
    """Store an integer of 32 bits."""
    builder = address.builder
    address.store(Address(builder, builder.trunc(number.value, INT_TYPE)))


@emitted()
def prefetch(address: Address) -> None:
    """Begin to bring the memory at an address near the processor."""
    pointer = address.pointer(0, ir.IntType(8))
    reading, nearness, data = INT_TYPE(0), INT_TYPE(2), INT_TYPE(1)
    _called(address.builder, "llvm.prefetch.p0", ir.VoidType(), pointer, reading, nearness, data)


def _first_lanes(address: Address, count: Address) -> Any:
    """Return a mask of the first `count` lanes."""
    builder = address.builder
    limit = _everywhere(builder, builder.trunc(count.value, INT_TYPE), INTS_TYPE)
    return builder.icmp_signed("<", ir.Constant(INTS_TYPE, list(range(LANES))), limit)


@emitted(VECTOR)
def load_part(address: Address, count: Address) -> Lanes:
    """Load the first `count` lanes, and zeros behind them."""
    name, zeros = f"llvm.masked.load.v{LANES}f32.p0", ir.Constant(FLOATS_TYPE, [0.0] * LANES)
    arguments = address.pointer(0, FLOATS_TYPE), INT_TYPE(4), _first_lanes(address, count), zeros
    return Lanes(address.builder, _called(address.builder, name, FLOATS_TYPE, *arguments))


@emitted()
def store_part(address: Address, vector: Lanes, count: Address) -> None:
    """Store the first `count` lanes."""
    name, pointer = f"llvm.masked.store.v{LANES}f32.p0", address.pointer(0, FLOATS_TYPE)
    arguments = vector.value, pointer, INT_TYPE(4), _first_lanes(address, count)
    _called(address.builder, name, ir.VoidType(), *arguments)


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


def zeros_of(type_: types.Type) -> Any:
    """Return a compiled function that makes zeros of a type: a vector, or a tuple of vectors."""

    @intrinsic
    def make(typing_context: Any) -> Any:
        return type_(), lambda context, builder, signature, values: context.get_constant_null(type_)

    return make


zeros = zeros_of(VECTOR)
ZERO = np.float32(0.0)
