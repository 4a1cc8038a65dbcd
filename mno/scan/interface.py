"""The selective scan on sequences: the public function, and the checks of its arguments."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Literal, overload

import torch
from torch import Tensor

from mno.scan import arguments
from mno.scan.backends import compute_and_carry, direct_scan, is_direct


@overload
def selective_scan(*args: Any, return_state: Literal[False] = False, **options: Any) -> Tensor: ...
@overload
def selective_scan(
    *args: Any, return_state: Literal[True], **options: Any
) -> tuple[Tensor, Tensor]: ...
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    delta_bias: Tensor | None = None, *, delta_softplus: bool = True,
    delta_scale: Tensor | None = None, reverse: Sequence[bool] | None = None,
    discretization: str = "simplified", end_weight: Tensor | None = None,
    initial_state: Tensor | None = None, return_state: bool = False, backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
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

    A sequence may be scanned in pieces, each from the state behind the one before: `initial_state`
    is $h_0$, `return_state` asks for $h$ behind the last step. The next step of `trapezoidal` also
    needs $B_t u_t$ of the last one, which lies behind $h$. A reversed group takes its state at the
    last point and gives it back behind the first, so its pieces follow each other backwards.
    No output depends on a later point of its walk, to the last bit, but that the steps and end
    weights that follow (not the inputs) change how `trapezoidal` is rounded.

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
            the spacing of the points relative to that of training. Where samples have their own,
            `(batch, groups, length)` or `(batch, 1, length)`; two axes are always groups and
            length. It belongs to the points, so a reversed group reads it reversed, and it is not
            differentiated.
        reverse: One bool per group: whether the group runs from the last point to the first.
        discretization: `simplified`, `zoh`, `centred` or `trapezoidal`.
        end_weight: The weight of the end of each step, from 0 to 1, `(batch, channels, length)`;
            1/2 if not given. For `trapezoidal` alone.
        initial_state: The state before the first step, `(batch, channels, state)`; for
            `trapezoidal` `(batch, channels, 2 state)`, B u of the step before behind the state.
            Zero if not given.
        return_state: Whether to return the state behind the last step, too, in the same shape.
        backend: `cpu`, compiled when first used, for processors, in float32; `mamba_ssm`, the CUDA
            kernel of that package; `chunked`, torch in few large operations, on any device;
            `reference`, torch step by step, in any type. Chosen by itself if not given: the first
            of these that can do what is asked, and `reference` for float64. With a state given
            or asked for, `mamba_ssm` cannot; `cpu` does it by `chunked` while a graph is traced.

    Returns:
        `(batch, channels, length)`, in the type of `u`, and the state if asked for. This is
        float32, or float64 where an input is.

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
    direct = compiled and is_direct((*tensors, initial_state))
    if direct:
        groups = _known_num_groups(*[None if x is None else x.shape for x in tensors])
    else:
        groups = _num_groups(*tensors)
    channels, length = u.shape[1:]
    if delta_scale is not None:
        delta_scale = _by_group(delta_scale.to(u.device), len(u), groups, length)
    turned = (False,) * groups if reverse is None else tuple(reverse)
    if len(turned) != groups:
        raise ValueError(
            f"reverse={turned} names {len(turned)} groups, but B and C have {groups}; "
            "give one bool per group"
        )
    if discretization not in arguments.DISCRETIZATIONS:
        raise ValueError(
            f"discretization={discretization!r} is not known; "
            f"choose one of {', '.join(arguments.DISCRETIZATIONS)}"
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
    state = None
    if return_state or initial_state is not None:
        state = _initial(initial_state, u, A, discretization)
        state = state.unflatten(1, (groups, channels // groups)).transpose(2, 3)
    path = arguments.ScanPath(_directions(length, turned), None, delta_scale)
    arrangement = _sequences(groups, channels // groups)
    how = arrangement, path, delta_softplus, discretization
    if direct:
        y, state = direct_scan((*tensors, None), how, state)
    else:
        scan = replace(arguments.ScanArguments.arranged((*tensors, None), how), initial=state)
        if end_weight is not None:
            scan = replace(scan, end_weight=arrangement.to_output(end_weight))
        y, state = compute_and_carry(scan, backend)
        y = arrangement.of_output(y)
    if state is None or not return_state:
        return y
    return y, state.transpose(2, 3).flatten(1, 2)


def scan_step(
    state: Tensor | None, u_t: Tensor, delta_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor,
    D: Tensor | None = None, delta_bias: Tensor | None = None, *, delta_softplus: bool = True,
    delta_scale: Tensor | None = None, reverse: Sequence[bool] | None = None,
    discretization: str = "simplified", end_weight: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Follow a stream by one step: `selective_scan` of length one, from a state to the next.

    Input and raw step are `(batch, channels)`, and so is `end_weight`; input and output weights are
    `(batch, groups, state)`. `delta_scale`, such as the time that passed, is one number,
    `(groups,)`, or for each sample `(batch, 1)` or `(batch, groups)`. All else is as for the scan,
    but that no group may be reversed. The state is what the step before returned, `None` at the
    beginning.

    Returns:
        The output, `(batch, channels)`, and the state behind the step.

    Raises:
        ValueError: As `selective_scan`, or a group is reversed.
    """
    if reverse is not None and any(reverse):
        raise ValueError(
            f"reverse={tuple(reverse)}: a reversed group begins at the last point, which a stream "
            "has not reached; scan whole sequences, or reverse no group"
        )
    u, delta, B, C = (x[..., None] for x in (u_t, delta_t, B_t, C_t))
    y, state = selective_scan(
        u, delta, A, B, C, D, delta_bias,
        delta_softplus=delta_softplus,
        delta_scale=None if delta_scale is None else delta_scale[..., None],
        discretization=discretization,
        end_weight=None if end_weight is None else end_weight[..., None],
        initial_state=state, return_state=True, backend=backend,
    )  # fmt: skip
    return y[..., 0], state


def _by_group(scale: Tensor, batch: int, groups: int, length: int) -> Tensor:
    """Return factors of steps as `(1 or batch, groups, length)`."""
    by_group = (groups, length)
    if scale.shape not in ((length,), by_group, (batch, 1, length), (batch, *by_group)):
        raise ValueError(
            f"delta_scale has shape {tuple(scale.shape)}; expected one factor per step, "
            f"{(length,)}, per group and step, {by_group}, or per sample, group (1 for all) and "
            f"step, {(batch, *by_group)}"
        )
    return scale.expand(len(scale) if scale.ndim == 3 else 1, *by_group)


def _initial(state: Tensor | None, u: Tensor, A: Tensor, discretization: str) -> Tensor:
    """Return the state before the first step, zero if not given."""
    trapezoidal = discretization == "trapezoidal"
    shape = (len(u), len(A), (2 if trapezoidal else 1) * A.shape[1])
    if state is None:
        return torch.zeros(shape, dtype=torch.float32, device=u.device)
    if state.shape != shape:
        axes = "2 state" if trapezoidal else "state"
        raise ValueError(
            f"initial_state has shape {tuple(state.shape)}; expected {shape}, which are (batch, "
            f"channels, {axes}) for discretization={discretization!r}"
        )
    return state


@cache
def _sequences(groups: int, channels: int) -> arguments.Arrangement:
    """Return the arrangement of `selective_scan`: channels of all groups in front of the steps."""
    sizes = (groups, channels)

    def to_output(y: Tensor) -> Tensor:
        return y.unflatten(1, sizes).permute(0, 3, 1, 2)

    def inward(tensors: Sequence[Any]) -> tuple[Any, ...]:
        u, delta, A, B, C, D, bias, _ = tensors
        return (
            *(to_output(x) for x in (u, delta)),
            A.unflatten(0, sizes).transpose(1, 2),
            *(x.permute(0, 3, 1, 2) for x in (B, C)),
            *(None if x is None else x.unflatten(0, sizes) for x in (D, bias)),
            None,
        )

    return arguments.Arrangement(
        inward,
        of_output=lambda y: y.permute(0, 2, 3, 1).flatten(1, 2),
        to_output=to_output,
        of_weights=lambda dB: dB.permute(0, 2, 3, 1),
        of_matrix=lambda dA: dA.transpose(1, 2).flatten(0, 1),
        of_channels=lambda dD: dD.flatten(0, 1),
    )


@lru_cache(maxsize=64)
def _directions(length: int, turned: tuple[bool, ...]) -> tuple[arguments.Direction, ...]:
    return tuple(arguments.Direction(length, length, 1, back) for back in turned)


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
    arguments.check_shapes(
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
