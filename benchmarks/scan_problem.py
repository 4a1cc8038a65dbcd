"""The scan that is measured: its inputs, and the value and gradients that every side computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mno.scan.arguments import Direction, ScanPath
from mno.scan.backends import compute
from mno.scan.interface import selective_scan
from mno.scan.ssd import HeadScan, ssd

BATCH, CHANNELS, STATE, GROUPS = 2, 384, 16, 2
HEADS = 6  # of 64 channels, as in Mamba-2
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


def make_pair(state: int, length: int) -> tuple[list[Tensor], list[Tensor]]:
    """Draw the inputs of `selective_scan` with one group, and as many of `by_heads`."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    low, high = math.log(1e-3), math.log(1e-1)
    steps = torch.exp(low + (high - low) * torch.rand(CHANNELS, generator=draw))
    bias = steps + torch.log(-torch.expm1(-steps))
    u, B, C = normal(BATCH, length, CHANNELS), *(normal(BATCH, length, state) for _ in range(2))
    by_channel = [
        u.mT.contiguous(),
        normal(BATCH, CHANNELS, length) / 2,
        -torch.arange(1.0, state + 1).repeat(CHANNELS, 1),
        *(x.mT[:, None].contiguous() for x in (B, C)),
        normal(CHANNELS),
        bias,
    ]
    by_head = [
        u[:, :, None].clone(),
        normal(BATCH, length, 1, HEADS) / 2,
        -(1 + 15 * torch.rand(1, HEADS, generator=draw)),
        *(x[:, :, None].clone() for x in (B, C)),
        normal(1, HEADS),
        bias[None, :HEADS].clone(),
    ]
    return [x.requires_grad_() for x in by_channel], [x.requires_grad_() for x in by_head]


def by_heads(*inputs: Tensor) -> Tensor:
    """Run the scan with one decay per head, along one line."""
    return ssd(_head_scan(*inputs))


def heads_by_steps(*inputs: Tensor) -> Tensor:
    """Run the same as the recurrence that it is."""
    return compute(_head_scan(*inputs).by_channel(), "reference")


def _head_scan(*inputs: Tensor) -> HeadScan:
    line = Direction(inputs[0].shape[1], inputs[0].shape[1])
    return HeadScan(*inputs, path=ScanPath((line,)))


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
