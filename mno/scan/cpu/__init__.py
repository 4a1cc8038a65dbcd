"""The selective scan compiled for processors, forward and backward, in float32.

Kernels are compiled by numba on first use and kept in the user's cache folder. Importing this
package loads neither numba nor torch.

`vectors` has instructions on vectors of channels, `rules` the three discretisations and the loops
over a tile's steps, `tiles` brings what lies along a walk into scratch memory and back, `tasks` has
the passes made of them; `job` is what they are given, `launch` runs them in threads, and `memory`
keeps memory for their results. Shared words are those of `ScanInputs`, and

    dt      step, scale * softplus(delta + bias)
    h       state                                 (state, channel)
    y       output                                (batch, points, group or 1, channel)
    line    run of neighbouring steps through which the state is carried; it starts from zero
    tile    TILE neighbouring steps of a direction's walk, whatever lines they belong to
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# Steps computed together, and the distance between the states that are kept for the backward pass.
TILE = 32


class ScanInputs(NamedTuple):
    """A scan as the kernels are given it; a group is one scan direction.

    With one group of u, the groups share it, and their outputs are summed.
    """

    u: Tensor  # input, (batch, points, group or 1, channel)
    delta: Tensor  # raw step or its low-rank form, (batch, points, group, channel or rank)
    A: Tensor  # diagonal of the state matrix, (group, state, channel)
    B: Tensor  # input weights, (batch, points, group, state)
    C: Tensor  # output weights, (batch, points, group, state)
    D: Tensor | None  # weight of the direct path, (group, channel)
    bias: Tensor | None  # added to the raw step, (group, channel)
    dt_weight: Tensor | None  # raw step is delta @ dt_weight, (group, rank, channel)
    scale: Tensor | None  # factor of the step at each point, (1 or batch, group, points)
    order: Tensor | None  # points as each direction visits them, int32, shaped as scale
    layout: list[int]  # (line, period, stride, reverse) of every direction
    softplus: bool  # whether the step is softplus of the raw step
    discretization: str = "simplified"  # or `zoh` or `centred`; see `mno.scan.selective_scan`


def unavailable() -> str | None:
    """Return why the compiled kernels cannot run here, or None if they can."""
    return "numba is not installed" if find_spec("numba") is None else None


def num_states(points: int) -> int:
    """Return how many states per sample a forward pass keeps for the backward pass.

    They have the shape (batch, num_states, state, groups * channel).
    """
    return -(-points // TILE)
