"""A layer in space in one pass: softmax attention of few points, and the network behind it.

With few points its parts are so little work that calling them would take most of the time. Of many
points torch's attention, which never holds all scores, is as fast. A task is a sample.

    scores   of the keys (rows) for the queries (columns), so that sums over keys are of vectors
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mno.scan.cpu.blocks import multiply
from mno.scan.cpu.job import FLOAT_BYTES, OPTIONS
from mno.scan.cpu.memory import empty
from mno.scan.cpu.rules import LOG2E, exp2, polynomial
from mno.scan.cpu.threads import Kernel, compiled_tasks, run_tasks
from mno.scan.cpu.tiles import fill_zeros
from mno.scan.cpu.time_layer import filled_up, row_bytes, standardise
from mno.scan.cpu.vectors import (
    LANES,
    VECTOR,
    VECTOR_BYTES,
    Lanes,
    emitted,
    load,
    load_part,
    product,
    store,
    store_part,
    total,
    transpose,
    zeros,
)

# Fewer multiplications than this are done before another thread has woken up.
_SMALL = 1_000_000
NAMES = (
    "mixed", "mixed_bias", "merged", "merged_bias", "inward", "inward_bias", "outward",
    "outward_bias",
)  # fmt: skip
"""Weights, in the order in which they stand in a job."""
(
    X, Y, MIXED, MIXED_BIAS, MERGED, MERGED_BIAS, INWARD, INWARD_BIAS, OUTWARD, OUTWARD_BIAS,
    POINTS, WIDTH, HIDDEN, HEADS,
) = range(len(NAMES) + 6)  # fmt: skip
# exp(z**2) (1 - erf(z)) by powers of 1 / (1 + ERF_SCALE z): Abramowitz and Stegun, 7.1.26; the
# error of erf is below 1.5e-7.
ERF_SCALE = 0.3275911
ERF_COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0)


@emitted(VECTOR)
def _gelu(x: Lanes) -> Lanes:
    size = x.absolute()
    t = x.constant(1.0) / (size * (ERF_SCALE * 0.5**0.5) + 1.0)
    rest = polynomial(t, ERF_COEFFICIENTS) * exp2(x * x * (-0.5 * LOG2E))[0]
    return x.choose(">", 0.0, x, 0.0) - size * rest * 0.5


_exp2_of_difference = emitted(VECTOR)(lambda a, b: exp2(a - b)[0])
_larger = emitted(VECTOR)(lambda a, b: a.where(">", b, b))
_inverse = emitted(VECTOR)(lambda x: x.constant(1.0) / x)


@njit(**OPTIONS)
def _softmax(scores, row, keys):
    """Let the scores of each query, in units of log(2), become shares that add up to one."""
    for j in range(0, row, VECTOR_BYTES):
        most, whole = load(scores + j), zeros()
        for k in range(1, keys):
            most = _larger(load(scores + k * row + j), most)
        for k in range(keys):
            at = scores + k * row + j
            share = _exp2_of_difference(load(at), most)
            store(at, share)
            whole = total(whole, share)
        factor = _inverse(whole)
        for k in range(keys):
            at = scores + k * row + j
            store(at, product(load(at), factor))


@njit(**OPTIONS)
def _begin(rows, row, count, bias):
    """Let rows hold a bias, to which a product is added."""
    for i in range(count):
        for j in range(0, row, VECTOR_BYTES):
            store(rows + i * row + j, load(bias + j))


def _mix(job, task, scratch):
    """Take a sample."""
    points, width, hidden, heads = job[POINTS], job[WIDTH], job[HIDDEN], job[HEADS]
    part = width // heads
    w, f = row_bytes(width), row_bytes(hidden)
    rows, across = row_bytes(points) // FLOAT_BYTES, row_bytes(points)
    # A head's last vector may reach into the next head, which is written later, or behind all.
    merged = w + VECTOR_BYTES
    kept = scratch
    x = kept + rows * w
    z = x + rows * w
    turned = z + rows * max(3 * w, f)
    scores = turned + w // FLOAT_BYTES * across
    y = scores + rows * across
    sums = y + rows * merged
    of_row = sums + rows * VECTOR_BYTES
    fill_zeros(scratch, (of_row - scratch) // FLOAT_BYTES + rows)
    sample = task * points * width * FLOAT_BYTES
    for i in range(points):
        there = job[X] + sample + i * width * FLOAT_BYTES
        for j in range(0, width, LANES):
            at = i * w + j * FLOAT_BYTES
            value = load_part(there + j * FLOAT_BYTES, min(LANES, width - j))
            store(x + at, value)
            store(kept + at, value)
    standardise(x, w, points, width, sums, of_row)
    _begin(z, 3 * w, rows, job[MIXED_BIAS])
    multiply(
        x, w, FLOAT_BYTES, job[MIXED], 3 * w, z, 3 * w, rows, width, 3 * w // VECTOR_BYTES, False, 0
    )
    for i in range(0, rows, LANES):
        for j in range(0, w, VECTOR_BYTES):
            to = turned + j // FLOAT_BYTES * across + i * FLOAT_BYTES
            transpose(z + i * 3 * w + j, 3 * w, to, across)
    for head in range(heads):
        at = head * part * FLOAT_BYTES
        multiply(
            z + w + at, 3 * w, FLOAT_BYTES, turned + head * part * across, across, scores, across,
            rows, part, across // VECTOR_BYTES, True, 0,
        )  # fmt: skip
        _softmax(scores, across, points)
        multiply(
            scores, FLOAT_BYTES, across, z + 2 * w + at, 3 * w, y + at, merged, rows, points,
            (part + LANES - 1) // LANES, True, 0,
        )  # fmt: skip
    _begin(x, w, rows, job[MERGED_BIAS])
    multiply(y, merged, FLOAT_BYTES, job[MERGED], w, x, w, rows, width, w // VECTOR_BYTES, False, 0)
    for i in range(0, points * w, VECTOR_BYTES):
        value = total(load(kept + i), load(x + i))
        store(kept + i, value)
        store(x + i, value)
    standardise(x, w, points, width, sums, of_row)
    _begin(z, f, rows, job[INWARD_BIAS])
    multiply(x, w, FLOAT_BYTES, job[INWARD], f, z, f, rows, width, f // VECTOR_BYTES, False, 0)
    for i in range(0, points * f, VECTOR_BYTES):
        store(z + i, _gelu(load(z + i)))
    _begin(x, w, rows, job[OUTWARD_BIAS])
    multiply(z, f, FLOAT_BYTES, job[OUTWARD], w, x, w, rows, hidden, w // VECTOR_BYTES, False, 0)
    for i in range(points):
        there = job[Y] + sample + i * width * FLOAT_BYTES
        for j in range(0, width, LANES):
            at = i * w + j * FLOAT_BYTES
            value = total(load(kept + at), load(x + at))
            store_part(there + j * FLOAT_BYTES, value, min(LANES, width - j))


class SpaceLayer:
    """A `Block` with softmax attention, with its weights prepared.

    Each weight, by its name in a job, has a row for every number that it takes in. The norms' are
    in `mixed`, whose rows have three parts, for queries in units of log(2), keys and values, and in
    `inward`.
    """

    def __init__(self, heads: int, **weights: Tensor) -> None:
        self.width, self.hidden = (len(weights[name]) for name in ("inward", "outward"))
        self.heads, self.weights = heads, [filled_up(weights[name]) for name in NAMES]

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the block makes of `(batch, points, width)`, float32, at equal cells."""
        batch, points, width = x.shape
        if width != self.width:
            raise ValueError(f"x: shape {tuple(x.shape)}, expected a width of {self.width}")
        x, y = x.contiguous(), empty(*x.shape)
        addresses = [tensor.data_ptr() for tensor in (x, y, *self.weights)]
        job = np.array([*addresses, points, width, self.hidden, self.heads], np.int64)
        threads = 1 if x.numel() * width < _SMALL else torch.get_num_threads()
        run_tasks(_kernel(), job, batch if points else 0, self._scratch_bytes(points), threads)
        return y

    def _scratch_bytes(self, points: int) -> int:
        w, f, across = map(row_bytes.py_func, (self.width, self.hidden, points))
        rows = across // FLOAT_BYTES
        per_row = 3 * w + max(3 * w, f) + across + 2 * VECTOR_BYTES + FLOAT_BYTES
        return rows * per_row + w // FLOAT_BYTES * across


@cache
def _kernel() -> Kernel:
    return compiled_tasks(_mix, "space_layer")
