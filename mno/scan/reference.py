"""The `reference` backend: plain torch, any device and floating type, twice differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mno.scan.blocked import blocked_scan
from mno.scan.plain import Lines, PerChannel, StateMatrix, StepScale, Weights, plain_scan


def reference_scan(
    u: Lines,
    delta: Lines,
    A: StateMatrix,
    B: Weights,
    C: Weights,
    D: PerChannel | None,
    bias: PerChannel | None,
    scale: StepScale | None,
    *,
    softplus: bool,
    reverse: Sequence[bool],
    discretization: str,
) -> Lines:
    """Scan with a float32 state, or a float64 one where an input is float64."""
    tensors = (u, delta, A, B, C, D, bias)
    dtype = torch.float32
    if any(x is not None and x.dtype == torch.float64 for x in tensors):
        dtype = torch.float64
    args = [_cast(x, dtype) for x in tensors]
    args.append(None if scale is None else scale.detach().to(dtype))
    if discretization == "simplified":
        y = blocked_scan(*args, softplus=softplus, reverse=reverse)  # pyright: ignore
    else:
        y = plain_scan(*args, softplus=softplus, reverse=reverse, zoh=True)  # pyright: ignore
    return y.to(u.dtype)


def _cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.to(dtype)
