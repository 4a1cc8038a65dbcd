"""From points to lines and back: how a recurrence along lines serves any path.

The torch backends gather every direction's points into lines, run the recurrence, and put the
results back. The compiled backend needs none of this: it reads the points where they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mno.scan.arguments import Inputs, ScanArguments, ScanPath
from mno.scan.plain import Lines

Recurrence = Callable[..., Lines]
"""Runs a state space along lines: called as `mno.scan.plain.plain_recurrence` is."""


def scan_by_lines(scan: ScanArguments, recurrence: Recurrence) -> Inputs:
    """Compute a scan with a float32 state, or a float64 one where an input is float64."""
    dtype = torch.float32
    if any(x is not None and x.dtype == torch.float64 for x in scan.tensors):
        dtype = torch.float64
    u, A, B, C = (x.to(dtype) for x in (scan.u, scan.A, scan.B, scan.C))
    dt = step_lengths(scan, dtype)
    each = u.expand(-1, -1, A.shape[0], -1)
    y = torch.zeros_like(each) if each.numel() == 0 else _scan(scan, recurrence, each, dt, A, B, C)
    y = y if scan.D is None else y + scan.D.to(dtype) * each
    y = y.sum(2, keepdim=True) if scan.shared else y
    return y.to(scan.u.dtype)


def step_lengths(scan: ScanArguments, dtype: torch.dtype) -> Float[Tensor, "batch point group c"]:
    """Return the steps dt = scale * softplus(delta @ dt_weight + bias), `(batch, point, K, c)`."""
    raw = scan.delta.to(dtype)
    if scan.dt_weight is not None:
        raw = torch.einsum("bpkr,krc->bpkc", raw, scan.dt_weight.to(dtype))
    raw = raw if scan.bias is None else raw + scan.bias.to(dtype)
    dt = F.softplus(raw) if scan.softplus else raw
    if scan.path.scale is None:
        return dt
    return dt * scan.path.scale.detach().to(dtype).transpose(1, 2)[..., None]


def _scan(
    scan: ScanArguments,
    recurrence: Recurrence,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
) -> Tensor:
    """Run the directions whose lines are equally long together."""
    path = scan.path
    lengths = [direction.line for direction in path.directions]
    parts: list[Tensor | None] = [None] * len(lengths)
    for line in sorted(set(lengths)):
        groups = [k for k, length in enumerate(lengths) if length == line]
        visits = visited_points(path, u.shape[1], u.device)[:, groups].transpose(1, 2)[..., None]
        walked = [torch.take_along_dim(x[:, :, groups], visits, dim=1) for x in (u, dt, B, C)]
        lines = [x.unflatten(1, (-1, line)).flatten(0, 1) for x in walked]
        along = recurrence(
            lines[0], lines[1], A[groups], lines[2], lines[3], rule=scan.discretization
        )
        along = along.unflatten(0, (len(u), -1)).flatten(1, 2)
        placed = torch.take_along_dim(along, torch.argsort(visits, dim=1), dim=1)
        for i, group in enumerate(groups):
            parts[group] = placed[:, :, i]
    return torch.stack([part for part in parts if part is not None], dim=2)


def visited_points(path: ScanPath, num_points: int, device: torch.device | None = None) -> Tensor:
    """List the points in the order in which each direction visits them.

    Returns:
        int64, `(1 or batch, K, points)`.
    """
    if path.order is None:
        rows = [d.walk(num_points, device) for d in path.directions]
        return torch.stack(rows)[None]
    rows = [
        order.flip(-1) if direction.reverse else order
        for direction, order in zip(path.directions, path.order.unbind(1), strict=True)
    ]
    return torch.stack(rows, dim=1).to(device, torch.int64)
