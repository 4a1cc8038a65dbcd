"""Tiles: `TILE` steps of a walk by up to `WIDTH` channels, in scratch memory.

Reading a tile follows the walk through the points, so that everything behind sees neighbouring
steps in neighbouring rows and neighbouring channels in neighbouring lanes, whatever the layout of
the tensors. Lanes beyond the last channel hold zeros.

A task is a range of samples, a range of channels and one group (or all of them one after the
other, where they share their input). It takes its group through the points tile by tile. Its
scratch memory begins with the parameters, each `ROW` bytes to a row: bias, D, then A log2(e) and A
(one row per state), and dt_weight (one row per rank).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mno.scan.cpu import TILE
from mno.scan.cpu.job import (
    ADDRESS_BYTES,
    BATCH,
    BIAS,
    CENTRED,
    CHANNEL,
    CHUNK,
    DELTA,
    DIRECTIONS,
    DT_WEIGHT,
    FLOAT_BYTES,
    GROUPS,
    INDEX_BYTES,
    OPTIONS,
    ORDER,
    POINTS,
    RANK,
    ROW,
    SCALE,
    SOFTPLUS,
    SPLIT,
    SPLITS,
    STATE,
    STATES,
    SUMMED,
    A,
    D,
    view,
)
from mno.scan.cpu.rules import by_log2e, softplus
from mno.scan.cpu.vectors import (
    LANES,
    VECTOR_BYTES,
    ZERO,
    fused,
    load,
    load_everywhere,
    load_float,
    load_int,
    load_part,
    prefetch,
    product,
    store,
    store_address,
    store_float,
    store_int,
    store_part,
    sums_of_vectors,
    total,
    transpose,
    zeros,
)

CACHE_LINE = 64
ONE, HALF = np.float32(1.0), np.float32(0.5)


@njit(**OPTIONS)
def consecutive(index, start, steps, row):
    """Return +1 or -1 where `LANES` steps walk through neighbouring numbers, up or down, else 0."""
    if row != FLOAT_BYTES or start + LANES > steps:
        return 0
    step = load_int(index + INDEX_BYTES * (start + 1)) - load_int(index + INDEX_BYTES * start)
    if step != 1 and step != -1:
        return 0
    for i in range(start + 2, start + LANES):
        here = load_int(index + INDEX_BYTES * i)
        if here - load_int(index + INDEX_BYTES * (i - 1)) != step:
            return 0
    return step


@njit(**OPTIONS)
def gather_rows(tile, tile_row, source, row, column, index, steps, width):
    """Copy the rows `index` of a tensor into rows `tile_row` bytes apart.

    A row holds `width` numbers, filled up with zeros to a multiple of `LANES`.
    """
    if column == FLOAT_BYTES or width == 1:
        whole = width // LANES * LANES
        for i in range(steps):
            at = source + load_int(index + INDEX_BYTES * i) * row
            to = tile + i * tile_row
            for j in range(0, whole, LANES):
                store(to + j * FLOAT_BYTES, load(at + j * FLOAT_BYTES))
            if whole < width:
                store(to + whole * FLOAT_BYTES, load_part(at + whole * FLOAT_BYTES, width - whole))
        return
    whole = width // LANES * LANES
    padded = (width + LANES - 1) // LANES * LANES
    # Channel by channel, since the next one lies in another page.
    for j in range(0, whole, LANES):
        for start in range(0, steps, LANES):
            step = consecutive(index, start, steps, row)
            if step != 0:
                ends = start if step > 0 else start + LANES - 1
                at = source + j * column + load_int(index + INDEX_BYTES * ends) * row
                transpose(at, column, tile + ends * tile_row + j * FLOAT_BYTES, tile_row * step)
    for start in range(0, steps, LANES):
        first = 0 if consecutive(index, start, steps, row) == 0 else whole
        for i in range(start, min(start + LANES, steps)):
            at = source + load_int(index + INDEX_BYTES * i) * row
            for j in range(first, width):
                store_float(tile + i * tile_row + j * FLOAT_BYTES, load_float(at + j * column))
            for j in range(width, padded):
                store_float(tile + i * tile_row + j * FLOAT_BYTES, ZERO)


@njit(**OPTIONS)
def fetch(source, row, column, index, steps, width, ahead):
    """Begin to bring a part of a tensor near the processor before it is read or written.

    Only where the points of a channel are neighbours: there every channel lies in another page of
    memory, and the processor does not see by itself what comes next.

    What is meant is `ahead` tiles further along the walk.
    """
    step = consecutive(index, 0, steps, row)
    if column == FLOAT_BYTES or steps < TILE or step == 0:
        return
    lowest = load_int(index) + ahead * step * TILE
    if step < 0:
        lowest -= TILE - 1
    for j in range(width):
        at = source + j * column + lowest * FLOAT_BYTES
        for i in range(0, TILE * FLOAT_BYTES, CACHE_LINE):
            prefetch(at + i)


@njit(**OPTIONS)
def gather(tile, source, row, column, index, steps, width):
    """Copy the rows `index` of a tensor with `width` channels into a tile."""
    gather_rows(tile, ROW, source, row, column, index, steps, width)


@njit(**OPTIONS)
def scatter(tile, target, row, column, index, steps, width):
    """Copy a tile into the rows `index` of a tensor with `width` channels."""
    if column == FLOAT_BYTES or width == 1:
        whole = width // LANES * LANES
        for i in range(steps):
            to = target + load_int(index + INDEX_BYTES * i) * row
            at = tile + i * ROW
            for j in range(0, whole, LANES):
                store(to + j * FLOAT_BYTES, load(at + j * FLOAT_BYTES))
            if whole < width:
                store_part(to + whole * FLOAT_BYTES, load(at + whole * FLOAT_BYTES), width - whole)
        return
    whole = width // LANES * LANES
    for j in range(0, whole, LANES):
        for start in range(0, steps, LANES):
            step = consecutive(index, start, steps, row)
            if step != 0:
                ends = start if step > 0 else start + LANES - 1
                to = target + j * column + load_int(index + INDEX_BYTES * ends) * row
                transpose(tile + ends * ROW + j * FLOAT_BYTES, ROW * step, to, column)
    for start in range(0, steps, LANES):
        first = 0 if consecutive(index, start, steps, row) == 0 else whole
        for i in range(start, min(start + LANES, steps)):
            to = target + load_int(index + INDEX_BYTES * i) * row
            for j in range(first, width):
                store_float(to + j * column, load_float(tile + i * ROW + j * FLOAT_BYTES))


@njit(**OPTIONS)
def in_place(source, row, column, index, steps, width, rows):
    """Write the addresses of the rows `index` if they can be used where they are; tell whether."""
    if column != FLOAT_BYTES or width % LANES != 0:
        return False
    for i in range(steps):
        at = source + load_int(index + INDEX_BYTES * i) * row
        store_address(rows + ADDRESS_BYTES * i, at)
    return True


@njit(**OPTIONS)
def in_tile(tile, steps, rows):
    """Write the addresses of a tile's rows."""
    for i in range(steps):
        store_address(rows + ADDRESS_BYTES * i, tile + i * ROW)


@njit(**OPTIONS)
def read_rows(tile, source, row, column, index, steps, width, rows):
    """Write the addresses where rows can be read: where they are, or else copied to a tile."""
    if not in_place(source, row, column, index, steps, width, rows):
        gather(tile, source, row, column, index, steps, width)
        in_tile(tile, steps, rows)


@njit(**OPTIONS)
def copy_floats(target, target_step, source, source_step, count):
    """Copy `count` floats between places with the given distances in bytes.

    Where both are neighbours, up to a vector less one of zeros is written behind the copy.
    """
    if source_step == FLOAT_BYTES and target_step == FLOAT_BYTES:
        for n in range(0, count, LANES):
            at = n * FLOAT_BYTES
            store(target + at, load_part(source + at, min(LANES, count - n)))
        return
    for i in range(count):
        store_float(target + i * target_step, load_float(source + i * source_step))


@njit(**OPTIONS)
def gather_states(rows, row_bytes, source, row, column, index, steps, state):
    """Copy `steps` rows of B or C; the last may be followed by a vector of zeros.

    The padding of a row is left as it is, or set to zero.
    """
    if column == FLOAT_BYTES:
        for i in range(steps):
            at = source + load_int(index + INDEX_BYTES * i) * row
            to = rows + i * row_bytes
            for n in range(0, state, LANES):
                here = n * FLOAT_BYTES
                store(to + here, load_part(at + here, min(LANES, state - n)))
        return
    if state % LANES == 0:
        gather_rows(rows, row_bytes, source, row, column, index, steps, state)
        return
    for n in range(state):
        for i in range(steps):
            at = source + load_int(index + INDEX_BYTES * i) * row + n * column
            store_float(rows + i * row_bytes + n * FLOAT_BYTES, load_float(at))


@njit(**OPTIONS)
def read_weights(job, tensor, batch, group, rows, row_bytes, index, steps):
    """Copy the rows of B or C that a tile visits."""
    at, row, column = view(job, tensor, batch, group)
    gather_states(rows, row_bytes, at, row, column, index, steps, job[STATE])


@njit(**OPTIONS)
def fill_zeros(address, count):
    """Set `count` floats to zero, a multiple of `LANES`."""
    for i in range(0, count, LANES):
        store(address + i * FLOAT_BYTES, zeros())


@njit(**OPTIONS)
def store_sums(lanes, vectors, columns, sums, target, row, index, steps):
    """Sum `columns` vectors per step over their lanes and write them to the rows `index`."""
    for k in range(0, steps * columns, LANES):
        store(sums + k * FLOAT_BYTES, sums_of_vectors(lanes + k * VECTOR_BYTES))
    for i in range(steps):
        to = target + load_int(index + INDEX_BYTES * i) * row
        for n in range(0, columns, LANES):
            part = min(LANES, min(columns, vectors) - n)
            at = n * FLOAT_BYTES
            store_part(to + at, load(sums + i * columns * FLOAT_BYTES + at), part)


@njit(**OPTIONS)
def put_channels(target, row, channel, width, source, rows):
    """Copy scratch rows to a contiguous tensor, from a channel on."""
    for n in range(rows):
        for j in range(0, width, LANES):
            to = target + n * row + (channel + j) * FLOAT_BYTES
            value = load(source + n * ROW + j * FLOAT_BYTES)
            store_part(to, value, min(LANES, width - j))


@njit(**OPTIONS)
def task_ranges(job, task):
    """Return (chunk, first sample, end, split, first channel, end, first group, end) of a task."""
    split = task % job[SPLITS]
    rest = task // job[SPLITS]
    if job[SUMMED]:
        first_group, end_group = 0, job[GROUPS]
    else:
        first_group = rest % job[GROUPS]
        end_group = first_group + 1
        rest = rest // job[GROUPS]
    first = rest * job[CHUNK]
    end = min(first + job[CHUNK], job[BATCH])
    channel = split * job[SPLIT]
    end_channel = min(channel + job[SPLIT], job[CHANNEL])
    return rest, first, end, split, channel, end_channel, first_group, end_group


@njit(**OPTIONS)
def load_parameters(job, group, channel, width, bias, direct, rates, rates_e, dt_weight):
    """Copy the parameters of a group to scratch rows, with zeros behind the last channel."""
    state = job[STATE]
    padded = state + state % 2
    row_floats = ROW // FLOAT_BYTES
    fill_zeros(bias, row_floats)
    fill_zeros(direct, row_floats)
    fill_zeros(rates, padded * row_floats)
    fill_zeros(rates_e, padded * row_floats)
    fill_zeros(dt_weight, job[RANK] * row_floats)
    at, row, column = view(job, A, 0, group)
    for n in range(state):
        copy_floats(rates_e + n * ROW, FLOAT_BYTES, at + n * row + channel * column, column, width)
        for j in range(0, width, LANES):
            to = n * ROW + j * FLOAT_BYTES
            store(rates + to, by_log2e(load(rates_e + to)))
    if job[BIAS]:
        at, row, column = view(job, BIAS, 0, group)
        copy_floats(bias, FLOAT_BYTES, at + channel * column, column, width)
    if job[D]:
        at, row, column = view(job, D, 0, group)
        copy_floats(direct, FLOAT_BYTES, at + channel * column, column, width)
    at, row, column = view(job, DT_WEIGHT, 0, group)
    for r in range(job[RANK]):
        copy_floats(
            dt_weight + r * ROW, FLOAT_BYTES, at + r * row + channel * column, column, width
        )


@njit(**OPTIONS)
def load_walk(job, batch, group, start, steps, index, scale):
    """Write the points that a tile visits and the factors of its steps.

    The centred rule takes each step in two halves, so all behind works with half steps.
    """
    backwards = job[DIRECTIONS + 2 * group + 1]
    at, row, _ = view(job, ORDER, batch, group)
    for i in range(steps):
        position = start + i
        if backwards:
            position = job[POINTS] - 1 - position
        store_int(index + INDEX_BYTES * i, load_int(at + position * row))
    at, row, _ = view(job, SCALE, batch, group)
    for i in range(steps):
        factor = ONE
        if job[SCALE]:
            factor = load_float(at + load_int(index + INDEX_BYTES * i) * row)
        if job[CENTRED]:
            factor *= HALF
        store_float(scale + FLOAT_BYTES * i, factor)


@njit(**OPTIONS)
def cut_into_lines(line, start, steps, bounds):
    """Write where the lines in a tile begin and end; return how many parts there are."""
    segments = 0
    store_int(bounds, np.int32(0))
    following = line - start % line
    while following < steps:
        segments += 1
        store_int(bounds + INDEX_BYTES * segments, np.int32(following))
        following += line
    segments += 1
    store_int(bounds + INDEX_BYTES * segments, np.int32(steps))
    return segments


@njit(**OPTIONS)
def read_delta(job, batch, group, channel, width, index, steps, tile, low, rows, ahead):
    """Make delta readable: its rows, or its low-rank form in `low`; see `fetch` for `ahead`."""
    at, row, column = view(job, DELTA, batch, group)
    rank = job[RANK]
    if rank == 0:
        read_rows(tile, at + channel * column, row, column, index, steps, width, rows)
        fetch(at + channel * column, row, column, index, steps, width, ahead)
    else:
        gather_states(low, rank * FLOAT_BYTES, at, row, column, index, steps, rank)


@njit(**OPTIONS)
def raw_step(rank, delta, low, bias, dt_weight):
    """Return bias + delta, or bias + delta @ dt_weight."""
    x = load(bias)
    if rank == 0:
        return total(load(delta), x)
    for r in range(rank):
        x = fused(load_everywhere(low + r * FLOAT_BYTES), load(dt_weight + r * ROW), x)
    return x


@njit(**OPTIONS)
def step_length(job, x, factor):
    """Return the step of raw step `x`, `factor` being the address of its scale."""
    if job[SOFTPLUS]:
        x = softplus(x)
    return product(x, load_everywhere(factor))


@njit(**OPTIONS)
def load_checkpoint(job, batch, group, tile, channel, width, h):
    """Read the state at the start of a tile."""
    at, row, _ = view(job, STATES, batch, group)
    at += tile * job[STATE] * row + channel * FLOAT_BYTES
    for n in range(job[STATE]):
        for j in range(0, width, LANES):
            here = j * FLOAT_BYTES
            part = min(LANES, width - j)
            store(h + n * ROW + here, load_part(at + n * row + here, part))


@njit(**OPTIONS)
def store_checkpoint(job, batch, group, tile, channel, width, h):
    """Write the state at the start of a tile."""
    at, row, _ = view(job, STATES, batch, group)
    at += tile * job[STATE] * row + channel * FLOAT_BYTES
    for n in range(job[STATE]):
        for j in range(0, width, LANES):
            here = j * FLOAT_BYTES
            part = min(LANES, width - j)
            store_part(at + n * row + here, load(h + n * ROW + here), part)
