"""What a kernel is told, and the memory that it works in.

It is told one array of integers that names the tensors and the sizes.

A tensor takes five of them: its address and the distances, in bytes, between neighbours along
(batch, group, row, column). An absent tensor has address zero. Rows are points where the tensor
has points, else states, ranks or chunks of states; columns are channels, or states for B and C.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from numba import njit

from mno.core.compiled import named
from mno.scan.cpu import TILE
from mno.scan.cpu.vectors import FLOAT_BYTES, VECTOR_BYTES, Address, emitted

INDEX_BYTES = 4
ADDRESS_BYTES = 8
# Channels of a tile in scratch memory, and the bytes of one of its rows.
WIDTH = 96
ROW = WIDTH * FLOAT_BYTES

VIEW = 5
TENSORS = 22
(
    U, DELTA, A, B, C, D, BIAS, DT_WEIGHT, SCALE, ORDER, Y, STATES, ENDS,
    DY, DU, DDELTA, DA, DB, DC, DD, DBIAS, DDT_WEIGHT,
) = range(0, VIEW * TENSORS, VIEW)  # fmt: skip

SIZES = 14
(
    BATCH, POINTS, GROUPS, SUMMED, CHANNEL, STATE, RANK, SOFTPLUS, CENTRED, SAVING,
    CHUNKS, CHUNK, SPLITS, SPLIT,
) = range(VIEW * TENSORS, VIEW * TENSORS + SIZES)  # fmt: skip
# Two numbers per group follow: the length of its lines and whether `order` is walked backwards.
DIRECTIONS = VIEW * TENSORS + SIZES

OPTIONS: dict[str, Any] = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}


def made(function: Callable[..., Any], name: str) -> Any:
    """Compile a function that another one has made, by a name of its own, which is linked by."""
    return njit(**OPTIONS)(named(function, name))


@njit(**OPTIONS)
def view(job, tensor, batch, group, column):
    """Return the address of a column of one group of one sample, and its row, column distances."""
    at = job[tensor] + batch * job[tensor + 1] + group * job[tensor + 2]
    return at + column * job[tensor + 4], job[tensor + 3], job[tensor + 4]


class Scratch(NamedTuple):
    """The parts of a task's scratch memory: where they lie, or how many bytes they take."""

    bias: int  # parameters, `ROW` bytes to a row: of these one row,
    direct: int
    rates: int  # of these one per state: A log2(e), A, the state itself,
    rates_e: int
    h: int
    dt_weight: int  # and one per rank
    u: int  # a row per step
    dt: int
    drive: int
    B: int  # the weights of each step
    C: int
    low: int  # delta in its low-rank form
    index: int  # the points that are visited, the factors of their steps, where lines end
    scale: int
    bounds: int
    u_rows: int  # addresses of rows, which may lie in the tensor itself
    delta_rows: int
    y: int  # of the forward pass
    y_rows: int
    g: int  # and of the backward pass: gradients in place of parameters,
    dA: int
    dD: int
    dbias: int
    ddt_weight: int
    slope: int  # rows per step,
    dy: int
    gx: int
    gt: int
    old: int
    dB_lanes: int  # and blocks of vectors per step
    dC_lanes: int
    kept_a: int
    kept_h: int
    low_lanes: int
    sums: int
    du_rows: int


@njit(**OPTIONS)
def sizes(state, rank, backward):
    """Return how many bytes the parts of scratch memory take in a pass."""
    padded = state + state % 2
    states, tile, places = padded * ROW, TILE * ROW, TILE * ADDRESS_BYTES
    weights, vectors = TILE * padded * FLOAT_BYTES, TILE * VECTOR_BYTES
    once, again = 1 - backward, backward
    return Scratch(
        ROW, ROW, states, states, states, rank * ROW, tile, tile, tile, weights, weights,
        TILE * rank * FLOAT_BYTES + VECTOR_BYTES, TILE * INDEX_BYTES, TILE * FLOAT_BYTES,
        2 * TILE * INDEX_BYTES, places, places, once * tile, once * places,
        again * states, again * states, again * ROW, again * ROW, again * rank * ROW,
        again * tile, again * tile, again * tile, again * tile, again * tile,
        again * 4 * vectors, again * 4 * vectors, again * 8 * vectors,
        again * (8 * vectors + 4 * VECTOR_BYTES), again * rank * vectors,
        again * (TILE * max(rank, 4) * FLOAT_BYTES + VECTOR_BYTES), again * places,
    )  # fmt: skip


@cache
def scratch_bytes(state: int, rank: int, backward: int) -> int:
    """Return how much scratch memory a task of a pass needs."""
    return sum(sizes.py_func(state, rank, backward))


@emitted(0)
def laid_out(parts: Any, at: Address) -> list[Address]:
    """Return where the parts lie, one behind the other, the first at an address."""
    places = []
    for part in parts:
        places.append(at)
        at = at.moved(part)
    return places
