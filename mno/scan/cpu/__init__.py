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

`vectors` has instructions on vectors of channels, `tiles` brings what lies along a walk into
scratch memory and back, `rules` has the three discretisations and the loops over a tile's steps,
`tasks` the passes made of them; `job` is what they are given, `launch` runs them in threads, and
`memory` keeps memory for their results.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# Steps computed together, and the distance between the states that are kept for the backward pass.
TILE = 32


class ScanInputs(NamedTuple):
    """A scan as the kernels are given it; symbols and shapes are those of the glossary.

    Attributes:
        u: Input; with one group of it, the groups share it, and their outputs are summed.
        delta: Raw step, `(batch, points, group, channel)`, or with the rank in place of channels
            where `dt_weight` is given.
        A: Diagonal of the state matrix.
        B: Input weights.
        C: Output weights.
        D: Weight of the direct path.
        bias: Added to the raw step, (group, channel).
        dt_weight: (group, rank, channel); the raw step is delta @ dt_weight.
        scale: Factor of the step at each point, (1 or batch, group, points).
        order: Points in the order of each direction, (1 or batch, group, points), int32.
        layout: (line, period, stride, reverse) of every direction.
        softplus: Whether the step is softplus of the raw step.
        discretization: `simplified`, `zoh` or `centred`; see `mno.scan.selective_scan`.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    bias: Tensor | None
    dt_weight: Tensor | None
    scale: Tensor | None
    order: Tensor | None
    layout: list[int]
    softplus: bool
    discretization: str = "simplified"


def unavailable() -> str | None:
    """Return why the compiled kernels cannot run here, or None if they can."""
    if find_spec("numba") is None:
        return "numba is not installed"
    return None


def num_states(points: int) -> int:
    """Return how many states per sample a forward pass keeps for the backward pass.

    They have the shape (batch, num_states, state, groups * channel).
    """
    return -(-points // TILE)
