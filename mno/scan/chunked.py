"""The recurrence in chunks that run side by side: few, large operations, as GPUs want them.

A line is cut into chunks. All chunks start from rest at once; then the state at each chunk's end is
carried into the chunks after it, and its contribution C_t . exp(A sum dt) h is added. The number of
operations in sequence is `CHUNK` plus the number of chunks, in place of the length.

Source:
    The split into a chunk's own part and the part carried in is that of Dao and Gu, "Transformers
    are SSMs", arXiv:2405.21060, section 6, here with a decay per channel and state.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mno.scan.plain import Lines, LineWeights, State, StateMatrix, decay_and_drive

CHUNK = 32
SPAN = 32
"""Chunks computed at once; memory grows with their product, not with the length."""


def chunked_recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, *, rule: str
) -> Lines:
    """Compute what `plain_recurrence` does."""
    lines, length = u.shape[:2]
    h = u.new_zeros((lines, *A.shape))
    step = partial(_span, rule=rule)
    parts = []
    for start in range(0, length, CHUNK * SPAN):
        cut = [x[:, start : start + CHUNK * SPAN] for x in (u, dt, B, C)]
        y, h = checkpoint(step, h, A, *cut, use_reentrant=False)
        parts.append(y)
    return torch.cat(parts, dim=1) if parts else torch.zeros_like(u)


def _span(
    h: State, A: StateMatrix, u: Lines, dt: Lines, B: LineWeights, C: LineWeights, *, rule: str
) -> tuple[Lines, State]:
    length = u.shape[1]
    size = min(CHUNK, length)
    # A step of zero neither decays nor drives, so padding leaves the state as it is.
    u, dt, B, C = (_chunks(x, size) for x in (u, dt, B, C))
    z, drive = decay_and_drive(u, dt, A, B, rule=rule)
    decay, centred = torch.exp(z), rule == "centred"

    local, own = torch.zeros_like(drive[:, :, 0]), []
    for a, x in zip(decay.unbind(2), drive.unbind(2), strict=True):
        seen = a * local + x
        local = a * (seen + x) if centred else seen
        own.append(seen)

    # The decay from a chunk's start to where each output is taken, and to the chunk's end.
    exponent = torch.cumsum(z, dim=2)
    to_end = torch.exp(exponent[:, :, -1] * (2 if centred else 1))
    since_start = torch.exp(2 * exponent - z if centred else exponent)
    carried = []
    for i in range(u.shape[1]):
        carried.append(h)
        h = to_end[:, i] * h + local[:, i]
    states = torch.stack(own, dim=2) + since_start * torch.stack(carried, dim=1)[:, :, None]
    y = (states * C[..., None]).sum(-2)
    return y.flatten(1, 2)[:, :length], h


def _chunks(x: Tensor, size: int) -> Tensor:
    """Cut (line, length, ...) into (line, chunk, size, ...), filled up with zeros."""
    missing = -x.shape[1] % size
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing)).unflatten(1, (-1, size))
