"""Two reacting and diffusing species on a square in time, by the classical Runge-Kutta method.

    u_t = D_u Laplacian u + u - u^3 - k - v        v_t = D_v Laplacian v + u - v

Glossary
    u, v            activator and inhibitor
    mobility_u      D_u / h^2, in one over the unit of time
    now, stage      the state at the beginning of a step, and that of the current stage
    total           the state at the end of the step, as far as the stages so far have made it

Cells are numbered from 1 to `n` along each axis; ghosts, 0 and `n + 1`, hold their neighbour's
value, so that nothing passes through the wall. A field lies in one line, row after row with its
ghosts; a stage takes these along and has set them before. The two neighbours along an axis are
added first, then the two sums: so the scheme has all symmetries of the square to the last bit. All
kernels are in this file, because numba's cache notices changes in one file only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Length of a step times a rate: the largest there may be, and the largest that the state has.
STABLE = 2.77  # beyond 2.785 the method is unstable
ACCURATE = 0.7
BLOCK = 1024  # cells that a stage takes at a time

# No flag that lets sums be reordered or contracted: bits must not depend on the processor.
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "ninf", "nsz"})


@_compiled
def _mirror(field, n):
    """Let the ghosts hold the values next to the wall."""
    width = n + 2
    for row in range(1, n + 1):
        field[row * width] = field[row * width + 1]
        field[row * width + n + 1] = field[row * width + n]
    field[:width] = field[width : 2 * width]
    field[(n + 1) * width :] = field[n * width : (n + 1) * width]


@_compiled
def _rate_u(a, up, down, left, right, b, mobility, offset, rate):
    for k in range(len(rate)):
        around = (up[k] + down[k]) + (left[k] + right[k])
        rate[k] = mobility * (around - 4.0 * a[k]) + (a[k] - a[k] * a[k] * a[k] - offset - b[k])


@_compiled
def _rate_v(b, up, down, left, right, a, mobility, rate):
    for k in range(len(rate)):
        around = (up[k] + down[k]) + (left[k] + right[k])
        rate[k] = mobility * (around - 4.0 * b[k]) + (a[k] - b[k])


@_compiled
def _advance(before, length, rate, after):
    for k in range(len(rate)):
        after[k] = before[k] + length * rate[k]


@_compiled
def _stage(
    u, v, now_u, now_v, next_u, next_v, before_u, before_v, total_u, total_v,
    mobility_u, mobility_v, offset, advance, weight, rates, n,
):  # fmt: skip
    """Set `next = now + advance * rate(stage)` and `total = before + weight * rate(stage)`."""
    width = n + 2
    _mirror(u, n)
    _mirror(v, n)
    last = (n + 1) * width - 1
    for start in range(width + 1, last, BLOCK):
        stop = min(start + BLOCK, last)
        a, b, rate = u[start:stop], v[start:stop], rates[: stop - start]
        # Loops of few arrays: the compiler vectorises where it can tell these apart.
        _rate_u(
            a, u[start - width : stop - width], u[start + width : stop + width],
            u[start - 1 : stop - 1], u[start + 1 : stop + 1], b, mobility_u, offset, rate,
        )  # fmt: skip
        _advance(now_u[start:stop], advance, rate, next_u[start:stop])
        _advance(before_u[start:stop], weight, rate, total_u[start:stop])
        _rate_v(
            b, v[start - width : stop - width], v[start + width : stop + width],
            v[start - 1 : stop - 1], v[start + 1 : stop + 1], a, mobility_v, rate,
        )  # fmt: skip
        _advance(now_v[start:stop], advance, rate, next_v[start:stop])
        _advance(before_v[start:stop], weight, rate, total_v[start:stop])


@_compiled
def _largest(field, n):
    """Return the largest absolute value; ghosts only repeat what is beside them."""
    largest = 0.0
    for k in range(len(field)):
        largest = max(largest, abs(field[k]))
    return largest


@_compiled
def _largest_spread(field, mobility, row, n):
    """Return how fast diffusion changes a value at most; `row` is scratch memory."""
    width = n + 2
    row[:n] = 0.0
    for i in range(1, n + 1):
        start = i * width + 1
        here, left, right = field[start : start + n], field[start - 1 :], field[start + 1 :]
        up, down = field[start - width :], field[start + width :]
        for j in range(n):
            around = (up[j] + down[j]) + (left[j] + right[j])
            row[j] = max(row[j], abs(mobility * (around - 4.0 * here[j])))
    return _largest(row[:n], n)


@_compiled
def _steps(u, v, mobility_u, mobility_v, interval, fineness, row, n):
    """Return the number of steps in an interval that begins with this state."""
    u_max, v_max = _largest(u, n), _largest(v, n)
    reaction = 3.0 * u_max**2 + 2.0
    possible = max(8.0 * mobility_u + reaction, 8.0 * mobility_v + 2.0)
    actual = reaction
    if u_max > 0.0:
        actual = max(actual, _largest_spread(u, mobility_u, row, n) / u_max + reaction)
    if v_max > 0.0:
        actual = max(actual, _largest_spread(v, mobility_v, row, n) / v_max + reaction)
    rate = max(possible / STABLE, actual / ACCURATE)
    return max(1, int(np.ceil(fineness * interval * rate)))


@_compiled
def _keep(field, frame, n):
    """Store a frame and go on from it as it is stored, so that each interval can be checked."""
    for i in range(n):
        start = (i + 1) * (n + 2) + 1
        row = field[start : start + n]
        frame[i] = row
        row[:] = frame[i]
    _mirror(field, n)


@_compiled
def solve_reaction_diffusion(
    activator, inhibitor, mobility_u, mobility_v, offset, interval, fineness, frames_u, frames_v
):
    """Integrate from an initial state, five-point finite volumes without flux through the wall.

    Between two frames all steps are equal. With a fineness of one there are as many as keep a step
    times the largest rate of the linearised equations below 2.77, which is stable, and a step times
    the rate at which the first of the two frames does change below 0.7. The former is, by
    Gershgorin, the larger of `8 D_u / h^2 + 3 max u^2 + 2` and `8 D_v / h^2 + 2`, the latter
    `max |D Laplacian w| / max |w| + 3 max u^2 + 2`. So a state with short waves is followed while
    they decay, and a smooth one in steps as long as can be.

    Args:
        activator: Cell values of `u` at the beginning, finite, float64, C order, shape `(n, n)`.
        inhibitor: The same of `v`.
        mobility_u: `D_u / h^2`, in one over the unit of time.
        mobility_v: The same for `v`.
        offset: `k`.
        interval: Time between two frames.
        fineness: Factor by which steps are shorter than that; 1, or more.
        frames_u: Takes `u` at all frames, the first one being the initial state; float32 or
            float64, shape `(frames, n, n)`.
        frames_v: The same of `v`.
    """
    n = activator.shape[0]
    # One array rather than eight, so that the allocator keeps it between calls.
    block = np.zeros((8, (n + 2) * (n + 2)))
    u, v, first_u, first_v = block[0], block[1], block[2], block[3]
    second_u, second_v, total_u, total_v = block[4], block[5], block[6], block[7]
    rates = np.zeros(max(BLOCK, n))
    for i in range(n):
        start = (i + 1) * (n + 2) + 1
        u[start : start + n] = activator[i]
        v[start : start + n] = inhibitor[i]
    _keep(u, frames_u[0], n)
    _keep(v, frames_v[0], n)
    for frame in range(1, frames_u.shape[0]):
        steps = _steps(u, v, mobility_u, mobility_v, interval, fineness, rates, n)
        dt = interval / steps
        for _ in range(steps):
            _stage(
                u, v, u, v, first_u, first_v, u, v, total_u, total_v,
                mobility_u, mobility_v, offset, 0.5 * dt, dt / 6.0, rates, n,
            )  # fmt: skip
            _stage(
                first_u, first_v, u, v, second_u, second_v, total_u, total_v, total_u, total_v,
                mobility_u, mobility_v, offset, 0.5 * dt, dt / 3.0, rates, n,
            )  # fmt: skip
            _stage(
                second_u, second_v, u, v, first_u, first_v, total_u, total_v, total_u, total_v,
                mobility_u, mobility_v, offset, dt, dt / 3.0, rates, n,
            )  # fmt: skip
            _stage(
                first_u, first_v, u, v, second_u, second_v, total_u, total_v, u, v,
                mobility_u, mobility_v, offset, 0.0, dt / 6.0, rates, n,
            )  # fmt: skip
        _keep(u, frames_u[frame], n)
        _keep(v, frames_v[frame], n)
