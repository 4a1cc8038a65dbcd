"""The forward pass of one task."""

from __future__ import annotations

from typing import Any

from numba import njit

from mno.scan.cpu import TILE
from mno.scan.cpu.forward_blocks import (
    forward_block,
    forward_block_by_halves,
    forward_block_by_hold,
)
from mno.scan.cpu.job import DIRECTIONS, OPTIONS, POINTS, RANK, SAVING, STATE, B, C, U, Y, view
from mno.scan.cpu.simd import fused, load, load_address, product, store, zeros
from mno.scan.cpu.tiles import (
    ADDRESS_BYTES,
    INDEX_BYTES,
    ROW,
    fetch,
    fill_zeros,
    gather_states,
    read_rows,
    scatter,
)
from mno.scan.cpu.vectors import FLOAT_BYTES, LANES, VECTOR_BYTES
from mno.scan.cpu.walk import (
    cut_into_lines,
    load_parameters,
    load_walk,
    raw_step,
    read_delta,
    step_length,
    store_checkpoint,
    task_ranges,
)


def scratch_bytes(state: int, rank: int) -> int:
    """Return how much scratch memory the forward pass of a task needs."""
    padded = state + state % 2
    rows = 2 + 3 * padded + rank + 4 * TILE
    return rows * ROW + TILE * FLOAT_BYTES * (2 * padded + rank + 10) + 64 * FLOAT_BYTES


_BLOCKS = {
    "simplified": forward_block,
    "zoh": forward_block_by_hold,
    "centred": forward_block_by_halves,
}


def forward_task(discretization: str) -> Any:
    """Return the function that runs a task of the forward pass."""
    make = _BLOCKS[discretization]
    zoh = discretization == "zoh"
    four_states, two_states = make(4), make(2)

    @njit(**OPTIONS)
    def run(job, task, scratch):
        """Run one task."""
        state, rank, points = job[STATE], job[RANK], job[POINTS]
        padded = state + state % 2
        weights_row = padded * FLOAT_BYTES
        bias = scratch
        direct = bias + ROW
        rates = direct + ROW
        rates_e = rates + padded * ROW
        h = rates_e + padded * ROW
        dt_weight = h + padded * ROW
        u = dt_weight + rank * ROW
        dt = u + TILE * ROW
        drive = dt + TILE * ROW
        y = drive + TILE * ROW
        B_rows = y + TILE * ROW
        C_rows = B_rows + TILE * weights_row
        low = C_rows + TILE * weights_row
        index = low + TILE * rank * FLOAT_BYTES + VECTOR_BYTES
        scale = index + TILE * INDEX_BYTES
        bounds = scale + TILE * FLOAT_BYTES
        u_rows = bounds + 2 * TILE * INDEX_BYTES
        delta_rows = u_rows + TILE * ADDRESS_BYTES
        y_rows = delta_rows + TILE * ADDRESS_BYTES

        _, first, end, _, channel, end_channel, group, end_group = task_ranges(job, task)
        width = end_channel - channel
        fill_zeros(B_rows, 2 * TILE * padded)
        first_group = group
        while group < end_group:
            line = job[DIRECTIONS + 2 * group]
            load_parameters(job, group, channel, width, bias, direct, rates, rates_e, dt_weight)
            for batch in range(first, end):
                for tile in range((points + TILE - 1) // TILE):
                    start = tile * TILE
                    steps = min(TILE, points - start)
                    load_walk(job, batch, group, start, steps, index, scale)
                    segments = cut_into_lines(line, start, steps, bounds)
                    if start % line == 0:
                        fill_zeros(h, padded * ROW // FLOAT_BYTES)
                    if job[SAVING]:
                        store_checkpoint(job, batch, group, tile, channel, width, h)
                    at, row, column = view(job, B, batch, group)
                    gather_states(B_rows, weights_row, at, row, column, index, steps, state)
                    at, row, column = view(job, C, batch, group)
                    gather_states(C_rows, weights_row, at, row, column, index, steps, state)
                    at, row, column = view(job, U, batch, group)
                    at += channel * column
                    read_rows(u, at, row, column, index, steps, width, u_rows)
                    fetch(at, row, column, index, steps, width, 1)
                    read_delta(
                        job, batch, group, channel, width, index, steps, dt, low, delta_rows, 1
                    )
                    y_at, y_row, y_column = view(job, Y, batch, group)
                    y_at += channel * y_column
                    fetch(y_at, y_row, y_column, index, steps, width, 0)
                    if group > first_group:
                        read_rows(y, y_at, y_row, y_column, index, steps, width, y_rows)
                    for i in range(steps):
                        u_row = load_address(u_rows + ADDRESS_BYTES * i)
                        delta_row = load_address(delta_rows + ADDRESS_BYTES * i)
                        old_row = load_address(y_rows + ADDRESS_BYTES * i)
                        factor = scale + i * FLOAT_BYTES
                        low_row = low + i * rank * FLOAT_BYTES
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = i * ROW + at
                            x = load(u_row + at)
                            raw = raw_step(rank, delta_row + at, low_row, bias + at, dt_weight + at)
                            step = step_length(job, raw, factor)
                            store(dt + here, step)
                            store(drive + here, x if zoh else product(step, x))
                            before = load(old_row + at) if group > first_group else zeros()
                            store(y + here, fused(x, load(direct + at), before))
                    for j in range(0, width, LANES):
                        at = j * FLOAT_BYTES
                        n = 0
                        while n < padded:
                            here = n * ROW + at
                            weights = n * FLOAT_BYTES
                            if padded - n >= 4:
                                four_states(
                                    h + here,
                                    rates + here,
                                    B_rows + weights,
                                    C_rows + weights,
                                    weights_row,
                                    dt + at,
                                    drive + at,
                                    y + at,
                                    bounds,
                                    segments,
                                )
                                n += 4
                            else:
                                two_states(
                                    h + here,
                                    rates + here,
                                    B_rows + weights,
                                    C_rows + weights,
                                    weights_row,
                                    dt + at,
                                    drive + at,
                                    y + at,
                                    bounds,
                                    segments,
                                )
                                n += 2
                    scatter(y, y_at, y_row, y_column, index, steps, width)
            group += 1

    return run
