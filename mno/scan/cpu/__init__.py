"""The selective scan compiled for processors, forward and backward, in float32.

Kernels are compiled by numba on first use and kept in the user's cache folder. Importing this
package loads neither numba nor torch.

`launch` is called for a pass of a scan, `launch_blocks` for one of a scan with one decay per head.
Shared words are those of `mno.scan.arguments`, and

    dt      step, scale * softplus(delta + bias)
    h       state                                 (state, channel)
    line    run of neighbouring steps through which the state is carried; it starts from zero
    ends    states before and behind each walk, where they are carried in and out; in the backward
            pass the gradients by them
    tile    TILE neighbouring steps of a direction's walk, whatever lines they belong to
"""

from functools import cache
from importlib.util import find_spec

# Steps computed together, and the distance between the states that are kept for the backward pass.
TILE = 32


@cache
def unavailable() -> str | None:
    """Return why the compiled kernels cannot run here, or None if they can."""
    return "numba is not installed" if find_spec("numba") is None else None


def num_states(points: int) -> int:
    """Return how many states per sample a forward pass keeps for the backward pass.

    They have the shape (batch, num_states, state, groups * channel).
    """
    return -(-points // TILE)
