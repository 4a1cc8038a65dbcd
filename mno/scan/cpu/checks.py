"""Checks before a kernel runs: it works on addresses, so no wrong shape must reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mno.scan.arguments import unpacked

INPUTS = ("u", "delta", "A", "B", "C", "D", "bias", "dt_weight", "scale", "order")


def check_inputs(inputs: Mapping[str, Tensor | None], layout: Sequence[int]) -> None:
    """Raise a `ValueError` that names the first input of a scan that does not fit the others.

    Args:
        inputs: The tensors of a scan, by the names of the glossary and `scale` and `order`.
        layout: Its directions, packed.
    """
    u, A, dt_weight = inputs["u"], inputs["A"], inputs["dt_weight"]
    if u is None or A is None or u.ndim != 4 or A.ndim != 3:
        raise ValueError("u must have four axes (batch, point, K or 1, channel) and A three")
    batch, points, shared, channel = u.shape
    groups, state = A.shape[:2]
    rank = channel if dt_weight is None else dt_weight.shape[1]
    expect("u", u, (batch, points, 1 if shared == 1 else groups, channel))
    for name, shape in {
        "delta": (batch, points, groups, rank),
        "A": (groups, state, channel),
        "B": (batch, points, groups, state),
        "C": (batch, points, groups, state),
        "D": (groups, channel),
        "bias": (groups, channel),
        "dt_weight": (groups, rank, channel),
    }.items():
        expect(name, inputs[name], shape)
    for name, dtype in (("scale", torch.float32), ("order", torch.int32)):
        tensor = inputs[name]
        if tensor is not None:
            samples = 1 if tensor.shape[0] == 1 else batch
            expect(name, tensor, (samples, groups, points), dtype)
    order = inputs["order"]
    if order is not None and order.numel() and not 0 <= order.min() <= order.max() < points:
        raise ValueError(f"order names points from {order.min()} to {order.max()} of {points}")
    directions = unpacked(layout)
    steps = [(d.line, d.period * d.stride) for d in directions]
    if len(directions) != groups or any(points and (n < 1 or points % n) for s in steps for n in s):
        raise ValueError(
            f"layout={list(layout)} does not cut {points} points into whole lines along "
            f"{groups} directions"
        )


def expect(
    name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> None:
    """Raise a `ValueError` if a tensor, where there is one, is not as it must be."""
    if tensor is None:
        return
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}; expected "
            f"{dtype} of shape {shape} on the CPU"
        )
