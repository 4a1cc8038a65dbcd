"""The compiled scan as an operator of torch: `torch.ops.mno.selective_scan`.

As a registered operator, with a fake implementation and a gradient, it takes part in
`torch.compile`, `torch.export` and activation checkpointing. Where nobody traces or transforms, the
same functions are called without torch's dispatcher, which takes longer than a short scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

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
    scale = None if path.scale is None else path.scale.detach().float()
    wants = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    layout = packed(path.directions)
    inputs = (*tensors, scale, path.order)
    call = torch.ops.mno.selective_scan if _dispatched(inputs) else _DirectScan.apply
    y, _ = call(*inputs, layout, scan.softplus, scan.discretization, wants)
    return y.to(scan.u.dtype)


def _dispatched(tensors: Sequence[Tensor | None]) -> bool:
    """Say whether anybody has to see the operator: a tracer, a transform, a mode, a subclass."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or any(type(x) not in (Tensor, nn.Parameter, NoneType) for x in tensors)
    )


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
        return (*_differentiable_gradients(ctx, tensors, dy), *rest)
    saved = (*tensors, states, dy)
    call = torch.ops.mno.selective_scan_backward if _dispatched(saved) else _run_backward
    grads = call(*saved, *ctx.options)
    inputs = tensors[:_DIFFERENTIABLE]
    given = [None if x is None else grad for x, grad in zip(inputs, grads, strict=True)]
    return (*given, *rest)


def _differentiable_gradients(
    ctx: Any, tensors: Sequence[Tensor | None], dy: Tensor
) -> list[Tensor | None]:
    """Differentiate the plain form, since a graph of the gradients themselves was asked for."""
    *inputs, scale, order = tensors
    layout, softplus, discretization = ctx.options
    path = ScanPath(unpacked(layout), order, scale)
    y = scan_by_lines(ScanArguments(*inputs, path, softplus, discretization), plain_recurrence)  # pyright: ignore
    needed = ctx.needs_input_grad[:_DIFFERENTIABLE]
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need and x is not None]
    grads = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(grads) if need else None for need in needed]


torch.library.register_autograd("mno::selective_scan", _differentiate, setup_context=_setup)


class _DirectScan(torch.autograd.Function):
    """The operator and its gradient, called directly."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return _run(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _setup(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        return _differentiate(ctx, *grad_outputs)
