"""The gradients of a raw step that was given as delta @ dt_weight."""

from __future__ import annotations

from numba import njit

from mno.scan.cpu.job import OPTIONS
from mno.scan.cpu.simd import fused, load, load_everywhere, store, total, zeros
from mno.scan.cpu.tiles import ROW
from mno.scan.cpu.vectors import FLOAT_BYTES, LANES, VECTOR_BYTES


@njit(**OPTIONS)
def add_low_rank_gradients(by_raw, low, dt_weight, ddt_weight, low_lanes, rank, steps, width):
    """Add a tile's part to the gradient of dt_weight, and write that of delta lane by lane.

    `by_raw` is the gradient by the raw step (row per step), `low` delta (rank floats per step), and
    `low_lanes` receives a vector per step and rank, to be summed over its lanes.
    """
    for r in range(rank):
        for j in range(0, width, LANES):
            here = r * ROW + j * FLOAT_BYTES
            weight, by_weight = load(dt_weight + here), zeros()
            for i in range(steps):
                gradient = load(by_raw + i * ROW + j * FLOAT_BYTES)
                factor = load_everywhere(low + (i * rank + r) * FLOAT_BYTES)
                by_weight = fused(gradient, factor, by_weight)
                to = low_lanes + (i * rank + r) * VECTOR_BYTES
                before = load(to) if j > 0 else zeros()
                store(to, fused(gradient, weight, before))
            store(ddt_weight + here, total(by_weight, load(ddt_weight + here)))
