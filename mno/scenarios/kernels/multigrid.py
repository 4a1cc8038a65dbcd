"""Multigrid-preconditioned conjugate gradients for five-point equations on a square, compiled.

    sum over the faces of a cell of trans (u - u') + storage u = rhs

Glossary
    size        cells along each axis of a level, without the ring of ghost cells around them
    trans_x     transmissibility of the face between cells (i, j) and (i+1, j), stored at (i, j)
    trans_y     the same between (i, j) and (i, j+1); in square cells neither depends on h
    storage     what a cell takes up by itself; an array without elements where it is nothing
    inverse     one over the diagonal of the matrix, the sum of storage and transmissibilities
    rhs, u      right side and approximate solution of a level; ghosts of `u` stay zero
    other       scratch

Cells are numbered from 1 to `size`, ghosts are 0 and `size + 1`. All levels of a quantity lie in
one array, below each other: level `l` begins in row `tops[l]` and uses the first columns; an odd
last row is an aggregate by itself. So there is one memory block, one compiled specialisation, and
no recursion. Loops along `j` touch different cells, which lets them vectorise without reordering
any sum: results do not depend on how wide a vector is.

What is steady (`solve_diffusion`) and what is stored in time (`heat_conduction.py`) have their own
V cycle: one sweep in float64, or several in float32.
"""

import numpy as np

from mno.core.compiled import compiled, inlined, named

SMALLEST = 1e-300  # keeps a guess of zero from a division by zero
DAMPING = 0.8  # of the Jacobi smoother, the best value for five points in two dimensions


@inlined
def levels_of(n):
    """Return sizes and first rows of all levels, from `n` cells along an axis to one."""
    levels, size = 1, n
    while size > 1:
        size = (size + 1) // 2
        levels += 1
    sizes, tops = np.empty(levels, np.int64), np.zeros(levels, np.int64)
    sizes[0] = n
    for level in range(1, levels):
        sizes[level] = (sizes[level - 1] + 1) // 2
        tops[level] = tops[level - 1] + sizes[level - 1] + 2
    return sizes, tops


@inlined
def harmonic_means(values, trans):
    """Set the transmissibilities between cells along the first axis."""
    n = values.shape[0]
    for i in range(n - 1):
        for j in range(n):
            a, b = values[i, j], values[i + 1, j]
            trans[i + 1, j + 1] = 2.0 * a * b / (a + b)


@inlined
def coarsen(trans_x, trans_y, storage, inverse, sizes, tops, outer):
    """Set all levels but the finest, and the inverse diagonals of all.

    Two fine faces under a coarse one conduct half of what they do together, being twice as far
    from the next; those at the wall conduct the share `outer`. Storages add up.
    """
    half, one = inverse.dtype.type(0.5), inverse.dtype.type(1.0)
    for level in range(sizes.size):
        at, size = tops[level], sizes[level]
        t_x, t_y = trans_x[at:], trans_y[at:]
        if level > 0:
            up, fine_size = tops[level - 1], sizes[level - 1]
            fine_x, fine_y = trans_x[up:], trans_y[up:]
            for k in range(size + 1):
                face = min(2 * k, fine_size)
                share = outer if k == 0 or k == size else half
                for j in range(1, size + 1):
                    t_x[k, j] = share * (fine_x[face, 2 * j - 1] + fine_x[face, 2 * j])
                    t_y[j, k] = share * (fine_y[2 * j - 1, face] + fine_y[2 * j, face])
            if storage.size > 0:
                restrict(storage[up:], storage[at:], size)
        for i in range(1, size + 1):
            for j in range(1, size + 1):
                around = t_x[i - 1, j] + t_x[i, j] + t_y[i, j - 1] + t_y[i, j]
                if storage.size > 0:
                    around += storage[at + i, j]
                inverse[at + i, j] = one / around


@inlined
def restrict(fine, coarse, size):
    """Sum the values of four fine cells in each coarse one."""
    for i in range(1, size + 1):
        above, below = fine[2 * i - 1], fine[2 * i]
        for j in range(1, size + 1):
            coarse[i, j] = (above[2 * j - 1] + above[2 * j]) + (below[2 * j - 1] + below[2 * j])


@inlined
def _with_neighbours(own, u, trans_x, trans_y, i, j):
    total = own + trans_x[i - 1, j] * u[i - 1, j] + trans_x[i, j] * u[i + 1, j]
    return total + trans_y[i, j - 1] * u[i, j - 1] + trans_y[i, j] * u[i, j + 1]


@inlined
def _smooth(u, rhs, trans_x, trans_y, inverse, size, out):
    """One sweep of damped Jacobi from `u` into `out`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            total = _with_neighbours(rhs[i, j], u, trans_x, trans_y, i, j)
            out[i, j] = u[i, j] + DAMPING * (total * inverse[i, j] - u[i, j])


@inlined
def _smooth_and_restrict(u, rhs, trans_x, trans_y, inverse, size, out, coarse_rhs, coarse_size):
    """One sweep of damped Jacobi from zero; sum its residual into the coarse cells."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            u[i, j] = DAMPING * inverse[i, j] * rhs[i, j]
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            out[i, j] = _with_neighbours((1.0 - DAMPING) * rhs[i, j], u, trans_x, trans_y, i, j)
    for i in range(1, coarse_size + 1):
        above, below = out[2 * i - 1], out[2 * i]
        for j in range(1, coarse_size + 1):
            total = above[2 * j - 1] + above[2 * j]
            coarse_rhs[i, j] = total + below[2 * j - 1] + below[2 * j]


@inlined
def prolong(coarse, u, size):
    """Add a coarse cell's value to each of its fine cells."""
    for i in range(1, size + 1):
        row = coarse[(i + 1) // 2]
        for j in range(1, (size + 1) // 2 + 1):
            u[i, 2 * j - 1] += row[j]
            u[i, 2 * j] += row[j]
        u[i, size + 1] = 0.0  # an odd row has written into its ghost


@inlined
def _v_cycle(trans_x, trans_y, storage, inverse, rhs, u, other, sizes, tops):
    """One symmetric V(1,1) cycle on `rhs`, from zero, into the finest level of `u`."""
    last = sizes.size - 1
    for level in range(last):
        at, size, below = tops[level], sizes[level], tops[level + 1]
        _smooth_and_restrict(
            other[at:], rhs[at:], trans_x[at:], trans_y[at:], inverse[at:], size, u[at:],
            rhs[below:], sizes[level + 1],
        )  # fmt: skip
    at = tops[last]
    u[at + 1, 1] = inverse[at + 1, 1] * rhs[at + 1, 1]
    for level in range(last - 1, -1, -1):
        at, size = tops[level], sizes[level]
        prolong(u[tops[level + 1] :], other[at:], size)
        _smooth(other[at:], rhs[at:], trans_x[at:], trans_y[at:], inverse[at:], size, u[at:])


@inlined
def _given_away(u, trans_x, trans_y, i, j):
    along_x = trans_x[i - 1, j] * (u[i, j] - u[i - 1, j]) + trans_x[i, j] * (u[i, j] - u[i + 1, j])
    along_x_y = along_x + trans_y[i, j - 1] * (u[i, j] - u[i, j - 1])
    return along_x_y + trans_y[i, j] * (u[i, j] - u[i, j + 1])


@inlined
def outflow(u, trans_x, trans_y, storage, size, out):
    """Set `out` to what each cell gives away and takes up: the matrix times `u`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):  # so few arrays that the compiler can tell them apart
            out[i, j] = _given_away(u, trans_x, trans_y, i, j)
        if storage.size > 0:
            for j in range(1, size + 1):
                out[i, j] += storage[i, j] * u[i, j]


@inlined
def left_over(u, source, trans_x, trans_y, storage, size, out):
    """Set `out` to `source` less that, in this order of rounding: given away, then taken up."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            out[i, j] = source[i, j] - _given_away(u, trans_x, trans_y, i, j)
        if storage.size > 0:
            for j in range(1, size + 1):
                out[i, j] -= storage[i, j] * u[i, j]


@inlined
def add(factor, x, y, scale, size):
    """Replace `y` by `factor * x + scale * y`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            y[i, j] = factor * x[i, j] + scale * y[i, j]


@inlined
def dot(x, y, columns, size):
    """Sum of products, first down the columns, which keeps the order of additions fixed."""
    columns[:] = 0.0
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            columns[j] += x[i, j] * y[i, j]
    total = 0.0
    for j in range(1, size + 1):
        total += columns[j]
    return total


def conjugate_gradients(v_cycle, name):
    """Return a compiled function of that name that improves `u` up to a relative residual.

    It takes `u` and its `residual`; the norm `start` of the right side, and that of the residual
    over it, `relative`; on the finest level, in float64, transmissibilities, storage, and scratch
    for direction and flux (`fine`); what `v_cycle`, the preconditioner, takes besides `sizes` and
    `tops` of the levels (`coarse`); scratch of a row (`columns`); what the residual is multiplied
    by for the preconditioner, or 0 if it is its right side (`scale`). It returns the number of
    iterations, and the relative residual reached, which may be NaN.
    """

    def iterate(
        u, residual, start, relative, fine, coarse, columns, sizes, tops, scale, tolerance,
        max_iterations,
    ):  # fmt: skip
        trans_x, trans_y, storage, direction, flux = fine
        c_x, c_y, c_storage, inverse, rhs, correction, other = coarse
        n, previous, iterations = sizes[0], 1.0, 0
        while relative > tolerance and iterations < max_iterations:
            if scale > 0.0:
                add(scale, residual, rhs, 0.0, n)
            v_cycle(c_x, c_y, c_storage, inverse, rhs, correction, other, sizes, tops)
            overlap = dot(residual, correction, columns, n)
            add(1.0, correction, direction, overlap / previous if iterations > 0 else 0.0, n)
            previous = overlap
            outflow(direction, trans_x, trans_y, storage, n, flux)
            step = overlap / dot(direction, flux, columns, n)
            add(step, direction, u, 1.0, n)
            add(-step, flux, residual, 1.0, n)
            relative = np.sqrt(dot(residual, residual, columns, n)) / start
            iterations += 1
        return iterations, relative

    return inlined(named(iterate, name))


_iterate = conjugate_gradients(_v_cycle, "iterate_steady")


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
        guess: Cell values of which some multiple is like `u`, to start from; zero if not given.
            They change how many iterations it takes, not where it ends.

    Returns:
        Cell values of `u`, shape `(n, n)`; the number of iterations; the relative residual
        reached, which the caller must compare with `tolerance` (it may be NaN).
    """
    is_guessed, first = guess is not None, permeability if guess is None else guess
    is_channel, value = inlet is not None, float(inlet or 0.0)
    return _solve(
        permeability, source, tolerance, max_iterations, is_channel, value, is_guessed, first
    )


@compiled
def _solve(
    permeability, source, tolerance, max_iterations, is_channel, inlet, is_guessed, guess
):  # fmt: skip
    n = permeability.shape[0]
    sizes, tops = levels_of(n)
    rows = tops[-1] + 3
    # One block rather than ten: the allocator then keeps it between calls, and the operating
    # system need not hand out fresh pages each time.
    block = np.zeros((6 * rows + 2 * (n + 2) + 1, n + 2))
    trans_x, trans_y, inverse = block[:rows], block[rows : 2 * rows], block[2 * rows : 3 * rows]
    other, residual = block[3 * rows : 4 * rows], block[4 * rows : 5 * rows]
    correction, rest = block[5 * rows : 6 * rows], block[6 * rows :]
    u, direction, columns = rest[: n + 2], rest[n + 2 : 2 * (n + 2)], rest[2 * (n + 2)]
    flux, nothing = correction, block[:0]  # one after the other in the same memory

    # Harmonic means between cells; at a wall half a cell away, twice the cell's value.
    harmonic_means(permeability, trans_x)
    harmonic_means(permeability.T, trans_y.T)
    beside = 0.0 if is_channel else 2.0
    for k in range(n):
        trans_x[0, k + 1] = 2.0 * permeability[0, k]
        trans_x[n, k + 1] = 2.0 * permeability[n - 1, k]
        trans_y[k + 1, 0] = beside * permeability[k, 0]
        trans_y[k + 1, n] = beside * permeability[k, n - 1]
    coarsen(trans_x, trans_y, nothing, inverse, sizes, tops, 0.5)

    for i in range(n):
        for j in range(n):
            residual[i + 1, j + 1] = source[i, j] / (n * n)
    for j in range(1, n + 1):
        residual[1, j] += trans_x[0, j] * inlet
    start, relative = np.sqrt(dot(residual, residual, columns, n)), 1.0
    if is_guessed:
        u[1 : n + 1, 1 : n + 1] = guess
        outflow(u, trans_x, trans_y, nothing, n, flux)
        # The multiple of the guess that is nearest to the solution in the energy norm: where a
        # guess has the right form and a wrong size, it saves what one of the right size would.
        factor = dot(u, residual, columns, n) / max(dot(u, flux, columns, n), SMALLEST)
        add(0.0, u, u, factor, n)
        add(-factor, flux, residual, 1.0, n)
        relative = np.sqrt(dot(residual, residual, columns, n)) / start
    iterations, relative = _iterate(
        u, residual, start, relative, (trans_x, trans_y, nothing, direction, flux),
        (trans_x, trans_y, nothing, inverse, residual, correction, other),
        columns, sizes, tops, 0.0, tolerance, max_iterations,
    )  # fmt: skip
    return u[1 : n + 1, 1 : n + 1].copy(), iterations, relative
