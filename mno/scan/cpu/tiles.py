"""Tiles: `TILE` steps of a walk by up to `WIDTH` channels, in scratch memory.

Reading a tile follows the walk through the points, so that everything behind sees neighbouring
steps in neighbouring rows and neighbouring channels in neighbouring lanes, whatever the layout of
the tensors. Lanes beyond the last channel hold zeros.

A task is a range of samples, a range of channels and one group (or all of them one after the
other, where they share their input). It takes its group through the points tile by tile.

A `tensor` here is the place of a part of one, as `job.view` gives it; `index` is where the points
are listed that the steps visit.
"""

from typing import Any

import numpy as np
from numba import njit

from mno.scan.cpu import TILE
from mno.scan.cpu import job as fields
from mno.scan.cpu import vectors as simd
from mno.scan.cpu.job import ADDRESS_BYTES, FLOAT_BYTES, INDEX_BYTES, OPTIONS, ROW, made, view
from mno.scan.cpu.rules import by_log2e, softplus
from mno.scan.cpu.vectors import LANES, VECTOR_BYTES, ZERO

CACHE_LINE = 64
ONE, HALF = np.float32(1.0), np.float32(0.5)


@njit(**OPTIONS)
def consecutive(index, start, steps, row):
    """Return +1 or -1 where `LANES` steps walk through neighbouring numbers, up or down, else 0."""
    if row != FLOAT_BYTES or start + LANES > steps:
        return 0
    first = simd.load_int(index + INDEX_BYTES * start)
    step = simd.load_int(index + INDEX_BYTES * (start + 1)) - first
    if step != 1 and step != -1:
        return 0
    for i in range(start + 2, start + LANES):
        here = simd.load_int(index + INDEX_BYTES * i)
        if here - simd.load_int(index + INDEX_BYTES * (i - 1)) != step:
            return 0
    return step


def _mover(into_tile: bool) -> Any:
    """Return what copies between rows `tile_row` bytes apart and the rows `index` of a tensor.

    A row holds `width` numbers, in a tile filled up with zeros to a multiple of `LANES`.
    """

    def move(tile, tile_row, tensor, index, steps, width):
        start_of_tensor, row, column = tensor
        whole = width // LANES * LANES
        if column == FLOAT_BYTES or width == 1:
            for i in range(steps):
                there = start_of_tensor + simd.load_int(index + INDEX_BYTES * i) * row
                here = tile + i * tile_row
                source, target = (there, here) if into_tile else (here, there)
                for j in range(0, whole, LANES):
                    simd.store(target + j * FLOAT_BYTES, simd.load(source + j * FLOAT_BYTES))
                source, target = source + whole * FLOAT_BYTES, target + whole * FLOAT_BYTES
                if whole < width and into_tile:
                    simd.store(target, simd.load_part(source, width - whole))
                elif whole < width:
                    simd.store_part(target, simd.load(source), width - whole)
            return
        # Channel by channel, since the next one lies in another page.
        for j in range(0, whole, LANES):
            for start in range(0, steps, LANES):
                step = consecutive(index, start, steps, row)
                if step != 0:
                    ends = start if step > 0 else start + LANES - 1
                    at = simd.load_int(index + INDEX_BYTES * ends)
                    there = start_of_tensor + j * column + at * row
                    here = tile + ends * tile_row + j * FLOAT_BYTES
                    if into_tile:
                        simd.transpose(there, column, here, tile_row * step)
                    else:
                        simd.transpose(here, tile_row * step, there, column)
        padded = (width + LANES - 1) // LANES * LANES
        for start in range(0, steps, LANES):
            first = 0 if consecutive(index, start, steps, row) == 0 else whole
            for i in range(start, min(start + LANES, steps)):
                there = start_of_tensor + simd.load_int(index + INDEX_BYTES * i) * row
                here = tile + i * tile_row
                for j in range(first, width):
                    if into_tile:
                        value = simd.load_float(there + j * column)
                        simd.store_float(here + j * FLOAT_BYTES, value)
                    else:
                        value = simd.load_float(here + j * FLOAT_BYTES)
                        simd.store_float(there + j * column, value)
                for j in range(width, padded if into_tile else width):
                    simd.store_float(here + j * FLOAT_BYTES, ZERO)

    return made(move, "gather_rows" if into_tile else "scatter_rows")


gather_rows, scatter_rows = _mover(into_tile=True), _mover(into_tile=False)


@njit(**OPTIONS)
def gather(tile, tensor, index, steps, width):
    """Copy the rows `index` of a tensor with `width` channels into a tile."""
    gather_rows(tile, ROW, tensor, index, steps, width)


@njit(**OPTIONS)
def scatter(tile, tensor, index, steps, width):
    """Copy a tile into the rows `index` of a tensor with `width` channels."""
    scatter_rows(tile, ROW, tensor, index, steps, width)


@njit(**OPTIONS)
def fetch(tensor, index, steps, width, ahead):
    """Begin to bring a part of a tensor near the processor before it is read or written.

    Only where the points of a channel are neighbours: there every channel lies in another page of
    memory, and the processor does not see by itself what comes next.

    What is meant is `ahead` tiles further along the walk.
    """
    at, row, column = tensor
    step = consecutive(index, 0, steps, row)
    if column == FLOAT_BYTES or steps < TILE or step == 0:
        return
    lowest = simd.load_int(index) + ahead * step * TILE
    if step < 0:
        lowest -= TILE - 1
    for j in range(width):
        for i in range(0, TILE * FLOAT_BYTES, CACHE_LINE):
            simd.prefetch(at + j * column + lowest * FLOAT_BYTES + i)


@njit(**OPTIONS)
def in_place(tensor, index, steps, width, rows):
    """Write the addresses of the rows `index` if they can be used where they are; tell whether."""
    at, row, column = tensor
    if column != FLOAT_BYTES or width % LANES != 0:
        return False
    for i in range(steps):
        simd.store_address(
            rows + ADDRESS_BYTES * i, at + simd.load_int(index + INDEX_BYTES * i) * row
        )
    return True


@njit(**OPTIONS)
def in_tile(tile, steps, rows):
    """Write the addresses of a tile's rows."""
    for i in range(steps):
        simd.store_address(rows + ADDRESS_BYTES * i, tile + i * ROW)


@njit(**OPTIONS)
def read_rows(tile, tensor, index, steps, width, rows):
    """Write the addresses where rows can be read: where they are, or else copied to a tile."""
    if not in_place(tensor, index, steps, width, rows):
        gather(tile, tensor, index, steps, width)
        in_tile(tile, steps, rows)


@njit(**OPTIONS)
def gather_states(rows, row_bytes, tensor, index, steps, state):
    """Copy `steps` rows of B or C; the last may be followed by a vector of zeros.

    The padding of a row is left as it is, or set to zero.
    """
    start, row, column = tensor
    if column != FLOAT_BYTES and state % LANES == 0:
        gather_rows(rows, row_bytes, tensor, index, steps, state)
        return
    for i in range(steps):
        at, to = start + simd.load_int(index + INDEX_BYTES * i) * row, rows + i * row_bytes
        if column == FLOAT_BYTES:
            for n in range(0, state, LANES):
                here = n * FLOAT_BYTES
                simd.store(to + here, simd.load_part(at + here, min(LANES, state - n)))
        else:
            for n in range(state):
                simd.store_float(to + n * FLOAT_BYTES, simd.load_float(at + n * column))


@njit(**OPTIONS)
def fill_zeros(address, count):
    """Set `count` floats to zero, a multiple of `LANES`."""
    for i in range(0, count, LANES):
        simd.store(address + i * FLOAT_BYTES, simd.zeros())


@njit(**OPTIONS)
def store_sums(lanes, vectors, columns, sums, tensor, index, steps):
    """Sum `columns` vectors per step over their lanes and write them to the rows `index`."""
    start, row, _ = tensor
    for k in range(0, steps * columns, LANES):
        simd.store(sums + k * FLOAT_BYTES, simd.sums_of_vectors(lanes + k * VECTOR_BYTES))
    for i in range(steps):
        to = start + simd.load_int(index + INDEX_BYTES * i) * row
        for n in range(0, columns, LANES):
            part = min(LANES, min(columns, vectors) - n)
            at = n * FLOAT_BYTES
            simd.store_part(to + at, simd.load(sums + i * columns * FLOAT_BYTES + at), part)


@njit(**OPTIONS)
def put_channels(tensor, width, source, rows):
    """Copy scratch rows to a tensor whose channels are neighbours."""
    at, row, _ = tensor
    for n in range(rows):
        for j in range(0, width, LANES):
            value = simd.load(source + n * ROW + j * FLOAT_BYTES)
            simd.store_part(at + n * row + j * FLOAT_BYTES, value, min(LANES, width - j))


@njit(**OPTIONS)
def task_ranges(job, task):
    """Return (chunk, first sample, end, split, first channel, end, first group, end) of a task."""
    split = task % job[fields.SPLITS]
    rest = task // job[fields.SPLITS]
    if job[fields.SUMMED]:
        first_group, end_group = 0, job[fields.GROUPS]
    else:
        first_group = rest % job[fields.GROUPS]
        end_group = first_group + 1
        rest = rest // job[fields.GROUPS]
    first = rest * job[fields.CHUNK]
    end = min(first + job[fields.CHUNK], job[fields.BATCH])
    channel = split * job[fields.SPLIT]
    end_channel = min(channel + job[fields.SPLIT], job[fields.CHANNEL])
    return rest, first, end, split, channel, end_channel, first_group, end_group


@njit(**OPTIONS)
def read_parameters(rows, job, tensor, group, channel, width, count):
    """Copy rows of a parameter to scratch memory, with zeros behind the last channel."""
    start, row, column = view(job, tensor, 0, group, channel)
    for n in range(count):
        at, to = start + n * row, rows + n * ROW
        for j in range(0, width, LANES):
            part = min(LANES, width - j)
            if column == FLOAT_BYTES:
                simd.store(to + j * FLOAT_BYTES, simd.load_part(at + j * FLOAT_BYTES, part))
            else:
                for i in range(j, j + part):
                    simd.store_float(to + i * FLOAT_BYTES, simd.load_float(at + i * column))


@njit(**OPTIONS)
def load_parameters(job, s, group, channel, width):
    """Copy the parameters of a group to scratch rows, with zeros behind the last channel."""
    state, rank, row_floats = job[fields.STATE], job[fields.RANK], ROW // FLOAT_BYTES
    padded = state + state % 2
    fill_zeros(s.bias, row_floats)
    fill_zeros(s.direct, row_floats)
    fill_zeros(s.rates, padded * row_floats)
    fill_zeros(s.rates_e, padded * row_floats)
    fill_zeros(s.dt_weight, rank * row_floats)
    read_parameters(s.rates_e, job, fields.A, group, channel, width, state)
    for n in range(state):
        for j in range(0, width, LANES):
            at = n * ROW + j * FLOAT_BYTES
            simd.store(s.rates + at, by_log2e(simd.load(s.rates_e + at)))
    if job[fields.BIAS]:
        read_parameters(s.bias, job, fields.BIAS, group, channel, width, 1)
    if job[fields.D]:
        read_parameters(s.direct, job, fields.D, group, channel, width, 1)
    read_parameters(s.dt_weight, job, fields.DT_WEIGHT, group, channel, width, rank)


@njit(**OPTIONS)
def load_walk(job, s, batch, group, start, steps):
    """Write the points that a tile visits and the factors of its steps.

    The centred rule takes each step in two halves, so all behind works with half steps.
    """
    backwards = job[fields.DIRECTIONS + 2 * group + 1]
    at, row, _ = view(job, fields.ORDER, batch, group, 0)
    for i in range(steps):
        position = start + i
        if backwards:
            position = job[fields.POINTS] - 1 - position
        simd.store_int(s.index + INDEX_BYTES * i, simd.load_int(at + position * row))
    at, row, _ = view(job, fields.SCALE, batch, group, 0)
    for i in range(steps):
        factor = ONE
        if job[fields.SCALE]:
            factor = simd.load_float(at + simd.load_int(s.index + INDEX_BYTES * i) * row)
        if job[fields.CENTRED]:
            factor *= HALF
        simd.store_float(s.scale + FLOAT_BYTES * i, factor)


@njit(**OPTIONS)
def cut_into_lines(line, start, steps, bounds):
    """Write where the lines in a tile begin and end; return how many parts there are."""
    segments = 0
    simd.store_int(bounds, 0)
    following = line - start % line
    while following < steps:
        segments += 1
        simd.store_int(bounds + INDEX_BYTES * segments, following)
        following += line
    segments += 1
    simd.store_int(bounds + INDEX_BYTES * segments, steps)
    return segments


@njit(**OPTIONS)
def read_inputs(job, s, batch, group, channel, width, steps, ahead):
    """Make B, C, u and delta of a tile readable; see `fetch` for `ahead`."""
    state, rank = job[fields.STATE], job[fields.RANK]
    weights_row = (state + state % 2) * FLOAT_BYTES
    gather_states(s.B, weights_row, view(job, fields.B, batch, group, 0), s.index, steps, state)
    gather_states(s.C, weights_row, view(job, fields.C, batch, group, 0), s.index, steps, state)
    u = view(job, fields.U, batch, group, channel)
    read_rows(s.u, u, s.index, steps, width, s.u_rows)
    fetch(u, s.index, steps, width, ahead)
    if rank == 0:
        delta = view(job, fields.DELTA, batch, group, channel)
        read_rows(s.dt, delta, s.index, steps, width, s.delta_rows)
        fetch(delta, s.index, steps, width, ahead)
    else:
        delta = view(job, fields.DELTA, batch, group, 0)
        gather_states(s.low, rank * FLOAT_BYTES, delta, s.index, steps, rank)


@njit(**OPTIONS)
def raw_step(rank, delta, low, bias, dt_weight):
    """Return bias + delta, or bias + delta @ dt_weight."""
    x = simd.load(bias)
    if rank == 0:
        return simd.total(simd.load(delta), x)
    for r in range(rank):
        x = simd.fused(
            simd.load_everywhere(low + r * FLOAT_BYTES), simd.load(dt_weight + r * ROW), x
        )
    return x


@njit(**OPTIONS)
def step_length(job, x, factor):
    """Return the step of raw step `x`, `factor` being the address of its scale."""
    if job[fields.SOFTPLUS]:
        x = softplus(x)
    return simd.product(x, simd.load_everywhere(factor))


def _mover_of_states(saving: bool) -> Any:
    """Return what writes a state into its place among `STATES` or `ENDS`, or else reads it."""

    def move(job, tensor, h, batch, group, place, channel, width):
        at, row, _ = view(job, tensor, batch, group, channel)
        at += place * job[fields.STATE] * row
        for n in range(job[fields.STATE]):
            for j in range(0, width, LANES):
                there, here = at + n * row + j * FLOAT_BYTES, h + n * ROW + j * FLOAT_BYTES
                if saving:
                    simd.store_part(there, simd.load(here), min(LANES, width - j))
                else:
                    simd.store(here, simd.load_part(there, min(LANES, width - j)))

    return made(move, "store_state" if saving else "load_state")


store_state, load_state = _mover_of_states(saving=True), _mover_of_states(saving=False)
