"""Other ways to compute the scan: mambapy's parallel scan, and loops over time in plain torch.

They take the same seven inputs in the layout in which they are fastest: u and delta
`(batch, length, channels)`, B and C `(batch, length, groups, state)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.scan_problem import Scan


def channels_last(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Bring the inputs of `selective_scan` into the layout of the peers."""
    u, delta, A, B, C, D, bias = (x.detach() for x in inputs)
    moved = (u.mT, delta.mT, A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2), D, bias)
    return [x.contiguous().requires_grad_() for x in moved]


def channels_first(results: Sequence[Tensor]) -> list[Tensor]:
    """Bring an output and seven gradients of a peer into the layout of `selective_scan`."""
    y, u, delta, A, B, C, D, bias = results
    return [y.mT, u.mT, delta.mT, A, B.permute(0, 2, 3, 1), C.permute(0, 2, 3, 1), D, bias]


def mambapy_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
) -> Tensor:
    """Scan as `mambapy.mamba.MambaBlock.selective_scan` does, with several groups.

    Raises:
        ModuleNotFoundError: mambapy is not installed.
    """
    from mambapy.pscan import pscan  # pyright: ignore[reportMissingImports]

    decay, drive = _discretise(u, delta, A, B, bias)
    return _read_out(pscan(decay, drive), u, C, D)


def mambapy_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
) -> Tensor:
    """Scan as `mambapy.mamba.MambaBlock.selective_scan_seq` does, with several groups.

    The steps are taken apart by `unbind`: the indexing of the original makes its backward pass
    quadratic in the length.
    """
    decay, drive = _discretise(u, delta, A, B, bias)
    h, states = torch.zeros_like(decay[:, 0]), []
    for a, x in zip(decay.unbind(1), drive.unbind(1), strict=True):
        h = a * h + x
        states.append(h)
    return _read_out(torch.stack(states, dim=1), u, C, D)


def lean_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
) -> Tensor:
    """Scan with everything inside the loop, so that what a step makes is still in the cache.

    The fastest of the loops in plain torch that were tried.
    """
    groups = B.shape[2]
    step = F.softplus(delta + bias)
    dt, du = (x.unflatten(2, (groups, -1)).unbind(1) for x in (step, step * u))
    A = A.unflatten(0, (groups, -1))
    h, outputs = u.new_zeros((len(u), *A.shape)), []
    for d, x, b, c in zip(dt, du, B.unbind(1), C.unbind(1), strict=True):
        decay = torch.exp(d.unsqueeze(-1) * A)
        h = torch.addcmul(x.unsqueeze(-1) * b.unsqueeze(2), decay, h)
        outputs.append((h @ c.unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, dim=1).flatten(2) + D * u


def _discretise(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return exp(dt A) and dt B u, both `(batch, length, channels, state)`."""
    dt = F.softplus(delta + bias)
    dt_b = dt.unflatten(2, (B.shape[2], -1)).unsqueeze(-1) * B.unsqueeze(3)
    return torch.exp(dt.unsqueeze(-1) * A), dt_b.flatten(2, 3) * u.unsqueeze(-1)


def _read_out(states: Tensor, u: Tensor, C: Tensor, D: Tensor) -> Tensor:
    by_group = states.unflatten(2, (C.shape[2], -1))
    return (by_group @ C.unsqueeze(-1)).squeeze(-1).flatten(2) + D * u


PEERS: dict[str, Scan] = {
    "mambapy's `pscan`": mambapy_scan,
    "torch loop over time, lean": lean_loop,
    "torch loop over time, as mambapy's": mambapy_loop,
}


def is_installed(scan: Scan) -> bool:
    """Say whether a peer has the package that it needs."""
    return scan is not mambapy_scan or find_spec("mambapy") is not None
