"""Corruption of inputs: noise, and points whose values are missing."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch

from mno.core.batch import Batch


def corrupt(batch: Batch, *, noise: float, mask: float, gaps: Collection[str] = ()) -> Batch:
    """Return a batch with noise in its fields and with points whose values are missing.

    A missing point is missing in all fields, at all their frames. In fields that may have gaps it
    is NaN, as what is missing in the data, and the operator is told. In others it holds 0, the
    field's mean in normalised units, and nothing says so: the operator is used likewise, with the
    mean in place of what was not measured. Noise comes first, so missing points carry none.

    The numbers are drawn from torch's generator on the fields' device, which starts anew in each
    epoch (`mno.training.order.seed_epoch`).

    Args:
        batch: Normalised fields.
        noise: Standard deviation of the noise, white and normal; none is drawn for 0.
        mask: Share of points that are missing; none are drawn for 0.
        gaps: Names of the fields that may have gaps.
    """
    fields = dict(batch.fields)
    if noise:
        fields = {name: x + noise * torch.randn_like(x) for name, x in fields.items()}
    if mask:
        some = next(iter(fields.values()))
        present = torch.rand((len(batch), *batch.shape), device=some.device) >= mask
        for name, x in fields.items():
            with_frames = x.ndim > present.ndim
            hole = math.nan if name in gaps else 0.0
            fields[name] = torch.where(present[:, None] if with_frames else present, x, hole)
    return replace(batch, fields=fields)
