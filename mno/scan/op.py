"""The compiled scan as an operator of torch: `torch.ops.mno.selective_scan`.

As a registered operator, with a fake implementation and a gradient, it takes part in
`torch.compile`, `torch.export` and activation checkpointing. Where nobody traces or transforms, the
same functions are called directly (`mno.scan.direct`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mno.scan import cpu
from mno.scan.arguments import Inputs, ScanArguments, ScanPath, packed, unpacked
from mno.scan.direct import (
    AS_THEY_ARE,
    direct_scan,
    is_direct,
    plain_gradients,
    run,
    run_backward,
    wants_gradient,
)

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
    inputs = (*tensors, path.factors, path.order, packed(path.directions), scan.softplus)
    y, _ = torch.ops.mno.selective_scan(*inputs, scan.discretization, wants_gradient(tensors))
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
    return run(*inputs, layout, softplus, discretization, save)


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
    grads = run_backward(*inputs, states, dy, layout, softplus, discretization)
    return [u.new_empty(0) if grad is None else grad for grad in grads]


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
        return (*plain_gradients(AS_THEY_ARE, inputs, needed, dy, path, *how), *rest)
    grads = torch.ops.mno.selective_scan_backward(*tensors, states, dy, *ctx.options)
    inputs = tensors[:_DIFFERENTIABLE]
    given = [None if x is None else grad for x, grad in zip(inputs, grads, strict=True)]
    return (*given, *rest)


torch.library.register_autograd("mno::selective_scan", _differentiate, setup_context=_setup)
