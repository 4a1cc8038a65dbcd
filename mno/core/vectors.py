"""Vectors for numba: arithmetic for functions that generate code.

numba leaves vectorising to LLVM, which does not see through the loops of a scan or a transform.
Here a value is one LLVM vector, held in registers. What is done with vectors is written as ordinary
Python functions over `Lanes` and `Address`, which emit instructions when numba compiles a call of
them (`emitter`); a tuple of vectors is a list of `Lanes` there, and a loop over it is unrolled.
Memory is addressed by plain integers, in bytes.

LLVM splits vectors that are wider than the processor's registers, so they run anywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

INT, INDEX = ir.IntType(32), ir.IntType(64)


class Lanes:
    """A vector while code is generated; arithmetic on it emits instructions."""

    number: ClassVar[Any]  # LLVM's type of what is in a lane
    size: ClassVar[int]  # of it, in bytes
    count: ClassVar[int]
    flags: ClassVar[tuple[str, ...]] = ()  # of arithmetic; without them nothing is reordered

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @classmethod
    def llvm_type(cls) -> Any:
        """Return LLVM's type of the vector."""
        return ir.VectorType(cls.number, cls.count)

    def constant(self, number: float) -> Self:
        """Return a vector of one number."""
        return self._new(ir.Constant(self.llvm_type(), [number] * self.count))

    def _new(self, value: Any) -> Self:
        return type(self)(self.builder, value)

    def _of(self, other: Lanes | float) -> Any:
        return other.value if isinstance(other, Lanes) else self.constant(other).value

    def __add__(self, other: Lanes | float) -> Self:
        return self._new(self.builder.fadd(self.value, self._of(other), flags=self.flags))

    def __sub__(self, other: Lanes | float) -> Self:
        return self._new(self.builder.fsub(self.value, self._of(other), flags=self.flags))

    def __mul__(self, other: Lanes | float) -> Self:
        return self._new(self.builder.fmul(self.value, self._of(other), flags=self.flags))

    def followed_by(self, other: Lanes, lanes: Sequence[int]) -> Self:
        """Return some of these and the other's numbers, by their lanes from 0 to twice as many."""
        chosen = ir.Constant(ir.VectorType(INT, len(lanes)), list(lanes))
        return self._new(self.builder.shuffle_vector(self.value, other.value, chosen))

    def interleaved(self, other: Lanes) -> list[Self]:
        """Return (a0, b0, a1, b1, ...), lower and upper half."""
        pairs = [index for lane in range(self.count) for index in (lane, lane + self.count)]
        return [
            self.followed_by(other, half) for half in (pairs[: self.count], pairs[self.count :])
        ]


def transposed(rows: Sequence[Lanes]) -> list[Any]:
    """Return as many vectors as have lanes, lane `l` of row `k` being lane `k` of row `l`."""
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        pairs = (rows[k].interleaved(rows[k + half]) for k in range(half))
        rows = [row for pair in pairs for row in pair]
    return list(rows)


class Address:
    """A place in memory while code is generated, counted in bytes; what lies there are `lanes`."""

    def __init__(self, builder: Any, value: Any, lanes: type[Any]) -> None:
        self.builder, self.value, self.lanes = builder, value, lanes

    def moved(self, distance: Address | Any) -> Address:
        """Return the address so many bytes further."""
        return Address(self.builder, self.builder.add(self.value, _index(distance)), self.lanes)

    def pointer(self, offset: Any, type_: Any) -> Any:
        """Return a pointer to a type, so many bytes further."""
        return self.builder.inttoptr(self.moved(offset).value, type_.as_pointer())

    def load(self, offset: Any = 0, type_: Any = None) -> Any:
        """Load one vector, or one number of another type."""
        place = self.pointer(offset, type_ or self.lanes.llvm_type())
        return self.lanes(self.builder, self.builder.load(place, align=self.lanes.size))

    def store(self, value: Any, offset: Any = 0) -> None:
        """Store one vector or number."""
        place = self.pointer(offset, value.value.type)
        self.builder.store(value.value, place, align=self.lanes.size)

    def load_everywhere(self, offset: Any = 0) -> Any:
        """Load one number into every lane."""
        number = self.load(offset, self.lanes.number).value
        return self.lanes(self.builder, everywhere(self.builder, number, self.lanes.llvm_type()))


def _index(distance: Any) -> Any:
    if isinstance(distance, Address):
        return distance.value
    return INDEX(distance) if isinstance(distance, int) else distance


def everywhere(builder: Any, number: Any, type_: Any) -> Any:
    """Return a vector of a type with one number in every lane."""
    first = builder.insert_element(ir.Constant(type_, ir.Undefined), number, INT(0))
    lanes = ir.Constant(ir.VectorType(INT, type_.count), [0] * type_.count)
    return builder.shuffle_vector(first, first, lanes)


def emitter(lanes: type[Any], vectors: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """Return a decorator of functions that emit code with one kind of vectors.

    A function so decorated can be called from compiled ones. Arguments of one of the types
    `vectors` are `lanes` to it, all else are addresses.
    """

    def wrapped(context: Any, builder: Any, type_: Any, value: Any) -> Any:
        if isinstance(type_, types.BaseTuple):
            parts: Any = type_
            items = cgutils.unpack_tuple(builder, value, len(parts))
            return [wrapped(context, builder, *pair) for pair in zip(parts, items, strict=True)]
        if type_ in vectors:
            return lanes(builder, value)
        return Address(builder, context.cast(builder, value, type_, types.intp), lanes)

    def emitted(
        returns: int | types.Type | Callable[[Any], types.Type] = types.void,
    ) -> Callable[[Callable[..., Any]], Any]:
        """Decorate a function.

        What it returns is of that type, of the type of the argument at that position, or of one
        made of the first argument's type.
        """

        def decorate(emit: Callable[..., Any]) -> Any:
            def typed(typing_context: Any, *arguments: Any) -> Any:
                if isinstance(returns, int):
                    result = arguments[returns]
                else:
                    result = returns if isinstance(returns, types.Type) else returns(arguments[0])

                def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                    pairs = zip(signature.args, values, strict=True)
                    made = emit(*[wrapped(context, builder, *pair) for pair in pairs])
                    if made is None:
                        return context.get_dummy_value()
                    if isinstance(made, list):
                        return context.make_tuple(builder, result, [item.value for item in made])
                    return made.value

                return result(*arguments), generate

            # numba asks for a function with as many arguments as the calls have.
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            names = ("typing_context", *inspect.signature(emit).parameters)
            parameters = [inspect.Parameter(name, kind) for name in names]
            vars(typed)["__signature__"] = inspect.Signature(parameters)
            return intrinsic(typed)

        return decorate

    return emitted
