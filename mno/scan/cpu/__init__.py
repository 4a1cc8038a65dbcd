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

from importlib.util import find_spec

# Steps computed together, and the distance between the states that are kept for the backward pass.
TILE = 32


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
