"""Floating-point operations of one prediction.

Counted are matrix products, convolutions and attention (by torch's counter), and Fourier
transforms and the selective scan (by the formulas here). A multiplication and an addition are two
operations, an exponential is one; products of complex numbers count four times those of real ones.
Pointwise operations (activations, norms, sums) are not counted, as is the convention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, mm_flop, sdpa_flop_count

import mno.scan.op  # noqa: F401 - registers the operator

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate

_PER_STATE = {"simplified": 7, "zoh": 9, "centred": 9}
"""Operations per state, channel and point, by the rules of `mno.scan.selective_scan`:

    simplified  a = exp(delta A): 2;  b = (delta u) B: 1;  h = a h + b: 2;  y += C h: 2
    zoh         the same, and (a - 1) / A in place of delta: 2 more
    centred     the same as simplified with m for h, and h = a (m + b): 2 more
"""


def flops_per_prediction(surrogate: Surrogate, one: Mapping[str, np.ndarray]) -> int:
    """Count the operations of one prediction, of a rollout those of all its frames.

    Args:
        surrogate: The trained operator.
        one: What it is given, of one sample: shape `(1, *dims)`, by name.
    """
    formulas: dict[Any, Any] = {
        torch.ops.mno.selective_scan: _scan,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten.mm: _products(mm_flop),
        torch.ops.aten.bmm: _products(bmm_flop),
        torch.ops.aten._fft_r2c: _transform,
        torch.ops.aten._fft_c2r: _transform,
        torch.ops.aten._fft_c2c: _transform,
    }
    for formula in formulas.values():
        formula._get_raw = True  # wants tensors, not their shapes
    description = surrogate.description
    steps = description.forecast.steps if description.forecast and description.rolls_out else 1
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        surrogate.predict(one, 1, steps=1 if description.rolls_out else None)
    return steps * int(counter.get_total_flops())  # all steps of a rollout are alike


def scan_flops(
    batch: int,
    points: int,
    groups: int,
    channels: int,
    state: int,
    *,
    rank: int = 0,
    direct: bool = True,
    discretization: str = "simplified",
) -> int:
    """Return the operations of a selective scan.

    Args:
        batch: Samples.
        points: Steps along each direction.
        groups: Directions.
        channels: Channels of each direction.
        state: State size of each channel.
        rank: Features that the raw step is made of by a matrix; 0 where it is given as it is.
        direct: Whether there is a direct path, `y += D u`.
        discretization: One of `mno.scan.arguments.DISCRETIZATIONS`.
    """
    step = 2 * rank + 1  # and delta u
    each = step + (2 if direct else 0) + _PER_STATE[discretization] * state
    return batch * points * groups * channels * each


def _scan(*args: Any, out_val: Any) -> int:
    u, _, A, _, _, D, _, dt_weight, *_, discretization, _ = args
    groups, state, channels = A.shape
    rank = 0 if dt_weight is None else dt_weight.shape[1]
    return scan_flops(
        u.shape[0], u.shape[1], groups, channels, state,
        rank=rank, direct=D is not None, discretization=discretization,
    )  # fmt: skip


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _products(real: Any) -> Any:
    def count(a: Tensor, b: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
        return (4 if a.is_complex() else 1) * real(a, b, out_val=out_val)

    return count


def _transform(values: Tensor, dim: list[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    """Return 5 n log2 n for each complex transform of n points, half of that for a real one."""
    whole = out_val if values.is_complex() else values  # the side that has all points
    length = math.prod(whole.shape[d] for d in dim)
    per_point = 5.0 if values.is_complex() and out_val.is_complex() else 2.5
    return round(per_point * whole.numel() * math.log2(max(length, 1)))
