"""The selective scan compiled for processors, forward and backward, in float32.

Kernels are compiled by numba on first use and kept in the user's cache folder. Importing this
package loads neither numba nor torch.

Glossary, shared by all files of the folder (a group is one scan direction):
    u       input sequence                        (batch, points, group or 1, channel)
    delta   raw step, or its low-rank form        (batch, points, group, channel or rank)
    dt      step, scale * softplus(delta + bias)
    A       diagonal of the state matrix          (group, state, channel)
    B, C    input and output weights              (batch, points, group, state)
    D       weight of the direct path             (group, channel)
    h       state                                 (state, channel)
    y       output                                (batch, points, group or 1, channel)
    line    run of neighbouring steps through which the state is carried; it starts from zero
    tile    TILE neighbouring steps of a direction's walk, whatever lines they belong to
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Steps computed together, and the distance between the states that are kept for the backward pass.
TILE = 32


def unavailable() -> str | None:
    """Return why the compiled kernels cannot run here, or None if they can."""
    if find_spec("numba") is None:
        return "numba is not installed"
    return None


def num_states(layout: Sequence[int], points: int) -> int:
    """Return how many states per sample `forward` saves, the same for every layout.

    `states` has the shape (batch, num_states, state, groups * channel).
    """
    return -(-points // TILE)


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    layout: Sequence[int],
    *,
    softplus: bool,
    discretization: str = "simplified",
    save: bool,
) -> tuple[Tensor, Tensor]:
    """Run the scan along every direction.

    Args:
        u: input, (batch, points, groups or 1, channel); with 1 the groups share it, and their
            outputs are summed.
        delta: raw step, (batch, points, groups, channel), or (batch, points, groups, rank) where
            `dt_weight` is given.
        A: diagonal of the state matrix, (groups, state, channel).
        B: input weights, (batch, points, groups, state).
        C: output weights, as B.
        D: weight of the direct path, (groups, channel).
        bias: added to the raw step, (groups, channel).
        dt_weight: (groups, rank, channel); the raw step is delta @ dt_weight.
        scale: factor of the step at each point, (1 or batch, groups, points).
        order: points in the order of each direction, (1 or batch, groups, points), int32.
        layout: (line, period, stride, reverse) of every direction.
        softplus: whether the step is softplus of the raw step.
        discretization: `simplified`, `zoh` or `centred`; see `mno.scan.selective_scan`.
        save: keep the states that `backward` needs.

    Returns:
        The output, with u's shape, and the states. Channels are innermost in the output where
        they are in u, as in a contiguous tensor; otherwise it is a contiguous (batch, groups,
        channel, points) tensor, permuted.
    """
    from mno.scan.cpu import launch

    return launch.forward(
        *(u, delta, A, B, C, D, bias, dt_weight, scale, order, layout),
        softplus=softplus,
        discretization=discretization,
        save=save,
    )


def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    states: Tensor,
    dy: Tensor,
    layout: Sequence[int],
    *,
    softplus: bool,
    discretization: str = "simplified",
) -> tuple[Tensor | None, ...]:
    """Return the gradients by u, delta, A, B, C, D, bias and dt_weight.

    Arguments are those of `forward`, the states it saved and the gradient `dy` of a loss by its
    output. The gradient of an absent input is None. Gradients by u and delta are laid out by the
    rule that `forward` states for its output (the low-rank delta's is contiguous).
    """
    from mno.scan.cpu import launch

    return launch.backward(
        *(u, delta, A, B, C, D, bias, dt_weight, scale, order, states, dy, layout),
        softplus=softplus,
        discretization=discretization,
    )
