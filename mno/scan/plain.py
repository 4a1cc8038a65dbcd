"""The scan written as plain, differentiable torch operations: the form to read.

It can be differentiated any number of times. `mno.scan.blocked` computes the same, faster.

Glossary, in the layout that backends work in (a group is one scan direction):
    u       input sequence                          (line, length, group, channel)
    delta   raw step                                (line, length, group, channel)
    dt      step, scale * softplus(delta + bias)    (line, length, group, channel)
    A       diagonal of the state matrix            (group, state, channel)
    B, C    input and output weights                (line, length, group, state)
    D       weight of the direct path               (group, channel)
    bias    added to delta                          (group, channel)
    scale   factor of each step                     (length, group, 1)
    h       state                                   (line, group, state, channel)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Lines = Float[Tensor, "line length group channel"]
Weights = Float[Tensor, "line length group state"]
StateMatrix = Float[Tensor, "group state channel"]
State = Float[Tensor, "line group state channel"]
PerChannel = Float[Tensor, "group channel"]
StepScale = Float[Tensor, "length group 1"]

SEGMENT = 64
SMALL = 0.1
# phi(z) = (exp(z) - 1) / z = 1 + z/2! + z^2/3! + ..., to float64 accuracy where |z| < SMALL.
PHI_SERIES = (1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24)
PHI_SERIES += (1 / 6, 1 / 2, 1.0)


def plain_scan(
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
    zoh: bool,
) -> Lines:
    """Run h_t = exp(dt_t A) h_{t-1} + Bbar_t u_t, y_t = C_t . h_t + D u_t, from h = 0.

    Bbar_t is dt_t B_t, or A^-1 (exp(dt_t A) - 1) B_t for `zoh`. Long sequences are cut into
    segments whose intermediate values are computed again in the backward pass, so that memory
    grows with the number of segments, not with every step.
    """
    dt = delta if bias is None else delta + bias
    dt = F.softplus(dt) if softplus else dt
    dt = dt if scale is None else dt * scale
    sequences = [_turned(x, reverse) for x in (u, dt, B, C)]
    step = partial(_segment, zoh=zoh)
    length = u.shape[1]
    h = u.new_zeros((u.shape[0], *A.shape))
    parts = []
    for start in range(0, length, SEGMENT):
        cut = [x[:, start : start + SEGMENT] for x in sequences]
        if length <= SEGMENT:
            y, h = step(h, A, *cut)
        else:
            y, h = checkpoint(step, h, A, *cut, use_reentrant=False)
        parts.append(y)
    y = _turned(torch.cat(parts, dim=1) if parts else torch.zeros_like(u), reverse)
    return y if D is None else y + D * u


def _turned(x: Tensor, reverse: Sequence[bool]) -> Tensor:
    """Turn the reversed groups around in time; doing it twice undoes it."""
    if not any(reverse):
        return x
    groups = zip(x.unbind(2), reverse, strict=True)
    return torch.stack([part.flip(1) if back else part for part, back in groups], dim=2)


def _segment(
    h: State, A: StateMatrix, u: Lines, dt: Lines, B: Weights, C: Weights, *, zoh: bool
) -> tuple[Lines, State]:
    z = dt[..., None, :] * A
    x = (u * dt)[..., None, :] * B[..., None]
    if zoh:
        # A^-1 (exp(dt A) - 1) = dt phi(dt A), which has no division by A.
        x = x * _phi(z)
    outputs = []
    for decay, drive, weight in zip(torch.exp(z).unbind(1), x.unbind(1), C.unbind(1), strict=True):
        h = decay * h + drive
        outputs.append((h * weight[..., None]).sum(-2))
    return torch.stack(outputs, dim=1), h


def _phi(z: Tensor) -> Tensor:
    """Return (exp(z) - 1) / z, exact and differentiable as z goes to zero."""
    small = z.abs() < SMALL
    inside = torch.where(small, z, 0.0)
    series = torch.full_like(z, PHI_SERIES[0])
    for coefficient in PHI_SERIES[1:]:
        series = series * inside + coefficient
    outside = torch.where(small, 1.0, z)
    return torch.where(small, series, torch.expm1(outside) / outside)
