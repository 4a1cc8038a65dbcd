"""The compiled scan as an operator of torch: `torch.ops.mno.selective_scan`.

As a registered operator, with a fake implementation and a gradient, it takes part in
`torch.compile`, `torch.export` and activation checkpointing. Where nobody traces or transforms, the
same functions are called without torch's dispatcher, which takes longer than a short scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mno.scan import cpu
from mno.scan.arguments import Inputs, ScanArguments, ScanPath, packed, unpacked
from mno.scan.lines import scan_by_lines
from mno.scan.plain import plain_recurrence

_DIFFERENTIABLE = 8  # the first inputs of the operator
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? bias, "
    "Tensor? dt_weight, Tensor? scale, Tensor? order"
)
_OPTIONS = "int[] layout, bool softplus, str discretization"


def obstacle(scan: ScanArguments) -> str | None:
    """Say why the compiled scan cannot compute a scan, or return `None`."""
    if scan.u.device.type != "cpu":
        return f"it runs on processors, and the input is on {scan.u.device}"
    if any(x is not None and x.dtype == torch.float64 for x in scan.tensors):
        return "it computes in float32, and an input is float64"
    return cpu.unavailable()


def compiled_scan(scan: ScanArguments) -> Inputs:
    """Compute a scan with the kernels of `mno.scan.cpu`, with a float32 state."""
    tensors = [None if x is None else x.float() for x in scan.tensors]
    path = scan.path
    if is_direct(tensors):
        y = direct_scan(AS_THEY_ARE, tensors, path, scan.softplus, scan.discretization)
        return y.to(scan.u.dtype)
    scale = None if path.scale is None else path.scale.detach().float()
    inputs = (*tensors, scale, path.order, packed(path.directions), scan.softplus)
    y, _ = torch.ops.mno.selective_scan(*inputs, scan.discretization, _wants_gradient(tensors))
    return y.to(scan.u.dtype)


@torch.library.custom_op(
    "mno::selective_scan",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_OPTIONS}, bool save) -> (Tensor, Tensor)",
)
def _forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    layout: list[int],
    softplus: bool,
    discretization: str,
    save: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output, and the states that the backward pass starts from if `save`."""
    inputs = (u, delta, A, B, C, D, bias, dt_weight, scale, order)
    return _run(*inputs, layout, softplus, discretization, save)


def _run(*inputs: Any) -> tuple[Tensor, Tensor]:
    from mno.scan.cpu import launch  # loads numba

    *tensors_and_layout, softplus, discretization, save = inputs
    return launch.forward(
        *tensors_and_layout, softplus=softplus, discretization=discretization, save=save
    )


@_forward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    layout: list[int],
    softplus: bool,
    discretization: str,
    save: bool,
) -> tuple[Tensor, Tensor]:
    groups, state, channels = A.shape
    kept = cpu.num_states(u.shape[1]) if save else 0
    return _laid_out_like(u), u.new_empty(u.shape[0], kept, state, groups * channels)


@torch.library.custom_op(
    "mno::selective_scan_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, Tensor states, Tensor dy, {_OPTIONS}) -> Tensor[]",
)
def _backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    states: Tensor,
    dy: Tensor,
    layout: list[int],
    softplus: bool,
    discretization: str,
) -> list[Tensor]:
    """Return the gradients of the first eight inputs, empty for those that are not there."""
    inputs = (u, delta, A, B, C, D, bias, dt_weight, scale, order)
    grads = _run_backward(*inputs, states, dy, layout, softplus, discretization)
    return [u.new_empty(0) if grad is None else grad for grad in grads]


def _run_backward(*inputs: Any) -> tuple[Tensor | None, ...]:
    from mno.scan.cpu import launch

    *tensors_and_layout, softplus, discretization = inputs
    return launch.backward(*tensors_and_layout, softplus=softplus, discretization=discretization)


@_backward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    states: Tensor,
    dy: Tensor,
    layout: list[int],
    softplus: bool,
    discretization: str,
) -> list[Tensor]:
    ddelta = _laid_out_like(delta) if dt_weight is None else delta.new_empty(delta.shape)
    rest = (A, B, C, D, bias, dt_weight)
    return [
        _laid_out_like(u),
        ddelta,
        *(u.new_empty(0 if x is None else x.shape) for x in rest),
    ]


def _laid_out_like(u: Tensor) -> Tensor:
    """Return an empty tensor in the layout of an output, as `launch.forward` states it."""
    if u.stride(-1) == 1:
        return u.new_empty(u.shape)
    batch, points, groups, channels = u.shape
    return u.new_empty(batch, groups, channels, points).permute(0, 3, 1, 2)


def _setup(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor]) -> None:
    *tensors, layout, softplus, discretization, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.options = (layout, softplus, discretization)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, states = ctx.saved_tensors
    rest = (None,) * (len(tensors) - _DIFFERENTIABLE + 4)
    if dy is None:
        return (None,) * _DIFFERENTIABLE + rest
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        *inputs, scale, order = tensors
        layout, *how = ctx.options
        path, needed = ScanPath(unpacked(layout), order, scale), ctx.needs_input_grad
        return (*_plain_gradients(AS_THEY_ARE, inputs, needed, dy, path, *how), *rest)
    grads = torch.ops.mno.selective_scan_backward(*tensors, states, dy, *ctx.options)
    inputs = tensors[:_DIFFERENTIABLE]
    given = [None if x is None else grad for x, grad in zip(inputs, grads, strict=True)]
    return (*given, *rest)


torch.library.register_autograd("mno::selective_scan", _differentiate, setup_context=_setup)


class Arrangement(Protocol):
    """How the tensors of a caller lie, and how those of the backends do.

    Tensors come in the order of `ScanArguments.tensors`; all that is returned are views.
    """

    def inward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the inputs as the backends take them."""
        ...

    def outward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the gradients by the inputs as those lie."""
        ...

    def of_output(self, y: Tensor) -> Tensor:
        """Return the backends' output as the caller wants it."""
        ...

    def to_output(self, y: Tensor) -> Tensor:
        """Undo `of_output`."""
        ...


class _AsTheyAre:
    """The arrangement of the backends themselves."""

    def inward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return tensors

    def outward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return tensors

    def of_output(self, y: Tensor) -> Tensor:
        return y

    def to_output(self, y: Tensor) -> Tensor:
        return y


AS_THEY_ARE = _AsTheyAre()


def is_direct(tensors: Sequence[Tensor | None]) -> bool:
    """Say whether a scan of these tensors can be computed by `direct_scan`.

    Not where anybody has to see the operator: a tracer, a transform, a mode, a subclass; and only
    in float32 on a processor that has the kernels.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and all(x is None or _is_plain(x) for x in tensors)
        and cpu.unavailable() is None
    )


def _is_plain(x: Tensor) -> bool:
    usual = type(x) is Tensor or type(x) is nn.Parameter
    return usual and x.dtype == torch.float32 and x.device.type == "cpu"


def direct_scan(
    arrangement: Arrangement,
    tensors: Sequence[Tensor | None],
    path: ScanPath,
    softplus: bool,
    discretization: str,
) -> Tensor:
    """Compute a scan without torch's dispatcher, which takes longer than a short scan does."""
    wants = _wants_gradient(tensors)
    y, _ = _DirectScan.apply(arrangement, path, softplus, discretization, wants, *tensors)
    return y


def _wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


class _DirectScan(torch.autograd.Function):
    """The operator and its gradient, for tensors in any arrangement."""

    @staticmethod
    def forward(
        arrangement: Arrangement,
        path: ScanPath,
        softplus: bool,
        discretization: str,
        save: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        options = (packed(path.directions), softplus, discretization, save)
        y, states = _run(*arrangement.inward(tensors), _scale(path), path.order, *options)
        return arrangement.of_output(y), states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *ctx.options, _ = inputs[:5]
        ctx.save_for_backward(*inputs[5:], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        *tensors, states = ctx.saved_tensors
        arrangement, path, *how = ctx.options
        dy, nothing = grad_outputs[0], (None,) * 5
        if dy is None:
            return (*nothing, *(None for _ in tensors))
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[5:]
            return (*nothing, *_plain_gradients(arrangement, tensors, needed, dy, path, *how))
        grads = _run_backward(
            *arrangement.inward(tensors), _scale(path), path.order, states,
            arrangement.to_output(dy), packed(path.directions), *how,
        )  # fmt: skip
        return (*nothing, *arrangement.outward(grads))


def _scale(path: ScanPath) -> Tensor | None:
    return None if path.scale is None else path.scale.detach().float()


def _plain_gradients(
    arrangement: Arrangement,
    tensors: Sequence[Tensor | None],
    needed: Sequence[bool],
    dy: Tensor,
    path: ScanPath,
    softplus: bool,
    discretization: str,
) -> list[Tensor | None]:
    """Differentiate the plain form, since a graph of the gradients themselves was asked for."""
    inputs: Any = arrangement.inward(tensors)
    scan = ScanArguments(*inputs, path=path, softplus=softplus, discretization=discretization)
    y = arrangement.of_output(scan_by_lines(scan, plain_recurrence))
    asked = [need and x is not None for x, need in zip(tensors, needed, strict=False)]
    wanted = [x for x, ask in zip(tensors, asked, strict=True) if ask and x is not None]
    grads = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(grads) if ask else None for ask in asked]
