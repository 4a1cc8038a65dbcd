"""The scan that is measured: its inputs, and the value and gradients that every side computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mno.scan.interface import selective_scan

BATCH, CHANNELS, STATE, GROUPS = 2, 384, 16, 2
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
Scan = Callable[..., Tensor]


def make_inputs(length: int) -> list[Tensor]:
    """Draw the seven inputs, in the layout of `selective_scan`, with the steps of fresh weights."""
    draw = torch.Generator().manual_seed(0)
    low, high = math.log(1e-3), math.log(1e-1)
    steps = torch.exp(low + (high - low) * torch.rand(CHANNELS, generator=draw))
    inputs = [
        torch.randn(BATCH, CHANNELS, length, generator=draw),
        torch.randn(BATCH, CHANNELS, length, generator=draw) / 2,
        -torch.arange(1.0, STATE + 1).repeat(CHANNELS, 1),
        torch.randn(BATCH, GROUPS, STATE, length, generator=draw),
        torch.randn(BATCH, GROUPS, STATE, length, generator=draw),
        torch.randn(CHANNELS, generator=draw),
        steps + torch.log(-torch.expm1(-steps)),  # softplus of it is the step
    ]
    return [x.requires_grad_() for x in inputs]


def make_cotangent(length: int) -> Tensor:
    """Draw the gradient that the backward pass starts from, in the layout of the output."""
    return torch.randn(BATCH, CHANNELS, length, generator=torch.Generator().manual_seed(1))


def ours(*inputs: Tensor) -> Tensor:
    """Run the compiled scan."""
    return selective_scan(*inputs, backend="cpu")


def both_passes(scan: Scan, inputs: Sequence[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    """Return the output and the gradients of all inputs."""
    y = scan(*inputs)
    return y, *torch.autograd.grad(y, inputs, cotangent)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return max |difference| / max |reference|."""
    difference = value.detach().double() - reference.detach().double()
    return float(difference.abs().max() / reference.detach().abs().max())
