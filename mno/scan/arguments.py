"""What every backend is given: the tensors of a scan and the path it runs along.

Tensors are over points, channels last, with any strides. K directions (groups) scan the points;
those that scan the same input share it, and their results are summed.

Glossary:
    u          input                               (batch, point, K or 1, channel)
    delta      raw step                            (batch, point, K, channel or rank)
    dt_weight  raw step = delta @ dt_weight        (K, rank, channel)
    bias       added to the raw step               (K, channel)
    scale      factor of the step, by point        (1 or batch, K, point)
    A          diagonal of the state matrix        (K, state, channel)
    B, C       input and output weights            (batch, point, K, state)
    D          weight of the direct path           (K, channel)
    order      which point is visited when         (1 or batch, K, point)
    end_weight share of a step's end in its input  (batch, point, K, channel)
    initial    what each walk begins with          (batch, K, kept, channel)
    y          output                              (batch, point, K or 1, channel)

`initial` and what each walk ends with are the state, for `trapezoidal` with B u of the point before
behind it. They are there for directions of a single line alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Inputs = Float[Tensor, "batch point shared channel"]
Steps = Float[Tensor, "batch point group rank"]
StepWeight = Float[Tensor, "group rank channel"]
Weights = Float[Tensor, "batch point group state"]
EndWeights = Float[Tensor, "batch point group channel"]
StateMatrix = Float[Tensor, "group state channel"]
PerChannel = Float[Tensor, "group channel"]
Carried = Float[Tensor, "batch group kept channel"]
StepScale = Float[Tensor, "samples group point"]
Order = Int[Tensor, "samples group point"]


@dataclass(frozen=True)
class Direction:
    """The walk of one scan through the points, cut into lines that each start from rest.

    The position p of the walk lies at the point

        (q // stride) * period * stride + q % stride + s * stride,   q, s = divmod(p, period),

    so that rows, columns and every other axis of a grid need no list of points.
    """

    line: int  # points of a line
    period: int  # points along the axis that the walk follows
    stride: int = 1  # distance in memory between neighbours along that axis, in points
    reverse: bool = False  # whether it is walked from the last position to the first

    def walk(self, num_points: int, device: torch.device | None = None) -> Int[Tensor, " point"]:
        """Return the points in the order in which they are visited, int64."""
        p = torch.arange(num_points, device=device)
        p = p.flip(0) if self.reverse else p
        q, s = p // max(self.period, 1), p % max(self.period, 1)
        block = self.period * self.stride
        return q // self.stride * block + q % self.stride + s * self.stride


@dataclass(frozen=True, eq=False)
class ScanPath:
    """The directions of a scan, one for each of the K groups, and the factors of their steps."""

    directions: tuple[Direction, ...]
    order: Order | None = None  # the points as visited, int32, where `Direction` does not say it
    scale: StepScale | None = None  # of the step at each point; `None` for 1

    @property
    def factors(self) -> StepScale | None:
        """The factors as the compiled kernels take them: float32, without a gradient."""
        return None if self.scale is None else self.scale.detach().float()

    def scaled(self, dt: Tensor) -> Tensor:
        """Return steps `(batch, point, K, any)` times the factors, which have no gradient."""
        if self.scale is None:
            return dt
        return dt * self.scale.detach().to(dt.dtype).transpose(1, 2)[..., None]

    def to(self, device: torch.device) -> ScanPath:
        """Return the path with its tensors on a device."""
        order, scale = (None if x is None else x.to(device) for x in (self.order, self.scale))
        return ScanPath(self.directions, order, scale)


DISCRETIZATIONS = ("simplified", "zoh", "centred", "trapezoidal")
"""How the integral along a line becomes a sum; see `mno.scan.selective_scan`."""


@dataclass(frozen=True, eq=False)
class ScanArguments:
    """A scan to be computed; symbols and shapes are those of the glossary.

    With one group of u, the groups share it, and their outputs are summed.
    """

    u: Inputs
    delta: Steps
    A: StateMatrix
    B: Weights
    C: Weights
    D: PerChannel | None
    bias: PerChannel | None
    dt_weight: StepWeight | None
    path: ScanPath
    softplus: bool = True
    discretization: str = "simplified"
    end_weight: EndWeights | None = None  # of `trapezoidal` alone; `None` for 1/2
    initial: Carried | None = None  # `None` for rest, with nothing handed on at the end

    @classmethod
    def arranged(cls, tensors: Tensors, how: How) -> ScanArguments:
        """Make it of tensors, in the glossary's order, as a caller has them."""
        arrangement, path, softplus, rule = how
        given: Any = arrangement.inward(tensors)
        return cls(*given, path=path, softplus=softplus, discretization=rule)

    @property
    def how(self) -> How:
        """How it is computed of its tensors as they are."""
        return AS_GIVEN, self.path, self.softplus, self.discretization

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors that a gradient may be asked for, in the glossary's order."""
        return (self.u, self.delta, self.A, self.B, self.C, self.D, self.bias, self.dt_weight)

    @property
    def needs_float64(self) -> bool:
        """Whether the state is float64, since an input is."""
        given = (*self.tensors, self.end_weight, self.initial)
        return any(x is not None and x.dtype == torch.float64 for x in given)

    @property
    def shared(self) -> bool:
        """Whether all directions scan the same input."""
        return self.u.shape[2] == 1


Tensors = Sequence[Tensor | None]


def _alike(x: Any) -> Any:
    return x


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How the tensors of a caller lie, and how those of the backends do; by default, alike.

    All that is returned are views, but for gradients by parameters.
    """

    inward: Callable[[Tensors], Tensors] = _alike
    """Returns the inputs, in the order of `ScanArguments.tensors`, as the backends take them."""
    of_output: Callable[[Tensor], Tensor] = _alike
    """Returns an output, or a gradient by u or delta, as the caller wants it."""
    to_output: Callable[[Tensor], Tensor] = _alike
    """Undoes `of_output`."""
    of_weights: Callable[[Tensor], Tensor] = _alike
    """Returns a gradient by B or C as those lie."""
    of_matrix: Callable[[Tensor], Tensor] = _alike
    """Returns the gradient by A as that lies."""
    of_channels: Callable[[Tensor], Tensor] = _alike
    """Returns a gradient by D or bias as those lie."""


AS_GIVEN = Arrangement()
How = tuple[Arrangement, ScanPath, bool, str]
"""How tensors lie, the path, whether steps pass through softplus, and the discretisation."""


def like_output(u: Tensor, make: Callable[..., Tensor]) -> Tensor:
    """Return an empty tensor of u's shape: channels innermost where u has them so, else points."""
    if u.stride(-1) == 1:
        return make(u.shape)
    batch, points, group, channel = u.shape
    return make(batch, group, channel, points).permute(0, 3, 1, 2)


def check_shapes(given: Mapping[str, tuple[Tensor | None, str]], sizes: dict[str, int]) -> None:
    """Raise a `ValueError` unless tensors, given with the names of their axes, fit each other.

    `sizes` of axes that are known by their names; those that are met first are added.
    """
    for name, (tensor, axes) in given.items():
        if tensor is None:
            continue
        names = axes.split()
        shape = dict(zip(names, tensor.shape, strict=False))
        if tensor.ndim != len(names) or any(sizes.get(axis, n) != n for axis, n in shape.items()):
            known = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
            expected = ", ".join(str(sizes.get(axis, axis)) for axis in names)
            comma = "," if len(names) == 1 else ""
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; expected ({expected}{comma}), which are "
                f"({', '.join(names)}{comma})" + (f", to fit {known}" if known else "")
            )
        sizes |= shape
