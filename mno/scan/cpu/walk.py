"""What the forward and the backward pass of one task have in common.

A task is a range of samples, a range of channels and one group (or all of them one after the
other, where they share their input). It takes its group through the points tile by tile.

Scratch memory of a task begins with the parts named here, each `ROW` bytes to a row:
    parameters  bias, D, then A log2(e) and A (one row per state), dt_weight (one row per rank)
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mno.scan.cpu.functions import by_log2e, softplus
from mno.scan.cpu.job import (
    BATCH,
    BIAS,
    CENTRED,
    CHANNEL,
    CHUNK,
    DELTA,
    DIRECTIONS,
    DT_WEIGHT,
    GROUPS,
    OPTIONS,
    ORDER,
    POINTS,
    RANK,
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
from mno.scan.cpu.simd import (
    fused,
    load,
    load_everywhere,
    load_float,
    load_int,
    load_part,
    product,
    store,
    store_float,
    store_int,
    store_part,
    total,
)
from mno.scan.cpu.tiles import (
    INDEX_BYTES,
    ROW,
    copy_floats,
    fetch,
    fill_zeros,
    gather_states,
    read_rows,
)
from mno.scan.cpu.vectors import FLOAT_BYTES, LANES

ONE = np.float32(1.0)

HALF = np.float32(0.5)


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
