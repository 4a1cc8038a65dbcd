"""Two reacting and diffusing species on a square in time, by the classical Runge-Kutta method.

    u_t = D_u Laplacian u + u - u^3 - k - v        v_t = D_v Laplacian v + u - v

Glossary
    u, v            activator and inhibitor
    mobility_u      D_u / h^2, in one over the unit of time
    now, stage      the state at the beginning of a step, and that of the current stage
    total           the state at the end of the step, as far as the stages so far have made it

Cells are numbered from 1 to `n`; ghosts, 0 and `n + 1`, hold their neighbour's value, so that
nothing passes through the wall. The two neighbours along an axis are added first, then the two
sums: so the scheme has all symmetries of the square to the last bit. Each stage is one pass over
the cells. All kernels are in this file, because numba's cache notices changes in one file only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

STEP = 1.0  # length of a step times the largest rate; beyond 2.78 the method is unstable

# No flag that lets sums be reordered or contracted: bits must not depend on the processor.
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "ninf", "nsz"})


@_compiled
def _mirror(field, n):
    """Let the ghosts hold the values next to the wall."""
    for k in range(1, n + 1):
        field[0, k] = field[1, k]
        field[n + 1, k] = field[n, k]
        field[k, 0] = field[k, 1]
        field[k, n + 1] = field[k, n]


@_compiled
def _rate_u(u, v, i, mobility, offset, rate, n):
    for j in range(1, n + 1):
        a = u[i, j]
        around = (u[i - 1, j] + u[i + 1, j]) + (u[i, j - 1] + u[i, j + 1])
        rate[j] = mobility * (around - 4.0 * a) + (a - a * a * a - offset - v[i, j])


@_compiled
def _rate_v(u, v, i, mobility, rate, n):
    for j in range(1, n + 1):
        b = v[i, j]
        around = (v[i - 1, j] + v[i + 1, j]) + (v[i, j - 1] + v[i, j + 1])
        rate[j] = mobility * (around - 4.0 * b) + (u[i, j] - b)


@_compiled
def _advance(start, i, length, rate, end, n):
    for j in range(1, n + 1):
        end[i, j] = start[i, j] + length * rate[j]


@_compiled
def _stage(
    u, v, now_u, now_v, next_u, next_v, before_u, before_v, total_u, total_v,
    mobility_u, mobility_v, offset, advance, weight, rate, n,
):  # fmt: skip
    """Set `next = now + advance * rate(stage)` and `total = before + weight * rate(stage)`."""
    for i in range(1, n + 1):
        # Loops of few arrays: the compiler vectorises where it can tell these apart.
        _rate_u(u, v, i, mobility_u, offset, rate, n)
        _advance(now_u, i, advance, rate, next_u, n)
        _advance(before_u, i, weight, rate, total_u, n)
        _rate_v(u, v, i, mobility_v, rate, n)
        _advance(now_v, i, advance, rate, next_v, n)
        _advance(before_v, i, weight, rate, total_v, n)


@_compiled
def _largest(field, n):
    largest = 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            largest = max(largest, abs(field[i, j]))
    return largest


@_compiled
def _keep(u, frame, n):
    """Store a frame and go on from it as it is stored, so that each interval can be checked."""
    for i in range(n):
        for j in range(n):
            frame[i, j] = u[i + 1, j + 1]
            u[i + 1, j + 1] = frame[i, j]


@_compiled
def solve_reaction_diffusion(
    activator, inhibitor, mobility_u, mobility_v, offset, interval, step, frames_u, frames_v
):
    """Integrate from an initial state, five-point finite volumes without flux through the wall.

    Between two frames all steps are equal. There are as many as keep a step times the largest rate
    below `step`: that of the linearised equations, `8 D / h^2 + 3 max u^2 + 2`, at the first of
    the two.

    Args:
        activator: Cell values of `u` at the beginning, finite, float64, C order, shape `(n, n)`.
        inhibitor: The same of `v`.
        mobility_u: `D_u / h^2`, in one over the unit of time.
        mobility_v: The same for `v`.
        offset: `k`.
        interval: Time between two frames.
        step: Bound on a step, in units of one over the largest rate; `STEP`, or less.
        frames_u: Takes `u` at all frames, the first one being the initial state; float32 or
            float64, shape `(frames, n, n)`.
        frames_v: The same of `v`.
    """
    n = activator.shape[0]
    # One array rather than eight, so that the allocator keeps it between calls.
    block = np.zeros((8, n + 2, n + 2))
    u, v, first_u, first_v = block[0], block[1], block[2], block[3]
    second_u, second_v, total_u, total_v = block[4], block[5], block[6], block[7]
    rates = np.zeros(n + 2)
    u[1 : n + 1, 1 : n + 1] = activator
    v[1 : n + 1, 1 : n + 1] = inhibitor
    _keep(u, frames_u[0], n)
    _keep(v, frames_v[0], n)
    for frame in range(1, frames_u.shape[0]):
        rate = 8.0 * max(mobility_u, mobility_v) + 3.0 * _largest(u, n) ** 2 + 2.0
        steps = max(1, int(np.ceil(interval * rate / step)))
        dt = interval / steps
        for _ in range(steps):
            _mirror(u, n)
            _mirror(v, n)
            _stage(
                u, v, u, v, first_u, first_v, u, v, total_u, total_v,
                mobility_u, mobility_v, offset, 0.5 * dt, dt / 6.0, rates, n,
            )  # fmt: skip
            _mirror(first_u, n)
            _mirror(first_v, n)
            _stage(
                first_u, first_v, u, v, second_u, second_v, total_u, total_v, total_u, total_v,
                mobility_u, mobility_v, offset, 0.5 * dt, dt / 3.0, rates, n,
            )  # fmt: skip
            _mirror(second_u, n)
            _mirror(second_v, n)
            _stage(
                second_u, second_v, u, v, first_u, first_v, total_u, total_v, total_u, total_v,
                mobility_u, mobility_v, offset, dt, dt / 3.0, rates, n,
            )  # fmt: skip
            _mirror(first_u, n)
            _mirror(first_v, n)
            _stage(
                first_u, first_v, u, v, second_u, second_v, total_u, total_v, u, v,
                mobility_u, mobility_v, offset, 0.0, dt / 6.0, rates, n,
            )  # fmt: skip
        _keep(u, frames_u[frame], n)
        _keep(v, frames_v[frame], n)
