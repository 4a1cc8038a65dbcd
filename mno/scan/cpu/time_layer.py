"""A layer along time in one pass: x + mixer(norm(x)) of `mno.nn.mixers.time`, frame by frame.

A single frame is so little work that calling its parts, a dozen operations, would take most of the
time. What is remembered is moved on in place. A task is a range of lines.
"""

import math
from functools import cache

import numpy as np
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from mno.scan.cpu import vectors as simd
from mno.scan.cpu.blocks import TALL, multiply
from mno.scan.cpu.job import FLOAT_BYTES, OPTIONS
from mno.scan.cpu.memory import empty
from mno.scan.cpu.rules import LOG2E, decay_and_hold, exp2, softplus
from mno.scan.cpu.threads import Kernel, compiled_tasks, run_tasks
from mno.scan.cpu.tiles import fill_zeros
from mno.scan.cpu.vectors import LANES, VECTOR, VECTOR_BYTES, Address, Lanes, emitted

ROWS = 32
"""Lines of a task at most, a multiple of `TALL` and `LANES`."""
WIDEST = 16
"""Rows of weights are filled up with zeros to a multiple of it, which is one of `LANES`."""

NAMES = (
    "inward", "inward_bias", "window", "window_bias", "weights", "step", "step_bias", "rates",
    "inverse", "direct", "scale", "offset", "outward",
)  # fmt: skip
"""Weights, in the order in which they stand in a job."""
(
    X, Y, INTERVALS, STATE,
    INWARD, INWARD_BIAS, WINDOW, WINDOW_BIAS, WEIGHTS, STEP, STEP_BIAS, RATES, INVERSE, DIRECT,
    SCALE, OFFSET, OUTWARD,
    LINES, FRAMES, WIDTH, CHANNELS, STATES, RANK, SEEN,
) = range(len(NAMES) + 11)  # fmt: skip
LEAST = np.float32(1e-5)  # added to a variance, as torch does


@emitted(VECTOR)
def _silu(x: Lanes) -> Lanes:
    return x / (exp2(x * -LOG2E)[0] + 1.0)


@emitted(VECTOR)
def _advanced(h: Lanes, rate: Lanes, inverse: Lanes, dt: Lanes, u: Lanes, B: Address) -> Lanes:
    """Return the state behind a step that holds its input."""
    a, hold = decay_and_hold(rate, inverse, dt)
    return h * a + (u * B.load_everywhere()) * hold


@njit(**OPTIONS)
def _row(count):
    """Return the bytes of a row of so many numbers, filled up."""
    return (count + WIDEST - 1) // WIDEST * WIDEST * FLOAT_BYTES


@njit(**OPTIONS)
def _standardise(rows, row, count, width, sums, of_row):
    """Give so many rows mean zero and variance one; behind `width` they may hold anything then."""
    for i in range(count):
        value = simd.zeros()
        for j in range(0, width, LANES):
            at = rows + i * row + j * FLOAT_BYTES
            value = simd.total(value, simd.load_part(at, min(LANES, width - j)))
        simd.store(sums + i * VECTOR_BYTES, value)
    for i in range(0, count, LANES):
        simd.store(of_row + i * FLOAT_BYTES, simd.sums_of_vectors(sums + i * VECTOR_BYTES))
    for i in range(count):
        simd.store_float(
            of_row + i * FLOAT_BYTES, simd.load_float(of_row + i * FLOAT_BYTES) / np.float32(width)
        )
        mean, value = simd.load_everywhere(of_row + i * FLOAT_BYTES), simd.zeros()
        for j in range(0, width, LANES):
            at, part = rows + i * row + j * FLOAT_BYTES, min(LANES, width - j)
            simd.store_part(at, simd.difference(simd.load(at), mean), part)
            rest = simd.load_part(at, part)
            value = simd.fused(rest, rest, value)
        simd.store(sums + i * VECTOR_BYTES, value)
    for i in range(0, count, LANES):
        simd.store(of_row + i * FLOAT_BYTES, simd.sums_of_vectors(sums + i * VECTOR_BYTES))
    for i in range(count):
        at = of_row + i * FLOAT_BYTES
        variance = simd.load_float(at) / np.float32(width)
        simd.store_float(at, np.float32(1.0) / np.float32(math.sqrt(variance + LEAST)))
        factor = simd.load_everywhere(at)
        for j in range(0, width, LANES):
            at = rows + i * row + j * FLOAT_BYTES
            simd.store(at, simd.product(simd.load(at), factor))


@njit(**OPTIONS)
def _convolve(job, i, newest, u, c):
    """Write SiLU of the convolution's output of a line, and move on what it has seen."""
    channels, seen = job[CHANNELS], job[SEEN]
    kept = job[STATE] + (i * (job[STATES] + seen) + job[STATES]) * channels * FLOAT_BYTES
    for j in range(0, channels, LANES):
        at, part = j * FLOAT_BYTES, min(LANES, channels - j)
        x = simd.load(newest + at)
        last = job[WINDOW] + seen * c + at
        value = simd.fused(x, simd.load(last), simd.load(job[WINDOW_BIAS] + at))
        for k in range(seen):
            there = kept + k * channels * FLOAT_BYTES + at
            old = simd.load_part(there, part)
            value = simd.fused(old, simd.load(job[WINDOW] + k * c + at), value)
            if k > 0:
                simd.store_part(there - channels * FLOAT_BYTES, old, part)
        simd.store_part(kept + (seen - 1) * channels * FLOAT_BYTES + at, x, part)
        simd.store(u + at, _silu(value))


@njit(**OPTIONS)
def _scan(job, i, interval, u, low, y, c):
    """Move the state of a line on by a frame, and write what is read from it."""
    channels, states, rank = job[CHANNELS], job[STATES], job[RANK]
    B, C = low + rank * FLOAT_BYTES, low + (rank + states) * FLOAT_BYTES
    h = job[STATE] + i * (states + job[SEEN]) * channels * FLOAT_BYTES
    for j in range(0, channels, LANES):
        at, part = j * FLOAT_BYTES, min(LANES, channels - j)
        raw, x = simd.load(job[STEP_BIAS] + at), simd.load(u + at)
        for r in range(rank):
            weight = simd.load(job[STEP] + r * c + at)
            raw = simd.fused(simd.load_everywhere(low + r * FLOAT_BYTES), weight, raw)
        dt = simd.product(softplus(raw), simd.load_everywhere(interval))
        value = simd.product(x, simd.load(job[DIRECT] + at))
        for n in range(states):
            there, own = h + n * channels * FLOAT_BYTES + at, n * c + at
            rate, inverse = simd.load(job[RATES] + own), simd.load(job[INVERSE] + own)
            behind = _advanced(
                simd.load_part(there, part), rate, inverse, dt, x, B + n * FLOAT_BYTES
            )
            simd.store_part(there, behind, part)
            value = simd.fused(behind, simd.load_everywhere(C + n * FLOAT_BYTES), value)
        simd.store(y + at, value)


def _follow(job, task, scratch):
    """Take all frames of some lines."""
    lines, frames, width, channels = job[LINES], job[FRAMES], job[WIDTH], job[CHANNELS]
    w, c, p = _row(width), _row(channels), _row(job[RANK] + 2 * job[STATES])
    first = task * ROWS
    count = min(ROWS, lines - first)
    rows = (count + TALL - 1) // TALL * TALL
    x = scratch
    z = x + ROWS * w
    u, low = z + ROWS * 2 * c, z + ROWS * 3 * c
    y = low + ROWS * p
    sums = y + ROWS * c
    of_row = sums + ROWS * VECTOR_BYTES
    fill_zeros(scratch, (of_row - scratch) // FLOAT_BYTES + ROWS)
    for frame in range(frames):
        for i in range(count):
            there = job[X] + ((first + i) * frames + frame) * width * FLOAT_BYTES
            for j in range(0, width, LANES):
                at = j * FLOAT_BYTES
                simd.store(x + i * w + at, simd.load_part(there + at, min(LANES, width - j)))
        _standardise(x, w, count, width, sums, of_row)
        for i in range(rows):
            for j in range(0, 2 * c, VECTOR_BYTES):
                simd.store(z + i * 2 * c + j, simd.load(job[INWARD_BIAS] + j))
        vectors = c // VECTOR_BYTES
        multiply(
            x, w, FLOAT_BYTES, job[INWARD], 2 * c, z, 2 * c, rows, width, 2 * vectors, False, 0
        )
        for i in range(count):
            _convolve(job, first + i, z + i * 2 * c, u + i * c, c)
        multiply(
            u, c, FLOAT_BYTES, job[WEIGHTS], p, low, p, rows, channels, p // VECTOR_BYTES, True, 0
        )
        for i in range(count):
            interval = job[INTERVALS] + ((first + i) * frames + frame) * FLOAT_BYTES
            _scan(job, first + i, interval, u + i * c, low + i * p, y + i * c, c)
        _standardise(y, c, count, channels, sums, of_row)
        for i in range(count):
            for j in range(0, c, VECTOR_BYTES):
                at = y + i * c + j
                value = simd.fused(
                    simd.load(at), simd.load(job[SCALE] + j), simd.load(job[OFFSET] + j)
                )
                simd.store(at, simd.product(value, _silu(simd.load(z + i * 2 * c + c + j))))
        multiply(
            y, c, FLOAT_BYTES, job[OUTWARD], w, x, w, rows, channels, w // VECTOR_BYTES, True, 0
        )
        for i in range(count):
            here = ((first + i) * frames + frame) * width * FLOAT_BYTES
            for j in range(0, width, LANES):
                at, part = here + j * FLOAT_BYTES, min(LANES, width - j)
                value = simd.total(
                    simd.load_part(job[X] + at, part), simd.load(x + i * w + j * FLOAT_BYTES)
                )
                simd.store_part(job[Y] + at, value, part)


class TimeLayer:
    """A layer along time with its weights prepared.

    Each weight, by its name in a job, has a row for every number that it takes in. The norm's are
    in `inward`, whose rows have two halves, for the input and for the gate.
    """

    def __init__(self, **weights: Tensor) -> None:
        width, channels = (len(weights[name]) for name in ("inward", "outward"))
        states, rank = len(weights["rates"]), len(weights["step"])
        seen = len(weights["window"]) - 1
        self.sizes = width, channels, states, rank, seen
        self.remembered = states + seen, channels
        self.weights = [_filled_up(weights[name]) for name in NAMES]
        w, c, p = map(_row.py_func, (width, channels, rank + 2 * states))
        self.scratch_bytes = ROWS * (w + 4 * c + p + VECTOR_BYTES + FLOAT_BYTES)

    def __call__(self, x: Tensor, intervals: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Do what `TimeBlock` does, with float32 tensors; a `ValueError` if shapes do not fit."""
        lines, frames, _ = x.shape
        width, channels, *_ = self.sizes
        for name, tensor, shape in (
            ("x", x, (lines, frames, width)),
            ("intervals", intervals, (lines, frames)),
            ("state", state, (lines, *reversed(self.remembered))),
        ):
            if tensor is not None and tensor.shape != shape:
                raise ValueError(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
        x, intervals, y = x.contiguous(), intervals.contiguous(), empty(*x.shape)
        behind = empty(lines, *self.remembered)
        behind = behind.zero_() if state is None else behind.copy_(state.mT)
        tensors = (x, y, intervals, behind, *self.weights)
        addresses = [tensor.data_ptr() for tensor in tensors]
        job = np.array([*addresses, lines, frames, *self.sizes], np.int64)
        tasks, work = -(-lines // ROWS), x.numel() * channels
        run_tasks(_kernel(), job, tasks, self.scratch_bytes, work)
        return y, behind.mT


def _filled_up(x: Tensor) -> Tensor:
    return F.pad(x.float(), (0, -x.shape[-1] % WIDEST)).contiguous()


@cache
def _kernel() -> Kernel:
    return compiled_tasks(_follow, "time_layer")
