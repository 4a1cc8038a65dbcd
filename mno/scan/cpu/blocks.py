"""The scan with one decay per head, block by block, as products of small matrices.

All is in scratch memory, which stays near the processor. Symbols are those of `mno.scan.ssd`, with

    M      kernel inside a block                      (step, step)
    L, G   its decays and its products: M = L G       (step, step)
    R, W   the weights by which the state at the start of a block is read, exp(c_t) C_t, and that at
           its end written, exp(sum - c_s) g_s B_s    (step, state)
    h      state at the start of a block              (state, channel)

A task is a range of lines and a range of heads, which share G, B and C. Sums over heads are left in
one part per range.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types

from mno.scan.cpu import vectors as simd
from mno.scan.cpu.job import FLOAT_BYTES, OPTIONS, laid_out, made
from mno.scan.cpu.rules import LOG2E, exp2
from mno.scan.cpu.tiles import fill_zeros
from mno.scan.cpu.vectors import AVX512, LANES, VECTOR, VECTOR_BYTES, ZERO, Address, Lanes, emitted

FIELDS = 32
(
    U, DY, Y, DU, B, C, READ, WRITE, WHOLE, OWN, PRODUCTS, STATES,
    DB, DC, DPRODUCTS, DREAD, DWRITE, DWHOLE, DOWN,
    BLOCKS, SIZE, HEADS, CHANNELS, STATE, WAYS, PER_LINE, LINES, FEW_LINES, FEW_HEADS, SAVING,
) = range(30)  # fmt: skip
Z, DRIVE, DZ, DDRIVE, CENTRED = U, DY, Y, DU, SAVING  # in the passes of the exponents
BACKWARDS = FIELDS
"""Behind the addresses and sizes: for each way whether it is walked from the last block on."""
LEAST_DRIVE = np.float32(1e-30)  # whose logarithm is taken
LEAST = -60.0
"""Exponents are not taken below it: so that nothing is denormal, which is slow."""
TALL = 8 if AVX512 else 4


def _rows_of_product(count: int, wide: int) -> Any:
    """Return what makes `count` rows and `wide` vectors of columns of a product, in registers."""
    nothing = simd.zeros_of(types.UniTuple(VECTOR, count * wide))

    @emitted(0)
    def loaded(like: list[Lanes], c: Address, row: Address) -> list[Lanes]:
        values = []
        for _ in range(count):
            values += [c.load(j * VECTOR_BYTES) for j in range(wide)]
            c = c.moved(row)
        return values

    @emitted()
    def put(c: Address, row: Address, sums: list[Lanes]) -> None:
        for i in range(count):
            for j in range(wide):
                c.store(sums[i * wide + j], j * VECTOR_BYTES)
            c = c.moved(row)

    @emitted(0)
    def advance(sums: list[Lanes], a: Address, row: Address, b: Address) -> list[Lanes]:
        columns, values = [b.load(j * VECTOR_BYTES) for j in range(wide)], []
        for i in range(count):
            factor = a.load_everywhere()
            values += [sums[i * wide + j] + factor * columns[j] for j in range(wide)]
            a = a.moved(row)
        return values

    def run(a, a_row, a_column, b, b_row, c, c_row, first, last, fresh):
        sums = nothing()
        if not fresh:
            sums = loaded(sums, c, c_row)
        for k in range(first, last):
            sums = advance(sums, a + k * a_column, a_row, b + k * b_row)
        put(c, c_row, sums)

    return made(run, f"rows_of_product_{count}_{wide}")


_tall_wide, _tall = _rows_of_product(TALL, 2), _rows_of_product(TALL, 1)
_low_wide, _low = _rows_of_product(1, 2), _rows_of_product(1, 1)


@njit(**OPTIONS)
def multiply(a, a_row, a_column, b, b_row, c, c_row, rows, depth, vectors, fresh, triangle):
    """Write c = a b, or add to c; `a` is read number by number, so it may be transposed.

    With `triangle` 1 only the lower one of `a` is used, with -1 the upper one; with 2 and -2 only
    that of `c` is written, in whole vectors.
    """
    i = 0
    while i < rows:
        count = TALL if rows - i >= TALL else 1
        first, last = 0, depth
        j, end = 0, vectors
        if triangle == 1:
            last = min(depth, i + count)
        elif triangle == -1:
            first = i
        elif triangle == 2:
            end = min(vectors, (i + count - 1) // LANES + 1)
        elif triangle == -2:
            j = i // LANES
        from_a, to = a + i * a_row, c + i * c_row
        while j < end:
            at = j * VECTOR_BYTES
            if count == TALL and end - j >= 2:
                _tall_wide(
                    from_a, a_row, a_column, b + at, b_row, to + at, c_row, first, last, fresh
                )
                j += 2
            elif count == TALL:
                _tall(from_a, a_row, a_column, b + at, b_row, to + at, c_row, first, last, fresh)
                j += 1
            elif end - j >= 2:
                _low_wide(
                    from_a, a_row, a_column, b + at, b_row, to + at, c_row, first, last, fresh
                )
                j += 2
            else:
                _low(from_a, a_row, a_column, b + at, b_row, to + at, c_row, first, last, fresh)
                j += 1
        i += count


@emitted(VECTOR)
def _exponential(x: Lanes) -> Lanes:
    return exp2(x.where(">", LEAST, LEAST) * LOG2E)[0]


@emitted(VECTOR)
def _decay(read: Lanes, write: Lanes, most: Lanes) -> Lanes:
    x = read - write
    x = x.where("<", most, most)
    return exp2(x.where(">", LEAST, LEAST) * LOG2E)[0]


class Scratch(NamedTuple):
    """The parts of a task's scratch memory: where they lie, or how many bytes they take."""

    u: int  # rows of channels
    dy: int
    y: int
    h: int
    dh: int
    turned: int  # u, and then states, transposed
    M: int  # rows of steps
    L: int
    dM: int
    R: int  # rows of states
    W: int
    by_weight: int
    read: int  # one row of steps
    write: int
    most: int
    reading: int
    writing: int
    by_column: int
    by_read: int  # a vector per step
    by_write: int


@njit(**OPTIONS)
def _padded(count):
    return (count + LANES - 1) // LANES * LANES


@njit(**OPTIONS)
def sizes(size, state, channels):
    """Return how many bytes the parts of scratch memory take."""
    q, n, p = (-(-size // LANES) * LANES, -(-state // LANES) * LANES, -(-channels // LANES) * LANES)
    values, states, matrix, weights = q * p * 4, n * p * 4, q * q * 4, q * n * 4
    turned = p * max(q, n) * 4
    row, vectors = q * 4, q * VECTOR_BYTES
    return Scratch(
        values, values, values, states, states, turned, matrix, matrix, matrix, weights, weights,
        weights, row, row, row, row, row, row, vectors, vectors,
    )  # fmt: skip


def scratch_bytes(size: int, state: int, channels: int) -> int:
    """Return how much scratch memory a task needs."""
    return sum(sizes.py_func(size, state, channels))


@njit(**OPTIONS)
def _copy(to, to_row, source, source_row, rows, columns):
    """Copy rows, of which no number beyond `columns` is read or written."""
    whole = columns // LANES * LANES
    for i in range(rows):
        here, there = source + i * source_row, to + i * to_row
        for j in range(0, whole, LANES):
            simd.store(there + j * FLOAT_BYTES, simd.load(here + j * FLOAT_BYTES))
        if whole < columns:
            value = simd.load_part(here + whole * FLOAT_BYTES, columns - whole)
            simd.store_part(there + whole * FLOAT_BYTES, value, columns - whole)


@njit(**OPTIONS)
def _transposed(to, to_row, source, source_row, rows, columns):
    """Transpose, in whole squares."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            at = source + i * source_row + j * FLOAT_BYTES
            simd.transpose(at, source_row, to + j * to_row + i * FLOAT_BYTES, to_row)


@njit(**OPTIONS)
def _scale(to, row, rows, vectors, factor):
    for i in range(rows):
        for j in range(vectors):
            at = to + i * row + j * VECTOR_BYTES
            simd.store(at, simd.product(simd.load(at), factor))


@njit(**OPTIONS)
def _columns(t, back, vectors):
    """Return the vectors of row t that lie before it, or share a tall row's vectors with those."""
    if back:
        return t // TALL * TALL // LANES, vectors
    return 0, (t // TALL * TALL + TALL - 1) // LANES + 1


@njit(**OPTIONS)
def _matrix(job, s, way, head, block, back, q):
    """Make L and M of a block, and copy its exponents."""
    size, heads, blocks = job[SIZE], job[HEADS], job[BLOCKS]
    row, vectors = q * FLOAT_BYTES, q // LANES
    at = ((way * heads + head) * blocks + block) * size * FLOAT_BYTES
    _copy(s.read, row, job[READ] + at, row, 1, size)
    _copy(s.write, row, job[WRITE] + at, row, 1, size)
    for j in range(vectors):
        v = j * VECTOR_BYTES
        simd.store(s.most + v, simd.difference(simd.load(s.read + v), simd.load(s.write + v)))
    own = job[OWN] + (head * blocks + block) * size * FLOAT_BYTES
    products = job[PRODUCTS] + (way * blocks + block) * size * size * FLOAT_BYTES
    for t in range(size):
        read = simd.load_everywhere(s.read + t * FLOAT_BYTES)
        first, last = _columns(t, back, vectors)
        last = min(last, vectors)
        for j in range(first, last):
            v = j * VECTOR_BYTES
            decay = _decay(read, simd.load(s.write + v), simd.load(s.most + v))
            simd.store(s.L + t * row + v, decay)
            there = products + t * size * FLOAT_BYTES + v
            simd.store(
                s.M + t * row + v,
                simd.product(decay, simd.load_part(there, min(LANES, size - j * LANES))),
            )
        if way == 0:
            here = t * FLOAT_BYTES
            simd.store_float(s.M + t * row + here, simd.load_float(own + here))


@njit(**OPTIONS)
def _weights(job, s, way, head, block, q, n):
    """Make R and W of a block, and the factors in them; return the decay of the whole block."""
    size, heads, blocks, state = job[SIZE], job[HEADS], job[BLOCKS], job[STATE]
    here = ((way * heads + head) * blocks + block) * FLOAT_BYTES
    whole = simd.load_everywhere(job[WHOLE] + here)
    for j in range(q // LANES):
        v = j * VECTOR_BYTES
        simd.store(s.reading + v, _exponential(simd.load(s.read + v)))
        simd.store(s.writing + v, _exponential(simd.difference(whole, simd.load(s.write + v))))
    at = (way * blocks + block) * size * state * FLOAT_BYTES
    for t in range(size):
        reading = simd.load_everywhere(s.reading + t * FLOAT_BYTES)
        writing = simd.load_everywhere(s.writing + t * FLOAT_BYTES)
        for j in range(0, state, LANES):
            there = at + (t * state + j) * FLOAT_BYTES
            to, part = (t * n + j) * FLOAT_BYTES, min(LANES, state - j)
            simd.store(s.R + to, simd.product(simd.load_part(job[C] + there, part), reading))
            simd.store(s.W + to, simd.product(simd.load_part(job[B] + there, part), writing))
    return _exponential(whole)


def _forward(job, task, scratch):
    size, heads, blocks, state = job[SIZE], job[HEADS], job[BLOCKS], job[STATE]
    channels, per_line, ways = job[CHANNELS], job[PER_LINE], job[WAYS]
    q, n, p = _padded(size), _padded(state), _padded(channels)
    parts = sizes(size, state, channels)
    s = laid_out(parts, scratch)
    fill_zeros(scratch, sum(parts) // FLOAT_BYTES)
    splits = (heads + job[FEW_HEADS] - 1) // job[FEW_HEADS]
    first_line, first_head = task // splits * job[FEW_LINES], task % splits * job[FEW_HEADS]
    row_q, row_n, row_p = q * FLOAT_BYTES, n * FLOAT_BYTES, p * FLOAT_BYTES
    vectors, row = p // LANES, heads * channels * FLOAT_BYTES
    for head in range(first_head, min(first_head + job[FEW_HEADS], heads)):
        for line in range(first_line, min(first_line + job[FEW_LINES], job[LINES])):
            for way in range(ways):
                back = job[BACKWARDS + way]
                fill_zeros(s.h, n * p)
                for i in range(per_line):
                    block = line * per_line + (per_line - 1 - i if back else i)
                    at = (block * size * heads + head) * channels * FLOAT_BYTES
                    _copy(s.u, row_p, job[U] + at, row, size, channels)
                    if way > 0:
                        _copy(s.y, row_p, job[Y] + at, row, size, channels)
                    _matrix(job, s, way, head, block, back, q)
                    multiply(
                        s.M, row_q, FLOAT_BYTES, s.u, row_p, s.y, row_p, size, size, vectors,
                        way == 0, -1 if back else 1,
                    )  # fmt: skip
                    if per_line > 1:
                        whole = _weights(job, s, way, head, block, q, n)
                        if i > 0:
                            multiply(
                                s.R, row_n, FLOAT_BYTES, s.h, row_p, s.y, row_p, size, state,
                                vectors, False, 0,
                            )  # fmt: skip
                        if job[SAVING]:
                            kept = ((way * heads + head) * blocks + block) * state * channels
                            to = job[STATES] + kept * FLOAT_BYTES
                            _copy(to, channels * FLOAT_BYTES, s.h, row_p, state, channels)
                        _scale(s.h, row_p, state, vectors, whole)
                        multiply(
                            s.W, FLOAT_BYTES, row_n, s.u, row_p, s.h, row_p, state, size, vectors,
                            False, 0,
                        )  # fmt: skip
                    _copy(job[Y] + at, row, s.y, row_p, size, channels)


@njit(**OPTIONS)
def _erase(at, count):
    for i in range(0, count, LANES):
        simd.store_part(at + i * FLOAT_BYTES, simd.zeros(), min(LANES, count - i))


@njit(**OPTIONS)
def _by_matrix(job, s, split, way, head, block, back, q):
    """From dM to the gradients by the products, and by the exponents."""
    size, blocks = job[SIZE], job[BLOCKS]
    row, vectors = q * FLOAT_BYTES, q // LANES
    at = (way * blocks + block) * size * size * FLOAT_BYTES
    of_split = split * job[WAYS] * blocks * size * size * FLOAT_BYTES
    products, to = job[PRODUCTS] + at, job[DPRODUCTS] + of_split + at
    fill_zeros(s.by_column, q)
    for t in range(size):
        sums = simd.zeros()
        first, last = _columns(t, back, vectors)
        last = min(last, vectors)
        for j in range(first, last):
            v, part = j * VECTOR_BYTES, min(LANES, size - j * LANES)
            here = t * size * FLOAT_BYTES + v
            by_product = simd.product(simd.load(s.dM + t * row + v), simd.load(s.L + t * row + v))
            before = simd.load_part(to + here, part)
            simd.store_part(to + here, simd.total(before, by_product), part)
            by_exponent = simd.product(by_product, simd.load_part(products + here, part))
            sums = simd.total(sums, by_exponent)
            simd.store(s.by_column + v, simd.total(simd.load(s.by_column + v), by_exponent))
        simd.store(s.by_read + t * VECTOR_BYTES, sums)
        simd.store(s.by_write + t * VECTOR_BYTES, simd.zeros())


@njit(**OPTIONS)
def _by_weights(job, tensor, by_weight, weights, factors, sums, split, way, block, n):
    """Add to the gradient by B or C, and to that by its exponent, lane by lane."""
    size, blocks, state = job[SIZE], job[BLOCKS], job[STATE]
    at = ((split * job[WAYS] + way) * blocks + block) * size * state * FLOAT_BYTES
    for t in range(size):
        factor = simd.load_everywhere(factors + t * FLOAT_BYTES)
        lanes = simd.load(sums + t * VECTOR_BYTES)
        for j in range(0, state, LANES):
            here, part = (t * n + j) * FLOAT_BYTES, min(LANES, state - j)
            there = job[tensor] + at + (t * state + j) * FLOAT_BYTES
            value = simd.load(by_weight + here)
            lanes = simd.fused(value, simd.load(weights + here), lanes)
            simd.store_part(there, simd.fused(value, factor, simd.load_part(there, part)), part)
        simd.store(sums + t * VECTOR_BYTES, lanes)


def _backward(job, task, scratch):
    size, heads, blocks, state = job[SIZE], job[HEADS], job[BLOCKS], job[STATE]
    channels, per_line, ways = job[CHANNELS], job[PER_LINE], job[WAYS]
    q, n, p = _padded(size), _padded(state), _padded(channels)
    parts = sizes(size, state, channels)
    s = laid_out(parts, scratch)
    fill_zeros(scratch, sum(parts) // FLOAT_BYTES)
    splits = (heads + job[FEW_HEADS] - 1) // job[FEW_HEADS]
    split = task % splits
    first_line, first_head = task // splits * job[FEW_LINES], split * job[FEW_HEADS]
    row_q, row_n, row_p = q * FLOAT_BYTES, n * FLOAT_BYTES, p * FLOAT_BYTES
    vectors, row = p // LANES, heads * channels * FLOAT_BYTES
    for head in range(first_head, min(first_head + job[FEW_HEADS], heads)):
        for line in range(first_line, min(first_line + job[FEW_LINES], job[LINES])):
            for way in range(ways):
                back = job[BACKWARDS + way]
                triangle = -1 if back else 1
                fill_zeros(s.dh, n * p)
                for i in range(per_line):
                    block = line * per_line + (i if back else per_line - 1 - i)
                    at = (block * size * heads + head) * channels * FLOAT_BYTES
                    _copy(s.u, row_p, job[U] + at, row, size, channels)
                    _copy(s.dy, row_p, job[DY] + at, row, size, channels)
                    if way > 0:
                        _copy(s.y, row_p, job[DU] + at, row, size, channels)
                    _matrix(job, s, way, head, block, back, q)
                    multiply(
                        s.M, FLOAT_BYTES, row_q, s.dy, row_p, s.y, row_p, size, size, vectors,
                        way == 0, -triangle,
                    )  # fmt: skip
                    _transposed(s.turned, row_q, s.u, row_p, q, p)
                    multiply(
                        s.dy, row_p, FLOAT_BYTES, s.turned, row_q, s.dM, row_q, size, channels,
                        q // LANES, True, 2 * triangle,
                    )  # fmt: skip
                    if way == 0:
                        to = job[DOWN] + (head * blocks + block) * size * FLOAT_BYTES
                        for t in range(size):
                            value = simd.load_float(s.dM + t * (row_q + FLOAT_BYTES))
                            simd.store_float(to + t * FLOAT_BYTES, value)
                    if head == first_head:
                        sums_of = (split * ways + way) * blocks + block
                        amount = size * state
                        _erase(job[DB] + sums_of * amount * FLOAT_BYTES, amount)
                        _erase(job[DC] + sums_of * amount * FLOAT_BYTES, amount)
                        amount = size * size
                        _erase(job[DPRODUCTS] + sums_of * amount * FLOAT_BYTES, amount)
                    _by_matrix(job, s, split, way, head, block, back, q)
                    step = ((way * heads + head) * blocks + block) * FLOAT_BYTES
                    simd.store_float(job[DWHOLE] + step, ZERO)
                    if per_line > 1:
                        whole = _weights(job, s, way, head, block, q, n)
                        _copy(
                            s.h, row_p, job[STATES] + step * state * channels,
                            channels * FLOAT_BYTES, state, channels,
                        )  # fmt: skip
                        if i < per_line - 1:
                            _transposed(s.turned, row_n, s.h, row_p, n, p)
                            multiply(
                                s.dy, row_p, FLOAT_BYTES, s.turned, row_n, s.by_weight, row_n,
                                size, channels, n // LANES, True, 0,
                            )  # fmt: skip
                            _by_weights(
                                job, DC, s.by_weight, s.R, s.reading, s.by_read, split, way, block,
                                n,
                            )  # fmt: skip
                        if i > 0:
                            _transposed(s.turned, row_n, s.dh, row_p, n, p)
                            multiply(
                                s.u, row_p, FLOAT_BYTES, s.turned, row_n, s.by_weight, row_n, size,
                                channels, n // LANES, True, 0,
                            )  # fmt: skip
                            _by_weights(
                                job, DB, s.by_weight, s.W, s.writing, s.by_write, split, way,
                                block, n,
                            )  # fmt: skip
                            multiply(
                                s.W, row_n, FLOAT_BYTES, s.dh, row_p, s.y, row_p, size, state,
                                vectors, False, 0,
                            )  # fmt: skip
                        sums = simd.zeros()
                        for m in range(state):
                            for j in range(vectors):
                                here = m * row_p + j * VECTOR_BYTES
                                sums = simd.fused(
                                    simd.load(s.h + here), simd.load(s.dh + here), sums
                                )
                        sums = simd.product(sums, whole)
                        for t in range(size):
                            sums = simd.total(sums, simd.load(s.by_write + t * VECTOR_BYTES))
                        simd.store(s.most, sums)
                        by_whole = ZERO
                        for lane in range(LANES):
                            by_whole += simd.load_float(s.most + lane * FLOAT_BYTES)
                        simd.store_float(job[DWHOLE] + step, by_whole)
                        _scale(s.dh, row_p, state, vectors, whole)
                        multiply(
                            s.R, FLOAT_BYTES, row_n, s.dy, row_p, s.dh, row_p, state, size, vectors,
                            False, 0,
                        )  # fmt: skip
                    for j in range(0, size, LANES):
                        part = min(LANES, size - j)
                        by_read = simd.sums_of_vectors(s.by_read + j * VECTOR_BYTES)
                        by_write = simd.sums_of_vectors(s.by_write + j * VECTOR_BYTES)
                        by_write = simd.total(by_write, simd.load(s.by_column + j * FLOAT_BYTES))
                        to = step * size + j * FLOAT_BYTES
                        simd.store_part(job[DREAD] + to, by_read, part)
                        simd.store_part(
                            job[DWRITE] + to, simd.difference(simd.zeros(), by_write), part
                        )
                    _copy(job[DU] + at, row, s.y, row_p, size, channels)


def _exponents(job, task, scratch):
    """Sum exponents along the blocks of one way: from Z and DRIVE to READ, WRITE and WHOLE."""
    size, rows, back = job[SIZE], job[HEADS] * job[BLOCKS], job[BACKWARDS + task]
    for row in range(task * rows, (task + 1) * rows):
        since = np.float64(0.0)
        for i in range(size):
            at = (row * size + (size - 1 - i if back else i)) * FLOAT_BYTES
            z, drive = simd.load_float(job[Z] + at), simd.load_float(job[DRIVE] + at)
            since += z
            read = since - z / 2 if job[CENTRED] else since
            simd.store_float(job[READ] + at, np.float32(read))
            simd.store_float(job[WRITE] + at, np.float32(read - math.log(max(drive, LEAST_DRIVE))))
        simd.store_float(job[WHOLE] + row * FLOAT_BYTES, np.float32(since))


def _exponents_back(job, task, scratch):
    """From DREAD, DWRITE and DWHOLE to the gradients by Z and DRIVE, DZ and DDRIVE."""
    size, rows, back = job[SIZE], job[HEADS] * job[BLOCKS], job[BACKWARDS + task]
    for row in range(task * rows, (task + 1) * rows):
        by_since = np.float64(simd.load_float(job[DWHOLE] + row * FLOAT_BYTES))
        for i in range(size):
            at = (row * size + (i if back else size - 1 - i)) * FLOAT_BYTES
            by_write, drive = simd.load_float(job[DWRITE] + at), simd.load_float(job[DRIVE] + at)
            here = np.float64(simd.load_float(job[DREAD] + at)) + by_write
            by_since += here
            by_z = by_since - here / 2 if job[CENTRED] else by_since
            simd.store_float(job[DZ] + at, np.float32(by_z))
            by_drive = -by_write / drive if drive > LEAST_DRIVE else ZERO
            simd.store_float(job[DDRIVE] + at, np.float32(by_drive))


PASSES = {
    "forward": _forward,
    "backward": _backward,
    "exponents": _exponents,
    "exponents_back": _exponents_back,
}
