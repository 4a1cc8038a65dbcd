"""What a kernel is told: one array of integers that names the tensors and the sizes.

A tensor takes five of them: its address and the distances, in bytes, between neighbours along
(batch, group, row, column). An absent tensor has address zero. Rows are points where the tensor
has points, else states, ranks or chunks of states; columns are channels, or states for B and C.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.core import types

FLOAT_BYTES = 4
INDEX_BYTES = 4
ADDRESS_BYTES = 8
# Channels of a tile in scratch memory, and the bytes of one of its rows.
WIDTH = 96
ROW = WIDTH * FLOAT_BYTES

VIEW = 5
TENSORS = 21
(
    U, DELTA, A, B, C, D, BIAS, DT_WEIGHT, SCALE, ORDER, Y, STATES,
    DY, DU, DDELTA, DA, DB, DC, DD, DBIAS, DDT_WEIGHT,
) = range(0, VIEW * TENSORS, VIEW)  # fmt: skip

SIZES = 14
(
    BATCH, POINTS, GROUPS, SUMMED, CHANNEL, STATE, RANK, SOFTPLUS, CENTRED, SAVING,
    CHUNKS, CHUNK, SPLITS, SPLIT,
) = range(VIEW * TENSORS, VIEW * TENSORS + SIZES)  # fmt: skip
# Two numbers per group follow: the length of its lines and whether `order` is walked backwards.
DIRECTIONS = VIEW * TENSORS + SIZES
JOB = types.Array(types.int64, 1, "C")

OPTIONS: dict[str, Any] = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}


@njit(**OPTIONS)
def view(job, tensor, batch, group):
    """Return the address of one group of one sample, and its row and column distances."""
    at = job[tensor] + batch * job[tensor + 1] + group * job[tensor + 2]
    return at, job[tensor + 3], job[tensor + 4]
