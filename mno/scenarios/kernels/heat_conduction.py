"""Heat conduction in a square of many materials, in time: an L-stable method with multigrid.

    rho c T_t = div(kappa grad T) + q,      -kappa dT/dn = h_c (T - T_amb) at the wall

Glossary, all per metre of depth; `h` is the width of a cell
    theta       temperature above the ambient one, K
    trans_x     conductance of the face between cells (i, j) and (i+1, j), stored at (i, j), W/(m K)
    trans_y     the same between (i, j) and (i, j+1); the outer ones lead to the ambient
    storage     rho c h^2 over the length of a stage: heat a cell takes up per kelvin, W/(m K)
    heating     q h^2, W/m
    change      solution of a stage: what theta changes by, K
    inverse     one over the diagonal of a stage's matrix, the sum of storage and conductances

A step has two stages of gamma = 1 - 1/sqrt(2) of its length, which share one matrix: the singly
diagonally implicit Runge-Kutta method of second order that is L-stable (Alexander 1977,
doi:10.1137/0714068). It overshoots by up to a fifth where a step meets a jump, of the power or of
the initial state; so each interval begins with two stages of implicit Euler, which has the same
matrix and does not (Rannacher 1984, doi:10.1007/BF01390130).

A stage is solved by conjugate gradients in float64 (`multigrid.py`, which says how arrays are laid
out), preconditioned by a symmetric V cycle in float32: two sweeps of damped Jacobi before and after
on the finest level, four on the others.
"""

from collections.abc import Callable

import numpy as np
from scipy.sparse import csc_matrix, diags_array

from mno.core.compiled import compiled, inlined
from mno.scenarios.kernels import multigrid
from mno.scenarios.linear import LinearSystem, factorise

GAMMA = 1.0 - np.sqrt(0.5)  # share of a step that a stage is long
_STARTING = 2  # stages of implicit Euler with which an interval begins
_DAMPING = np.float32(0.8)  # of Jacobi's method, the best value for five points in the plane


@inlined
def _discretise(conductivity, film, trans):
    """Harmonic means between cells; to the ambient, half a cell and the film in series."""
    multigrid.harmonic_means(conductivity, trans)
    n = conductivity.shape[0]
    for j in range(n):
        trans[0, j + 1] = 1.0 / (0.5 / conductivity[0, j] + 1.0 / film)
        trans[n, j + 1] = 1.0 / (0.5 / conductivity[n - 1, j] + 1.0 / film)


@inlined
def _begin(rhs, inverse, size, out):
    """One sweep of damped Jacobi from zero into `out`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            out[i, j] = _DAMPING * inverse[i, j] * rhs[i, j]


@inlined
def _smooth(u, rhs, trans_x, trans_y, inverse, size, out):
    """One sweep of damped Jacobi from `u` into `out`."""
    for i in range(1, size + 1):
        for j in range(1, size + 1):
            total = rhs[i, j] + trans_x[i - 1, j] * u[i - 1, j] + trans_x[i, j] * u[i + 1, j]
            total += trans_y[i, j - 1] * u[i, j - 1] + trans_y[i, j] * u[i, j + 1]
            out[i, j] = u[i, j] + _DAMPING * (total * inverse[i, j] - u[i, j])


@inlined
def _v_cycle(trans_x, trans_y, storage, inverse, rhs, u, other, sizes, tops):
    """One V cycle on the finest level of `rhs`, from zero, into that of `u`; `other` is scratch."""
    last = sizes.size - 1
    for level in range(last):
        at, n = tops[level], sizes[level]
        t_x, t_y, inv = trans_x[at:], trans_y[at:], inverse[at:]
        b, v, w = rhs[at:], u[at:], other[at:]
        _begin(b, inv, n, w)
        for _ in range(min(level, 1)):
            _smooth(w, b, t_x, t_y, inv, n, v)
            _smooth(v, b, t_x, t_y, inv, n, w)
        _smooth(w, b, t_x, t_y, inv, n, v)
        multigrid.left_over(v, b, t_x, t_y, storage[at:], n, w)
        multigrid.restrict(w, rhs[tops[level + 1] :], sizes[level + 1])
    at = tops[last]
    u[at + 1, 1] = inverse[at + 1, 1] * rhs[at + 1, 1]
    for level in range(last - 1, -1, -1):
        at, n = tops[level], sizes[level]
        t_x, t_y, inv = trans_x[at:], trans_y[at:], inverse[at:]
        b, v, w = rhs[at:], u[at:], other[at:]
        multigrid.prolong(u[tops[level + 1] :], v, n)
        for _ in range(min(level, 1) + 1):
            _smooth(v, b, t_x, t_y, inv, n, w)
            _smooth(w, b, t_x, t_y, inv, n, v)


_iterate = multigrid.conjugate_gradients(_v_cycle, "iterate_stage")


@inlined
def _solve_stage(change, fine, single, columns, sizes, tops, tolerance, max_iterations):
    """Conjugate gradients for a stage, from the guess in `change`.

    `fine` holds conductances, storage, the right side (which becomes the residual) and scratch;
    `single` what `_v_cycle` takes. Returns the number of iterations and the norm of the residual
    over that of the right side.
    """
    trans_x, trans_y, storage = fine[0], fine[1], fine[2]
    residual, direction, flux = fine[3], fine[4], fine[5]
    n = sizes[0]
    start = np.sqrt(multigrid.dot(residual, residual, columns, n))
    if start == 0.0:
        change[:] = 0.0
        return 0, 0.0
    multigrid.left_over(change, residual, trans_x, trans_y, storage, n, flux)
    residual[:] = flux
    relative = np.sqrt(multigrid.dot(residual, residual, columns, n)) / start
    return _iterate(
        change, residual, start, relative, (trans_x, trans_y, storage, direction, flux),
        (single[0], single[1], single[2], single[3], single[4], single[5], single[6]),
        columns, sizes, tops, 1.0 / start,  # at any size, in the range of float32
        tolerance, max_iterations,
    )  # fmt: skip


@inlined
def _loss(theta, trans_x, trans_y, n):
    across = trans_x[0] * theta[1] + trans_x[n] * theta[n]
    return np.sum(across + (trans_y[:, 0] * theta[:, 1] + trans_y[:, n] * theta[:, n]))


@inlined
def _keep(theta, ambient, frame, n):
    """Store a frame and go on from it as it is stored, so that each interval can be checked."""
    for i in range(n):
        for j in range(n):
            frame[i, j] = theta[i + 1, j + 1] + ambient
            theta[i + 1, j + 1] = frame[i, j] - ambient


@compiled
def solve_heat_conduction(
    conductivity, heat_capacity, power, initial, ambient, film, width, interval, steps,
    tolerance, max_iterations, frames,
):  # fmt: skip
    """Integrate from an initial temperature, with a power per interval.

    Args:
        conductivity: Cell values of `kappa`, W/(m K), positive, float64, shape `(n, n)`.
        heat_capacity: Cell values of `rho c`, J/(m3 K), likewise.
        power: The same of `q`, W/m3, in each interval; shape `(frames, n, n)`, the last not used.
        initial: Temperature at the first frame, K, likewise.
        ambient: Temperature around the furnace, K.
        film: `h_c` times the width of a cell, W/(m K), positive.
        width: Of a cell, m.
        interval: Between two frames, s.
        steps: In an interval, after its first two stages.
        tolerance: Norm of a stage's residual over that of its right side at which it is solved.
        max_iterations: Of a stage; if they do not suffice, nothing more is computed.
        frames: Takes the temperature at all frames, K; float32 or float64, shape `(frames, n, n)`.

    Returns:
        Heat stored, supplied and lost in each interval, J per metre of depth, shape `(frames - 1,
        3)`; iterations in all; the relative residual of the last stage, which the caller must
        compare with `tolerance` (it may be NaN).
    """
    n = conductivity.shape[0]
    sizes, tops = multigrid.levels_of(n)
    fine = np.zeros((10, n + 2, n + 2))
    trans_x, trans_y, storage, right = fine[0], fine[1], fine[2], fine[3]
    heating, theta, begin, change = fine[6], fine[7], fine[8], fine[9]
    single, nothing = np.zeros((7, tops[-1] + 3, n + 2), np.float32), fine[0, :0]
    columns = np.zeros(n + 2)

    step = interval / (steps + _STARTING * GAMMA)
    _discretise(conductivity, film, trans_x)
    _discretise(conductivity.T, film, trans_y.T)
    storage[1 : n + 1, 1 : n + 1] = heat_capacity * (width**2 / (GAMMA * step))
    theta[1 : n + 1, 1 : n + 1] = initial - ambient
    single[:3, : n + 2] = fine[:3]
    multigrid.coarsen(single[0], single[1], single[2], single[3], sizes, tops, np.float32(1.0))

    heat = np.zeros((frames.shape[0] - 1, 3))
    total, relative = 0, 0.0
    _keep(theta, ambient, frames[0], n)
    for frame in range(1, frames.shape[0]):
        heating[1 : n + 1, 1 : n + 1] = power[frame - 1] * width**2
        begin[:] = theta
        change[:] = 0.0
        for stage in range(-_STARTING, 2 * steps):
            # Of two stages that make a step the first has the weight 1 - gamma, the second gamma.
            weight = 1.0 - GAMMA if stage >= 0 and stage % 2 == 0 else GAMMA
            multigrid.left_over(theta, heating, trans_x, trans_y, nothing, n, right)
            iterations, relative = _solve_stage(
                change, fine, single, columns, sizes, tops, tolerance, max_iterations
            )
            total += iterations
            if not relative <= tolerance:
                return heat, total, relative
            loss = _loss(theta, trans_x, trans_y, n) + _loss(change, trans_x, trans_y, n)
            heat[frame - 1, 2] += weight * step * loss
            multigrid.add(weight / GAMMA, change, theta, 1.0, n)
        multigrid.add(1.0, theta, begin, -1.0, n)
        heat[frame - 1, 0] = GAMMA * step * multigrid.dot(storage, begin, columns, n)
        heat[frame - 1, 1] = interval * np.sum(heating)
        _keep(theta, ambient, frames[frame], n)
    return heat, total, relative


def stages_of(
    system: LinearSystem, interval: float, steps: int
) -> tuple[Callable[[np.ndarray], np.ndarray], float, list[float]]:
    """Return what solves for a stage's change, how long it lasts, s, and the share each takes."""
    assert system.mass is not None
    lasts = GAMMA * interval / (steps + _STARTING * GAMMA)
    factors = factorise(csc_matrix(system.stiffness + diags_array(system.mass / lasts)))
    return factors.solve, lasts, [1.0] * _STARTING + [1.0 / GAMMA - 1.0, 1.0] * steps


def advance_directly(
    system: LinearSystem, rise: np.ndarray, interval: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Advance states, each by one interval with its own source: the scheme once more.

    It is solved directly, and shares no arithmetic with the compiled solver, so that checks can
    compare with it. The rise above the ambient temperature, K, has shape `(points, states)`; all
    else is as in `solve_heat_conduction`. Returns the later rise, and the heat that each state has
    lost until then, J per metre of depth.
    """
    solve, lasts, shares = stages_of(system, interval, steps)
    source, lost = system.source[: rise.shape[1]].T, np.zeros(rise.shape[1])
    for share in shares:
        change = solve(source - system.stiffness @ rise)
        lost += share * lasts * (system.stiffness @ (rise + change)).sum(axis=0)
        rise = rise + share * change
    return rise, lost
