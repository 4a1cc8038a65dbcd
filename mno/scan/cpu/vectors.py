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

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

FLOAT_BYTES = 4


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
