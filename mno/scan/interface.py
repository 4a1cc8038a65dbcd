"""The selective scan on sequences: the public function, and the checks of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from mno.scan.arguments import (
    DISCRETIZATIONS,
    Arrangement,
    Direction,
    ScanArguments,
    ScanPath,
    check_shapes,
)
from mno.scan.backends import compute, direct_scan, is_direct


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = True,
    delta_scale: Tensor | None = None,
    reverse: Sequence[bool] | None = None,
    discretization: str = "simplified",
    end_weight: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    r"""Scan a linear state space whose step, input and output weights vary along the sequence.

    $$h_t = \exp(\Delta_t A)\, h_{t-1} + \bar B_t u_t, \qquad y_t = C_t \cdot h_t + D u_t, \qquad
      \Delta_t = s_t\, \mathrm{softplus}(\delta_t + \mathrm{bias})$$

    with $\bar B_t = \Delta_t B_t$ (`simplified`) or $A^{-1}(\exp(\Delta_t A) - 1) B_t$ (`zoh`, the
    exact zero-order hold). The third rule, `centred`, makes the step in two halves and takes the
    output between them, at the centre of the point's cell:

    $$m_t = a_t h_{t-1} + b_t, \qquad y_t = C_t \cdot m_t + D u_t, \qquad h_t = a_t (m_t + b_t),
      \qquad a_t = \exp(\Delta_t A / 2), \quad b_t = \Delta_t B_t u_t / 2$$

    so that a scan and its reverse count each cell once, and the sum is of second order in the step.
    The fourth, `trapezoidal`, takes the input at both ends of a step, with a weight $\lambda_t$,

    $$h_t = \exp(\Delta_t A) \left( h_{t-1} + (1 - \lambda_t) \Delta_t B_{t-1} u_{t-1} \right)
      + \lambda_t \Delta_t B_t u_t$$

    which for $\lambda = 1$ is `simplified`, and for $\lambda = 1/2$ and a constant step `centred`.
    Channels are divided evenly among groups; a group is one direction.

    Args:
        u: Input, `(batch, channels, length)`.
        delta: Raw step, `(batch, channels, length)`.
        A: Diagonal of the state matrix per channel, negative, `(channels, state)`.
        B: Input weights, `(batch, groups, state, length)`.
        C: Output weights, `(batch, groups, state, length)`.
        D: Weight of the direct path per channel, `(channels,)`; no direct path if not given.
        delta_bias: Added to `delta` before softplus, `(channels,)`.
        delta_softplus: Whether the step passes through softplus; if not it is taken as it is.
        delta_scale: Multiplies the step after softplus, `(length,)` or `(groups, length)`:
            the spacing of the points relative to that of training. It belongs to the points,
            so a reversed group reads it reversed, and it is not differentiated.
        reverse: One bool per group: whether the group runs from the last point to the first.
        discretization: `simplified`, `zoh`, `centred` or `trapezoidal`.
        end_weight: The weight of the end of each step, from 0 to 1, `(batch, channels, length)`;
            1/2 if not given. For `trapezoidal` alone.
        backend: `cpu`, compiled when first used, for processors, in float32; `mamba_ssm`, the CUDA
            kernel of that package; `chunked`, torch in few large operations, on any device;
            `reference`, torch step by step, in any type. Chosen by itself if not given: the first
            of these that can do what is asked, and `reference` for float64.

    Returns:
        `(batch, channels, length)`, in the type of `u`. The state is float32, or float64 where an
        input is.

    Raises:
        ValueError: Shapes do not fit each other, a name is not known, or the backend cannot
            run here.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        arXiv:2312.00752, equations 2 and 4. The trapezoidal rule is that of Mamba-3,
        arXiv:2603.15569.
    """
    tensors = (u, delta, A, B, C, D, delta_bias)
    compiled = backend in (None, "cpu") and discretization != "trapezoidal"
    direct = compiled and is_direct(tensors)
    if direct:
        groups = _known_num_groups(*[None if x is None else x.shape for x in tensors])
    else:
        groups = _num_groups(*tensors)
    channels, length = u.shape[1:]
    if delta_scale is not None and delta_scale.shape not in ((length,), (groups, length)):
        raise ValueError(
            f"delta_scale has shape {tuple(delta_scale.shape)}; expected one factor per step, "
            f"{(length,)}, or per group and step, {(groups, length)}"
        )
    turned = (False,) * groups if reverse is None else tuple(reverse)
    if len(turned) != groups:
        raise ValueError(
            f"reverse={turned} names {len(turned)} groups, but B and C have {groups}; "
            "give one bool per group"
        )
    if discretization not in DISCRETIZATIONS:
        raise ValueError(
            f"discretization={discretization!r} is not known; "
            f"choose one of {', '.join(DISCRETIZATIONS)}"
        )
    if end_weight is not None and discretization != "trapezoidal":
        raise ValueError(
            f"end_weight is given for discretization={discretization!r}, which has none; leave it "
            "out, or choose trapezoidal"
        )
    if end_weight is not None and end_weight.shape != u.shape:
        raise ValueError(
            f"end_weight has shape {tuple(end_weight.shape)}; expected one number per step and "
            f"channel, {tuple(u.shape)}"
        )
    if delta_scale is not None:
        delta_scale = delta_scale.expand(groups, length)[None]
    path = ScanPath(_directions(length, turned), None, delta_scale)
    arrangement = _sequences(groups, channels // groups)
    how = arrangement, path, delta_softplus, discretization
    if direct:
        return direct_scan((*tensors, None), *how)
    scan = ScanArguments.arranged((*tensors, None), *how)
    if end_weight is not None:
        scan = replace(scan, end_weight=arrangement.to_output(end_weight))
    return arrangement.of_output(compute(scan, backend))


class _Sequences(Arrangement):
    """The arrangement of `selective_scan`: channels of all groups in front of the steps."""

    def __init__(self, groups: int, channels: int) -> None:
        self.sizes = (groups, channels)

    def inward(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        u, delta, A, B, C, D, bias, _ = tensors
        return (
            *(self.to_output(x) for x in (u, delta)),
            A.unflatten(0, self.sizes).transpose(1, 2),
            *(x.permute(0, 3, 1, 2) for x in (B, C)),
            *(None if x is None else x.unflatten(0, self.sizes) for x in (D, bias)),
            None,
        )

    def of_output(self, y: Tensor) -> Tensor:
        return y.permute(0, 2, 3, 1).flatten(1, 2)

    def to_output(self, y: Tensor) -> Tensor:
        return y.unflatten(1, self.sizes).permute(0, 3, 1, 2)

    def of_weights(self, dB: Tensor) -> Tensor:
        return dB.permute(0, 2, 3, 1)

    def of_matrix(self, dA: Tensor) -> Tensor:
        return dA.transpose(1, 2).flatten(0, 1)

    def of_channels(self, dD: Tensor) -> Tensor:
        return dD.flatten(0, 1)


@cache
def _sequences(groups: int, channels: int) -> _Sequences:
    return _Sequences(groups, channels)


@lru_cache(maxsize=64)
def _directions(length: int, turned: tuple[bool, ...]) -> tuple[Direction, ...]:
    return tuple(Direction(length, length, 1, back) for back in turned)


@lru_cache(maxsize=64)
def _known_num_groups(*shapes: torch.Size | None) -> int:
    made: Any = [None if shape is None else torch.empty(shape, device="meta") for shape in shapes]
    return _num_groups(*made)


def _num_groups(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, bias: Tensor | None
) -> int:
    known = ("groups", B, 4), ("state", A, 2)
    sizes = {axis: x.shape[1] for axis, x, axes in known if x.ndim == axes}
    weights, per_channel = "batch groups state length", "channels"
    check_shapes(
        {
            "u": (u, "batch channels length"), "delta": (delta, "batch channels length"),
            "A": (A, "channels state"), "B": (B, weights), "C": (C, weights),
            "D": (D, per_channel), "delta_bias": (bias, per_channel),
        },
        sizes,
    )  # fmt: skip
    groups, channels = sizes["groups"], sizes["channels"]
    if sizes["state"] == 0:
        raise ValueError(f"A has shape {tuple(A.shape)}: a state size of 0; use at least 1")
    if groups == 0 or channels % groups:
        raise ValueError(
            f"{channels} channels cannot be divided among {groups} groups of B and C; "
            "give every group the same number of channels"
        )
    return groups
