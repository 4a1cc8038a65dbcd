"""The forward and the backward pass of one task, for each discretisation."""

from typing import Any

from numba import njit

from mno.scan.cpu import TILE, tiles
from mno.scan.cpu import job as fields
from mno.scan.cpu import vectors as simd
from mno.scan.cpu.job import ADDRESS_BYTES, FLOAT_BYTES, OPTIONS, ROW, laid_out, sizes, view
from mno.scan.cpu.rules import RULES, backward_block, forward_block, softplus_and_slope
from mno.scan.cpu.vectors import LANES, VECTOR_BYTES


@njit(**OPTIONS)
def add_low_rank_gradients(s, rank, steps, width):
    """Add a tile's part to the gradient of dt_weight, and write that of delta lane by lane.

    `gt` holds the gradient by the raw step (row per step), `low` delta (rank floats per step), and
    `low_lanes` receives a vector per step and rank, to be summed over its lanes.
    """
    for r in range(rank):
        for j in range(0, width, LANES):
            here = r * ROW + j * FLOAT_BYTES
            weight, by_weight = simd.load(s.dt_weight + here), simd.zeros()
            for i in range(steps):
                gradient = simd.load(s.gt + i * ROW + j * FLOAT_BYTES)
                factor = simd.load_everywhere(s.low + (i * rank + r) * FLOAT_BYTES)
                by_weight = simd.fused(gradient, factor, by_weight)
                to = s.low_lanes + (i * rank + r) * VECTOR_BYTES
                before = simd.load(to) if j > 0 else simd.zeros()
                simd.store(to, simd.fused(gradient, weight, before))
            simd.store(s.ddt_weight + here, simd.total(by_weight, simd.load(s.ddt_weight + here)))


def forward_task(discretization: str) -> Any:
    """Return the function that runs a task of the forward pass."""
    rule = RULES[discretization]
    reads_input = rule.reads_input
    four_states, two_states = forward_block(rule, 4), forward_block(rule, 2)

    def run(job, task, scratch):
        state, rank, points = job[fields.STATE], job[fields.RANK], job[fields.POINTS]
        padded = state + state % 2
        weights_row = padded * FLOAT_BYTES
        s = laid_out(sizes(state, rank, 0), scratch)
        _, first, end, _, channel, end_channel, group, end_group = tiles.task_ranges(job, task)
        width = end_channel - channel
        tiles.fill_zeros(s.B, 2 * TILE * padded)
        first_group = group
        while group < end_group:
            line = job[fields.DIRECTIONS + 2 * group]
            tiles.load_parameters(job, s, group, channel, width)
            for batch in range(first, end):
                for tile in range((points + TILE - 1) // TILE):
                    start = tile * TILE
                    steps = min(TILE, points - start)
                    tiles.load_walk(job, s, batch, group, start, steps)
                    segments = tiles.cut_into_lines(line, start, steps, s.bounds)
                    if start % line == 0:
                        tiles.fill_zeros(s.h, padded * ROW // FLOAT_BYTES)
                        if job[fields.ENDS]:
                            tiles.load_state(job, fields.ENDS, s.h, batch, group, 0, channel, width)
                    if job[fields.SAVING]:
                        tiles.store_state(
                            job, fields.STATES, s.h, batch, group, tile, channel, width
                        )
                    tiles.read_inputs(job, s, batch, group, channel, width, steps, 1)
                    y = view(job, fields.Y, batch, group, channel)
                    tiles.fetch(y, s.index, steps, width, 0)
                    if group > first_group:
                        tiles.read_rows(s.y, y, s.index, steps, width, s.y_rows)
                    for i in range(steps):
                        u_row = simd.load_address(s.u_rows + ADDRESS_BYTES * i)
                        delta_row = simd.load_address(s.delta_rows + ADDRESS_BYTES * i)
                        old_row = simd.load_address(s.y_rows + ADDRESS_BYTES * i)
                        low_row = s.low + i * rank * FLOAT_BYTES
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = i * ROW + at
                            x = simd.load(u_row + at)
                            raw = tiles.raw_step(
                                rank, delta_row + at, low_row, s.bias + at, s.dt_weight + at
                            )
                            step = tiles.step_length(job, raw, s.scale + i * FLOAT_BYTES)
                            simd.store(s.dt + here, step)
                            simd.store(s.drive + here, x if reads_input else simd.product(step, x))
                            old = simd.load(old_row + at) if group > first_group else simd.zeros()
                            simd.store(s.y + here, simd.fused(x, simd.load(s.direct + at), old))
                    for j in range(0, width, LANES):
                        at, n = j * FLOAT_BYTES, 0
                        while n < padded:
                            here, weights = n * ROW + at, n * FLOAT_BYTES
                            block = (s.h + here, s.rates + here, s.B + weights, s.C + weights)
                            rest = (weights_row, s.dt + at, s.drive + at, s.y + at)
                            if padded - n >= 4:
                                four_states(*block, *rest, s.bounds, segments)
                                n += 4
                            else:
                                two_states(*block, *rest, s.bounds, segments)
                                n += 2
                    tiles.scatter(s.y, y, s.index, steps, width)
                if job[fields.ENDS]:
                    tiles.store_state(job, fields.ENDS, s.h, batch, group, 1, channel, width)
            group += 1

    return run


def backward_task(discretization: str) -> Any:
    """Return the function that runs a task of the backward pass."""
    rule = RULES[discretization]
    reads_input = rule.reads_input
    four_states, two_states = backward_block(rule, 4), backward_block(rule, 2)

    def run(job, task, scratch):
        state, rank, points = job[fields.STATE], job[fields.RANK], job[fields.POINTS]
        padded = state + state % 2
        weights_row = padded * FLOAT_BYTES
        row_floats = ROW // FLOAT_BYTES
        s = laid_out(sizes(state, rank, 1), scratch)
        ranges = tiles.task_ranges(job, task)
        chunk, first, end, split, channel, end_channel, group, end_group = ranges
        width = end_channel - channel
        partial = split * job[fields.BATCH]
        tiles.fill_zeros(s.B, 2 * TILE * padded)
        tiles.fill_zeros(s.h, padded * row_floats)  # checkpoints have no padding
        num_tiles = (points + TILE - 1) // TILE
        first_group = group
        while group < end_group:
            line = job[fields.DIRECTIONS + 2 * group]
            tiles.load_parameters(job, s, group, channel, width)
            tiles.fill_zeros(s.dA, padded * row_floats)
            tiles.fill_zeros(s.dD, row_floats)
            tiles.fill_zeros(s.dbias, row_floats)
            tiles.fill_zeros(s.ddt_weight, rank * row_floats)
            for batch in range(first, end):
                for back in range(num_tiles):
                    tile = num_tiles - 1 - back
                    start = tile * TILE
                    steps = min(TILE, points - start)
                    tiles.load_walk(job, s, batch, group, start, steps)
                    segments = tiles.cut_into_lines(line, start, steps, s.bounds)
                    if start % line == 0 and not job[fields.ENDS]:
                        tiles.fill_zeros(s.h, padded * row_floats)
                    else:
                        tiles.load_state(
                            job, fields.STATES, s.h, batch, group, tile, channel, width
                        )
                    if (start + steps) % line == 0:
                        tiles.fill_zeros(s.g, padded * row_floats)
                        if job[fields.ENDS]:
                            tiles.load_state(job, fields.ENDS, s.g, batch, group, 1, channel, width)
                    tiles.read_inputs(job, s, batch, group, channel, width, steps, -1)
                    dy = view(job, fields.DY, batch, group, channel)
                    tiles.gather(s.dy, dy, s.index, steps, width)
                    tiles.fetch(dy, s.index, steps, width, -1)
                    du = view(job, fields.DU, batch, group, channel)
                    tiles.fetch(du, s.index, steps, width, 0)
                    ddelta = view(job, fields.DDELTA, batch, group, channel)
                    if rank == 0:
                        tiles.fetch(ddelta, s.index, steps, width, 0)
                    for i in range(steps):
                        u_row = simd.load_address(s.u_rows + ADDRESS_BYTES * i)
                        delta_row = simd.load_address(s.delta_rows + ADDRESS_BYTES * i)
                        low_row = s.low + i * rank * FLOAT_BYTES
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = i * ROW + at
                            raw = tiles.raw_step(
                                rank, delta_row + at, low_row, s.bias + at, s.dt_weight + at
                            )
                            step = by_raw = simd.load_everywhere(s.scale + i * FLOAT_BYTES)
                            if job[fields.SOFTPLUS]:
                                raw, slope_here = softplus_and_slope(raw)
                                by_raw = simd.product(by_raw, slope_here)
                            step = simd.product(step, raw)
                            simd.store(s.slope + here, by_raw)
                            simd.store(s.dt + here, step)
                            x = simd.load(u_row + at)
                            simd.store(s.drive + here, x if reads_input else simd.product(step, x))
                            simd.store(s.gx + here, simd.zeros())
                            simd.store(s.gt + here, simd.zeros())

                    n = 0
                    while n < padded:
                        weights = n * FLOAT_BYTES
                        count = 4 if padded - n >= 4 else 2
                        tiles.fill_zeros(s.dB_lanes, steps * count * LANES)
                        tiles.fill_zeros(s.dC_lanes, steps * count * LANES)
                        for j in range(0, width, LANES):
                            at = j * FLOAT_BYTES
                            here = n * ROW + at
                            block = (
                                s.h + here, s.g + here, s.rates + here, s.rates_e + here,
                                s.dA + here, s.B + weights, s.C + weights, weights_row,
                                s.dt + at, s.drive + at, s.dy + at, s.gx + at, s.gt + at,
                                s.dB_lanes, s.dC_lanes, s.kept_h, s.kept_a, s.bounds, segments,
                            )  # fmt: skip
                            if count == 4:
                                four_states(*block)
                            else:
                                two_states(*block)
                        dB = view(job, fields.DB, partial + batch, group, n)
                        tiles.store_sums(s.dB_lanes, state - n, count, s.sums, dB, s.index, steps)
                        dC = view(job, fields.DC, partial + batch, group, n)
                        tiles.store_sums(s.dC_lanes, state - n, count, s.sums, dC, s.index, steps)
                        n += count

                    du_placed = tiles.in_place(du, s.index, steps, width, s.du_rows)
                    if not du_placed:
                        tiles.in_tile(s.old, steps, s.du_rows)
                        if group > first_group:
                            tiles.gather(s.old, du, s.index, steps, width)
                    placed = rank == 0 and tiles.in_place(
                        ddelta, s.index, steps, width, s.delta_rows
                    )
                    if not placed:
                        tiles.in_tile(s.gt, steps, s.delta_rows)
                    # Sums over steps begin anew in every tile: a sum over a long sequence in one
                    # float32 would lose its last digits.
                    for j in range(0, width, LANES):
                        lane = j * FLOAT_BYTES
                        by_direct, by_bias = simd.zeros(), simd.zeros()
                        for i in range(steps):
                            here = i * ROW + lane
                            to_u = simd.load_address(s.du_rows + ADDRESS_BYTES * i) + lane
                            to_delta = simd.load_address(s.delta_rows + ADDRESS_BYTES * i) + lane
                            x = simd.load(simd.load_address(s.u_rows + ADDRESS_BYTES * i) + lane)
                            by_y, by_drive = simd.load(s.dy + here), simd.load(s.gx + here)
                            by_step, by_u = simd.load(s.gt + here), by_drive
                            if not reads_input:
                                by_step = simd.fused(by_drive, x, by_step)
                                by_u = simd.product(by_drive, simd.load(s.dt + here))
                            by_raw = simd.product(by_step, simd.load(s.slope + here))
                            simd.store(to_delta, by_raw)
                            by_u = simd.fused(by_y, simd.load(s.direct + lane), by_u)
                            if group > first_group:
                                by_u = simd.total(by_u, simd.load(to_u))
                            simd.store(to_u, by_u)
                            by_direct = simd.fused(by_y, x, by_direct)
                            by_bias = simd.total(by_raw, by_bias)
                        simd.store(s.dD + lane, simd.total(by_direct, simd.load(s.dD + lane)))
                        simd.store(s.dbias + lane, simd.total(by_bias, simd.load(s.dbias + lane)))
                    if not du_placed:
                        tiles.scatter(s.old, du, s.index, steps, width)
                    if rank == 0 and not placed:
                        tiles.scatter(s.gt, ddelta, s.index, steps, width)
                    if rank > 0:
                        add_low_rank_gradients(s, rank, steps, width)
                        ddelta = view(job, fields.DDELTA, partial + batch, group, 0)
                        tiles.store_sums(s.low_lanes, rank, rank, s.sums, ddelta, s.index, steps)
                if job[fields.ENDS]:
                    tiles.store_state(job, fields.ENDS, s.g, batch, group, 0, channel, width)

            tiles.put_channels(view(job, fields.DA, chunk, group, channel), width, s.dA, state)
            tiles.put_channels(view(job, fields.DD, chunk, group, channel), width, s.dD, 1)
            tiles.put_channels(view(job, fields.DBIAS, chunk, group, channel), width, s.dbias, 1)
            dt_weight = view(job, fields.DDT_WEIGHT, chunk, group, channel)
            tiles.put_channels(dt_weight, width, s.ddt_weight, rank)
            group += 1

    return run


def add_parts(first, parts, count):  # type: ignore[no-untyped-def]
    """Add up parts of `count` floats, one behind the other, in their order, into the first."""
    for i in range(0, count, LANES):
        here, part = first + i * FLOAT_BYTES, min(LANES, count - i)
        value = simd.load_part(here, part)
        for k in range(1, parts):
            value = simd.total(value, simd.load_part(here + k * count * FLOAT_BYTES, part))
        simd.store_part(here, value, part)


PASSES = {"forward": forward_task, "backward": backward_task}
"""Makes the function that runs a task, by pass."""
