"""Multigrid-preconditioned conjugate gradients for `-div(a grad u) = f` on a square, compiled.

Glossary
    size        cells along each axis of a level, without the ring of ghost cells around them
    trans_x     transmissibility of the face between cells (i, j) and (i+1, j), stored at (i, j)
    trans_y     the same between (i, j) and (i, j+1); in square cells neither depends on h
    inverse     one over the diagonal of the matrix, the sum of a cell's four transmissibilities
    rhs, u      right side and approximate solution of a level; ghosts of `u` stay zero
    out         the level's solution after smoothing, its residual before

Cells are numbered from 1 to `size`, ghosts are 0 and `size + 1`. All levels of a quantity lie in
one array, below each other: level `l` begins in row `tops[l]` and uses the first columns. So there
is one memory block, one compiled specialisation, and no recursion. Loops along `j` touch different
cells, which lets them vectorise without reordering any sum: results do not depend on how wide a
vector is. All kernels are in this file, because numba's cache notices changes in one file only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SMALLEST = 1e-300  # keeps a guess of zero from a division by zero
DAMPING = 0.8  # of the Jacobi smoother, the best value for five points in two dimensions

# IEEE division: a zero in the permeability gives inf, then no convergence, instead of an exception.
_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _discretise(permeability, is_channel, trans_x, trans_y):
    """Harmonic means between cells; at a wall half a cell away, twice the cell's value."""
    n = permeability.shape[0]
    beside = 0.0 if is_channel else 2.0
    for k in range(n):
        trans_x[0, k + 1] = 2.0 * permeability[0, k]
        trans_x[n, k + 1] = 2.0 * permeability[n - 1, k]
        trans_y[k + 1, 0] = beside * permeability[k, 0]
        trans_y[k + 1, n] = beside * permeability[k, n - 1]
    for i in range(n - 1):
        for j in range(n):
            a, b = permeability[i, j], permeability[i + 1, j]
            trans_x[i + 1, j + 1] = 2.0 * a * b / (a + b)
    for i in range(n):
        for j in range(n - 1):
            a, b = permeability[i, j], permeability[i, j + 1]
            trans_y[i + 1, j + 1] = 2.0 * a * b / (a + b)


@_compiled
def _coarsen(trans_x, trans_y, coarse_x, coarse_y, fine_size, size):
    """Mean of the two fine faces under a coarse one; an odd last row is an aggregate by itself."""
    for k in range(size + 1):
        face = min(2 * k, fine_size)
        for j in range(1, size + 1):
            coarse_x[k, j] = 0.5 * (trans_x[face, 2 * j - 1] + trans_x[face, 2 * j])
            coarse_y[j, k] = 0.5 * (trans_y[2 * j - 1, face] + trans_y[2 * j, face])


@_compiled
def _invert_diagonal(trans_x, trans_y, inverse, size):
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            diagonal = trans_x[i - 1, j] + trans_x[i, j] + trans_y[i, j - 1] + trans_y[i, j]
            inverse[i, j] = 1.0 / diagonal


@_compiled
def _smooth(u, rhs, trans_x, trans_y, inverse, size, out):
    """One sweep of damped Jacobi from `u` into `out`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            total = (
                rhs[i, j]
                + trans_x[i - 1, j] * u[i - 1, j]
                + trans_x[i, j] * u[i + 1, j]
                + trans_y[i, j - 1] * u[i, j - 1]
                + trans_y[i, j] * u[i, j + 1]
            )
            out[i, j] = u[i, j] + DAMPING * (total * inverse[i, j] - u[i, j])


@_compiled
def _smooth_and_restrict(u, rhs, trans_x, trans_y, inverse, size, out, coarse_rhs, coarse_size):
    """One sweep of damped Jacobi from zero; sum its residual into the coarse cells."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            u[i, j] = DAMPING * inverse[i, j] * rhs[i, j]
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            out[i, j] = (
                (1.0 - DAMPING) * rhs[i, j]
                + trans_x[i - 1, j] * u[i - 1, j]
                + trans_x[i, j] * u[i + 1, j]
                + trans_y[i, j - 1] * u[i, j - 1]
                + trans_y[i, j] * u[i, j + 1]
            )
    for i in range(1, coarse_size + 1):
        for j in range(1, coarse_size + 1):
            coarse_rhs[i, j] = (
                out[2 * i - 1, 2 * j - 1]
                + out[2 * i - 1, 2 * j]
                + out[2 * i, 2 * j - 1]
                + out[2 * i, 2 * j]
            )


@_compiled
def _prolong(coarse, u, size):
    """Add a coarse cell's value to each of its fine cells."""
    for i in range(1, size + 1):
        row = coarse[(i + 1) // 2]
        for j in range(1, (size + 1) // 2 + 1):
            u[i, 2 * j - 1] += row[j]
            u[i, 2 * j] += row[j]
        u[i, size + 1] = 0.0  # an odd row has written into its ghost


@_compiled
def _v_cycle(u, rhs, trans_x, trans_y, inverse, out, sizes, tops):
    """One symmetric V(1,1) cycle on `rhs`, from zero, down to a single cell.

    The result is the finest level of `out`.
    """
    last = sizes.size - 1
    for level in range(last):
        at, size = tops[level], sizes[level]
        _smooth_and_restrict(
            u[at:],
            rhs[at:],
            trans_x[at:],
            trans_y[at:],
            inverse[at:],
            size,
            out[at:],
            rhs[tops[level + 1] :],
            sizes[level + 1],
        )
    at = tops[last]
    out[at + 1, 1] = inverse[at + 1, 1] * rhs[at + 1, 1]
    for level in range(last - 1, -1, -1):
        at, size = tops[level], sizes[level]
        _prolong(out[tops[level + 1] :], u[at:], size)
        _smooth(u[at:], rhs[at:], trans_x[at:], trans_y[at:], inverse[at:], size, out[at:])


@_compiled
def _apply(u, trans_x, trans_y, out, size):
    """Net flux out of each cell, the matrix times `u`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            out[i, j] = (
                trans_x[i - 1, j] * (u[i, j] - u[i - 1, j])
                + trans_x[i, j] * (u[i, j] - u[i + 1, j])
                + trans_y[i, j - 1] * (u[i, j] - u[i, j - 1])
                + trans_y[i, j] * (u[i, j] - u[i, j + 1])
            )


@_compiled
def _add(factor, x, y, scale, size):
    """Replace `y` by `factor * x + scale * y`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            y[i, j] = factor * x[i, j] + scale * y[i, j]


@_compiled
def _dot(x, y, columns, size):
    """Sum of products, first down the columns, which keeps the order of additions fixed."""
    columns[:] = 0.0
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            columns[j] += x[i, j] * y[i, j]
    total = 0.0
    for j in range(1, size + 1):
        total += columns[j]
    return total


def solve_diffusion(permeability, source, tolerance, max_iterations, inlet=None, guess=None):
    """Solve `-div(a grad u) = f` on the unit square with `u = 0` on its wall, or in a channel.

    Five-point finite volumes on a cell-centred grid; conjugate gradients preconditioned with one
    V(1,1) multigrid cycle (piecewise constant transfer, coarse transmissibilities by averaging).

    Args:
        permeability: Cell values of `a`, positive, float64, C order, shape `(n, n)`.
        source: Cell values of `f`, likewise.
        tolerance: Norm of the residual over that of the right side at which the iteration ends.
        max_iterations: Iterations after which it ends in any case.
        inlet: None, or `u` on the side where x is 0; then `u = 0` on the side across, and nothing
            passes through the other two.
        guess: Cell values of which some multiple is like `u`, to start from, like `permeability`;
            zero if not given. They change how many iterations it takes, not where it ends.

    Returns:
        Cell values of `u`, shape `(n, n)`; the number of iterations; the relative residual
        reached, which the caller must compare with `tolerance` (it may be NaN).
    """
    is_channel, value = inlet is not None, float(inlet or 0.0)
    is_guessed, first = guess is not None, permeability if guess is None else guess
    return _solve(
        permeability, source, tolerance, max_iterations, is_channel, value, is_guessed, first
    )


@_compiled
def _solve(
    permeability, source, tolerance, max_iterations, is_channel, inlet, is_guessed, guess
):  # fmt: skip
    n = permeability.shape[0]
    levels = 1
    size = n
    while size > 1:
        size = (size + 1) // 2
        levels += 1
    sizes = np.empty(levels, np.int64)
    tops = np.empty(levels, np.int64)
    rows = 0
    size = n
    for level in range(levels):
        sizes[level] = size
        tops[level] = rows
        rows += size + 2
        size = (size + 1) // 2

    # One block rather than ten: the allocator then keeps it between calls, and the operating
    # system need not hand out fresh pages each time.
    block = np.zeros((6 * rows + 2 * (n + 2) + 1, n + 2))
    trans_x = block[:rows]
    trans_y = block[rows : 2 * rows]
    inverse = block[2 * rows : 3 * rows]
    correction = block[3 * rows : 4 * rows]
    residual = block[4 * rows : 5 * rows]
    out = block[5 * rows : 6 * rows]
    u = block[6 * rows : 6 * rows + n + 2]
    direction = block[6 * rows + n + 2 : 6 * rows + 2 * (n + 2)]
    columns = block[6 * rows + 2 * (n + 2)]

    _discretise(permeability, is_channel, trans_x, trans_y)
    for level in range(levels):
        at, size = tops[level], sizes[level]
        if level > 0:
            above, fine = tops[level - 1], sizes[level - 1]
            _coarsen(trans_x[above:], trans_y[above:], trans_x[at:], trans_y[at:], fine, size)
        _invert_diagonal(trans_x[at:], trans_y[at:], inverse[at:], size)

    for i in range(n):
        for j in range(n):
            residual[i + 1, j + 1] = source[i, j] / (n * n)
    for j in range(1, n + 1):
        residual[1, j] += trans_x[0, j] * inlet
    start = np.sqrt(_dot(residual, residual, columns, n))
    relative = 1.0
    if is_guessed:
        u[1 : n + 1, 1 : n + 1] = guess
        _apply(u, trans_x, trans_y, out, n)
        # The multiple of the guess that is nearest to the solution in the energy norm: where a
        # guess has the right form and a wrong size, it saves what one of the right size would.
        factor = _dot(u, residual, columns, n) / max(_dot(u, out, columns, n), SMALLEST)
        _add(0.0, u, u, factor, n)
        _add(-factor, out, residual, 1.0, n)
        relative = np.sqrt(_dot(residual, residual, columns, n)) / start
    previous = 1.0
    iterations = 0
    while relative > tolerance and iterations < max_iterations:
        _v_cycle(correction, residual, trans_x, trans_y, inverse, out, sizes, tops)
        product = _dot(residual, out, columns, n)
        _add(1.0, out, direction, product / previous if iterations > 0 else 0.0, n)
        previous = product
        _apply(direction, trans_x, trans_y, out, n)
        step = product / _dot(direction, out, columns, n)
        _add(step, direction, u, 1.0, n)
        _add(-step, out, residual, 1.0, n)
        relative = np.sqrt(_dot(residual, residual, columns, n)) / start
        iterations += 1
    return u[1 : n + 1, 1 : n + 1].copy(), iterations, relative
