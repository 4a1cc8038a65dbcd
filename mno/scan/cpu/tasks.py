"""The forward and the backward pass of one task, for each discretisation."""

from __future__ import annotations

from typing import Any

from numba import njit

from mno.scan.cpu import TILE
from mno.scan.cpu.job import (
    BATCH,
    DA,
    DB,
    DBIAS,
    DC,
    DD,
    DDELTA,
    DDT_WEIGHT,
    DIRECTIONS,
    DU,
    DY,
    OPTIONS,
    POINTS,
    RANK,
    SAVING,
    SOFTPLUS,
    STATE,
    B,
    C,
    U,
    Y,
    view,
)
from mno.scan.cpu.rules import RULES, backward_block, forward_block, softplus_and_slope
from mno.scan.cpu.tiles import (
    ADDRESS_BYTES,
    INDEX_BYTES,
    ROW,
    cut_into_lines,
    fetch,
    fill_zeros,
    gather,
    in_place,
    in_tile,
    load_checkpoint,
    load_parameters,
    load_walk,
    put_channels,
    raw_step,
    read_delta,
    read_rows,
    read_weights,
    scatter,
    step_length,
    store_checkpoint,
    store_sums,
    task_ranges,
)
from mno.scan.cpu.vectors import (
    FLOAT_BYTES,
    LANES,
    VECTOR_BYTES,
    fused,
    load,
    load_address,
    load_everywhere,
    product,
    store,
    total,
    zeros,
)


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


def forward_bytes(state: int, rank: int) -> int:
    """Return how much scratch memory the forward pass of a task needs."""
    padded = state + state % 2
    rows = 2 + 3 * padded + rank + 4 * TILE
    return rows * ROW + TILE * FLOAT_BYTES * (2 * padded + rank + 10) + 64 * FLOAT_BYTES


def forward_task(discretization: str) -> Any:
    """Return the function that runs a task of the forward pass."""
    rule = RULES[discretization]
    reads_input = rule.reads_input
    four_states, two_states = forward_block(rule, 4), forward_block(rule, 2)

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
                    read_weights(job, B, batch, group, B_rows, weights_row, index, steps)
                    read_weights(job, C, batch, group, C_rows, weights_row, index, steps)
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
                            store(drive + here, x if reads_input else product(step, x))
                            before = load(old_row + at) if group > first_group else zeros()
                            store(y + here, fused(x, load(direct + at), before))
                    for j in range(0, width, LANES):
                        at = j * FLOAT_BYTES
                        n = 0
                        while n < padded:
                            here = n * ROW + at
                            weights = n * FLOAT_BYTES
                            block = (h + here, rates + here, B_rows + weights, C_rows + weights)
                            steps_of_tile = (weights_row, dt + at, drive + at, y + at)
                            if padded - n >= 4:
                                four_states(*block, *steps_of_tile, bounds, segments)
                                n += 4
                            else:
                                two_states(*block, *steps_of_tile, bounds, segments)
                                n += 2
                    scatter(y, y_at, y_row, y_column, index, steps, width)
            group += 1

    return run


def backward_bytes(state: int, rank: int) -> int:
    """Return how much scratch memory the backward pass of a task needs."""
    padded = state + state % 2
    rows = 4 + 5 * padded + 2 * rank + 8 * TILE
    vectors = (4 + 4 + 8 + 8 + rank) * TILE + 6
    floats = TILE * (2 * padded + 2 * rank + 4 + 10) + 64
    return rows * ROW + vectors * VECTOR_BYTES + floats * FLOAT_BYTES


def backward_task(discretization: str) -> Any:
    """Return the function that runs a task of the backward pass."""
    rule = RULES[discretization]
    reads_input = rule.reads_input
    four_states, two_states = backward_block(rule, 4), backward_block(rule, 2)

    @njit(**OPTIONS)
    def run(job, task, scratch):
        """Run one task."""
        state, rank, points = job[STATE], job[RANK], job[POINTS]
        padded = state + state % 2
        weights_row = padded * FLOAT_BYTES
        row_floats = ROW // FLOAT_BYTES
        bias = scratch
        direct = bias + ROW
        rates = direct + ROW
        rates_e = rates + padded * ROW
        h = rates_e + padded * ROW
        g = h + padded * ROW
        dA = g + padded * ROW
        dD = dA + padded * ROW
        dbias = dD + ROW
        dt_weight = dbias + ROW
        ddt_weight = dt_weight + rank * ROW
        u = ddt_weight + rank * ROW
        dt = u + TILE * ROW
        drive = dt + TILE * ROW
        slope = drive + TILE * ROW
        dy = slope + TILE * ROW
        gx = dy + TILE * ROW
        gt = gx + TILE * ROW
        old = gt + TILE * ROW
        dB_lanes = old + TILE * ROW
        dC_lanes = dB_lanes + 4 * TILE * VECTOR_BYTES
        kept_a = dC_lanes + 4 * TILE * VECTOR_BYTES
        kept_h = kept_a + 8 * TILE * VECTOR_BYTES
        low_lanes = kept_h + (8 * TILE + 4) * VECTOR_BYTES
        B_rows = low_lanes + rank * TILE * VECTOR_BYTES
        C_rows = B_rows + TILE * weights_row
        low = C_rows + TILE * weights_row
        sums = low + TILE * rank * FLOAT_BYTES + VECTOR_BYTES
        index = sums + TILE * max(rank, 4) * FLOAT_BYTES + VECTOR_BYTES
        scale = index + TILE * INDEX_BYTES
        bounds = scale + TILE * FLOAT_BYTES
        u_rows = bounds + 2 * TILE * INDEX_BYTES
        delta_rows = u_rows + TILE * ADDRESS_BYTES
        du_rows = delta_rows + TILE * ADDRESS_BYTES

        chunk, first, end, split, channel, end_channel, group, end_group = task_ranges(job, task)
        width = end_channel - channel
        partial = split * job[BATCH]
        fill_zeros(B_rows, 2 * TILE * padded)
        fill_zeros(h, padded * row_floats)  # checkpoints have no padding
        tiles = (points + TILE - 1) // TILE
        first_group = group
        while group < end_group:
            line = job[DIRECTIONS + 2 * group]
            load_parameters(job, group, channel, width, bias, direct, rates, rates_e, dt_weight)
            fill_zeros(dA, padded * row_floats)
            fill_zeros(dD, row_floats)
            fill_zeros(dbias, row_floats)
            fill_zeros(ddt_weight, rank * row_floats)
            for batch in range(first, end):
                for back in range(tiles):
                    tile = tiles - 1 - back
                    start = tile * TILE
                    steps = min(TILE, points - start)
                    load_walk(job, batch, group, start, steps, index, scale)
                    segments = cut_into_lines(line, start, steps, bounds)
                    if start % line == 0:
                        fill_zeros(h, padded * row_floats)
                    else:
                        load_checkpoint(job, batch, group, tile, channel, width, h)
                    if (start + steps) % line == 0:
                        fill_zeros(g, padded * row_floats)
                    read_weights(job, B, batch, group, B_rows, weights_row, index, steps)
                    read_weights(job, C, batch, group, C_rows, weights_row, index, steps)
                    at, row, column = view(job, U, batch, group)
                    at += channel * column
                    read_rows(u, at, row, column, index, steps, width, u_rows)
                    fetch(at, row, column, index, steps, width, -1)
                    at, row, column = view(job, DY, batch, group)
                    gather(dy, at + channel * column, row, column, index, steps, width)
                    fetch(at + channel * column, row, column, index, steps, width, -1)
                    read_delta(
                        job, batch, group, channel, width, index, steps, dt, low, delta_rows, -1
                    )
                    du_at, du_row, du_column = view(job, DU, batch, group)
                    du_at += channel * du_column
                    fetch(du_at, du_row, du_column, index, steps, width, 0)
                    if rank == 0:
                        at, row, column = view(job, DDELTA, batch, group)
                        fetch(at + channel * column, row, column, index, steps, width, 0)
                    for i in range(steps):
                        u_row = load_address(u_rows + ADDRESS_BYTES * i)
                        delta_row = load_address(delta_rows + ADDRESS_BYTES * i)
                        factor = scale + i * FLOAT_BYTES
                        low_row = low + i * rank * FLOAT_BYTES
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = i * ROW + at
                            raw = raw_step(rank, delta_row + at, low_row, bias + at, dt_weight + at)
                            step = by_raw = load_everywhere(factor)
                            if job[SOFTPLUS]:
                                value, slope_here = softplus_and_slope(raw)
                                step, by_raw = product(step, value), product(by_raw, slope_here)
                            else:
                                step = product(step, raw)
                            store(slope + here, by_raw)
                            store(dt + here, step)
                            x = load(u_row + at)
                            store(drive + here, x if reads_input else product(step, x))
                            store(gx + here, zeros())
                            store(gt + here, zeros())

                    n = 0
                    while n < padded:
                        weights = n * FLOAT_BYTES
                        count = 4 if padded - n >= 4 else 2
                        fill_zeros(dB_lanes, steps * count * LANES)
                        fill_zeros(dC_lanes, steps * count * LANES)
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = n * ROW + at
                            block = (h + here, g + here, rates + here, rates_e + here, dA + here)
                            weighted = (B_rows + weights, C_rows + weights, weights_row)
                            rows = (dt + at, drive + at, dy + at, gx + at, gt + at)
                            kept = (dB_lanes, dC_lanes, kept_h, kept_a, bounds, segments)
                            if count == 4:
                                four_states(*block, *weighted, *rows, *kept)
                            else:
                                two_states(*block, *weighted, *rows, *kept)
                        at, row, _ = view(job, DB, partial + batch, group)
                        store_sums(
                            dB_lanes, state - n, count, sums, at + weights, row, index, steps
                        )
                        at, row, _ = view(job, DC, partial + batch, group)
                        store_sums(
                            dC_lanes, state - n, count, sums, at + weights, row, index, steps
                        )
                        n += count

                    du_placed = in_place(du_at, du_row, du_column, index, steps, width, du_rows)
                    if not du_placed:
                        in_tile(old, steps, du_rows)
                        if group > first_group:
                            gather(old, du_at, du_row, du_column, index, steps, width)
                    at, row, column = view(job, DDELTA, batch, group)
                    at += channel * column
                    placed = rank == 0 and in_place(
                        at, row, column, index, steps, width, delta_rows
                    )
                    if not placed:
                        in_tile(gt, steps, delta_rows)
                    # Sums over steps begin anew in every tile: a sum over a long sequence in one
                    # float32 would lose its last digits.
                    for j in range(0, width, LANES):
                        lane = j * FLOAT_BYTES
                        by_direct, by_bias = zeros(), zeros()
                        for i in range(steps):
                            here = i * ROW + lane
                            to_u = load_address(du_rows + ADDRESS_BYTES * i) + lane
                            to_delta = load_address(delta_rows + ADDRESS_BYTES * i) + lane
                            x = load(load_address(u_rows + ADDRESS_BYTES * i) + lane)
                            by_y, by_drive = load(dy + here), load(gx + here)
                            by_step, by_u = load(gt + here), by_drive
                            if not reads_input:
                                by_step = fused(by_drive, x, by_step)
                                by_u = product(by_drive, load(dt + here))
                            by_raw = product(by_step, load(slope + here))
                            store(to_delta, by_raw)
                            by_u = fused(by_y, load(direct + lane), by_u)
                            if group > first_group:
                                by_u = total(by_u, load(to_u))
                            store(to_u, by_u)
                            by_direct = fused(by_y, x, by_direct)
                            by_bias = total(by_raw, by_bias)
                        store(dD + lane, total(by_direct, load(dD + lane)))
                        store(dbias + lane, total(by_bias, load(dbias + lane)))
                    if not du_placed:
                        scatter(old, du_at, du_row, du_column, index, steps, width)
                    if rank == 0 and not placed:
                        scatter(gt, at, row, column, index, steps, width)
                    if rank > 0:
                        add_low_rank_gradients(
                            gt, low, dt_weight, ddt_weight, low_lanes, rank, steps, width
                        )
                        at, row, _ = view(job, DDELTA, partial + batch, group)
                        store_sums(low_lanes, rank, rank, sums, at, row, index, steps)

            at, row, _ = view(job, DA, chunk, group)
            put_channels(at, row, channel, width, dA, state)
            at, row, _ = view(job, DD, chunk, group)
            put_channels(at, row, channel, width, dD, 1)
            at, row, _ = view(job, DBIAS, chunk, group)
            put_channels(at, row, channel, width, dbias, 1)
            at, row, _ = view(job, DDT_WEIGHT, chunk, group)
            put_channels(at, row, channel, width, ddt_weight, rank)
            group += 1

    return run


PASSES = {"forward": (forward_task, forward_bytes), "backward": (backward_task, backward_bytes)}
"""Makes the function that runs a task, and says how much scratch memory it needs, by pass."""
