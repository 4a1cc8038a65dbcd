"""The recurrence written as plain, differentiable torch operations: the form to read.

Symbols, where a line is one sequence and a group one scan direction:
    u       input sequence            (line, length, group, channel)
    dt      step                      (line, length, group, channel)
    A       diagonal, negative        (group, state, channel)
    B, C    input, output weights     (line, length, group, state)
    h       state                     (line, group, state, channel)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mno.scan.arguments import Inputs, ScanArguments, ScanPath

Lines = Float[Tensor, "line length group channel"]
LineWeights = Float[Tensor, "line length group state"]
StateMatrix = Float[Tensor, "group state channel"]
State = Float[Tensor, "line group state channel"]

SEGMENT = 64
SMALL = 0.1
# phi(z) = (exp(z) - 1) / z = 1 + z/2! + z^2/3! + ..., to float64 accuracy where |z| < SMALL.
PHI_SERIES = (1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24)
PHI_SERIES += (1 / 6, 1 / 2, 1.0)


def plain_recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, *, rule: str
) -> Lines:
    """Run h_t = exp(dt_t A) h_{t-1} + Bbar_t u_t, y_t = C_t . h_t along every line, from h = 0.

    Bbar_t is dt_t B_t, or A^-1 (exp(dt_t A) - 1) B_t for `zoh`. The rule `centred` makes two half
    steps and takes the output between them: with a = exp(dt_t A / 2) and b = dt_t B_t u_t / 2,
    m = a h_{t-1} + b, y_t = C_t . m, h_t = a (m + b). Long lines are cut into segments whose
    intermediate values are computed again in the backward pass, so that memory grows with the
    number of segments, not with every step.
    """
    step = partial(_segment, rule=rule)
    length = u.shape[1]
    h = u.new_zeros((u.shape[0], *A.shape))
    parts = []
    for start in range(0, length, SEGMENT):
        cut = [x[:, start : start + SEGMENT] for x in (u, dt, B, C)]
        if length <= SEGMENT:
            y, h = step(h, A, *cut)
        else:
            y, h = checkpoint(step, h, A, *cut, use_reentrant=False)
        parts.append(y)
    return torch.cat(parts, dim=1) if parts else torch.zeros_like(u)


def _segment(
    h: State, A: StateMatrix, u: Lines, dt: Lines, B: LineWeights, C: LineWeights, *, rule: str
) -> tuple[Lines, State]:
    z, drive = decay_and_drive(u, dt, A, B, rule=rule)
    outputs = []
    for a, x, weight in zip(torch.exp(z).unbind(1), drive.unbind(1), C.unbind(1), strict=True):
        seen = a * h + x
        h = a * (seen + x) if rule == "centred" else seen
        outputs.append((seen * weight[..., None]).sum(-2))
    return torch.stack(outputs, dim=1), h


def decay_and_drive(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, *, rule: str
) -> tuple[Tensor, Tensor]:
    """Return the exponent of the decay, dt A, and Bbar u, both `(..., group, state, channel)`.

    For `centred`, those of half a step.
    """
    dt = dt / 2 if rule == "centred" else dt
    z = dt[..., None, :] * A
    drive = (u * dt)[..., None, :] * B[..., None]
    if rule == "zoh":
        # A^-1 (exp(dt A) - 1) = dt phi(dt A), which has no division by A.
        drive = drive * _phi(z)
    return z, drive


def _phi(z: Tensor) -> Tensor:
    """Return (exp(z) - 1) / z, exact and differentiable as z goes to zero."""
    small = z.abs() < SMALL
    inside = torch.where(small, z, 0.0)
    series = torch.full_like(z, PHI_SERIES[0])
    for coefficient in PHI_SERIES[1:]:
        series = series * inside + coefficient
    outside = torch.where(small, 1.0, z)
    return torch.where(small, series, torch.expm1(outside) / outside)


Recurrence = Callable[..., Lines]
"""Runs a state space along lines: called as `mno.scan.plain.plain_recurrence` is."""


def scan_by_lines(scan: ScanArguments, recurrence: Recurrence) -> Inputs:
    """Compute a scan with a float32 state, or a float64 one where an input is float64."""
    dtype = torch.float64 if scan.needs_float64 else torch.float32
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
