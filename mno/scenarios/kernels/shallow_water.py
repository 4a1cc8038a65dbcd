"""Shallow water on a square in time, by the MUSCL-Hancock scheme with the HLL flux, compiled.

    h_t + div(h v) = 0        (h v)_t + div(h v v) + h grad h = 0

Gravity is one: under another one the same happens `sqrt(gravity)` times as fast.

Glossary
    h               depth
    c, u, v         speed of waves, `sqrt(h)`, and velocities along x and y: what is reconstructed
    now             c, u, v of all cells
    conserved       h and the momenta `h u`, `h v`, means over cells
    courant         length of a step over width of a cell
    slopes          half slopes of c, u, v along x, then along y, of a row: what a face lies above
                    the centre
    middle          c, u, v of a row's centres half a step later
    flux_x, flux_y  fluxes of h, `h u`, `h v` between two rows, and within one

Reconstructing c rather than the depth makes simple waves linear, since `u - 2c` and `u + 2c` are
their invariants, and takes one square root a cell, not four.

Cells are numbered from 2 to `n + 1` in arrays of `n + 4`; two ghosts on each side hold the value
next to the wall, so that waves leave through it. A step is one sweep over the rows that keeps two
rows of slopes and fluxes: a row is advanced as soon as the fluxes on both of its sides are known,
and by then no other needs what it held. What a mirror or a change of axes swaps is added
first: so the scheme has all symmetries of the square to the last bit. Loops over `j` begin at 0 or
1 and each writes to few arrays: these the compiler vectorises.
"""

import numpy as np
from numba import njit

STEP = 0.45  # of a cell's width, how far the fastest wave runs in a step; two axes allow 0.5
FASTEST = 10.0  # times the largest c at the beginning: what runs faster has failed
_DRY = 1e-200  # keeps what is about to be refused finite

# No flag that lets sums be reordered or contracted: bits must not depend on the processor.
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "ninf", "nsz"})


@_compiled
def _half_slope(before, after):
    """Half of the monotonized central slope (van Leer 1977, doi:10.1016/0021-9991(77)90095-X)."""
    size = min(min(abs(before), abs(after)), 0.25 * abs(before + after))
    return np.copysign(size if before * after > 0.0 else 0.0, before)


@_compiled
def _half_slopes_of_waves(c0, c1, u0, u1):
    """Half slopes of c and u, from those of the invariants `u + 2c` and `u - 2c`, limited."""
    plus = _half_slope(u0 + 2.0 * c0, u1 + 2.0 * c1)
    minus = _half_slope(u0 - 2.0 * c0, u1 - 2.0 * c1)
    return 0.25 * (plus - minus), 0.5 * (plus + minus)


@_compiled
def _reconstruct(now, i, slopes, n):
    c, u, v = now[0], now[1], now[2]
    for j in range(1, n + 3):
        slopes[0, j], slopes[1, j] = _half_slopes_of_waves(
            c[i, j] - c[i - 1, j], c[i + 1, j] - c[i, j],
            u[i, j] - u[i - 1, j], u[i + 1, j] - u[i, j],
        )  # fmt: skip
    for j in range(1, n + 3):
        slopes[3, j], slopes[5, j] = _half_slopes_of_waves(
            c[i, j] - c[i, j - 1], c[i, j + 1] - c[i, j],
            v[i, j] - v[i, j - 1], v[i, j + 1] - v[i, j],
        )  # fmt: skip
    for j in range(1, n + 3):
        slopes[2, j] = _half_slope(v[i, j] - v[i - 1, j], v[i + 1, j] - v[i, j])
        slopes[4, j] = _half_slope(u[i, j] - u[i, j - 1], u[i, j + 1] - u[i, j])


@_compiled
def _predict(now, i, slopes, courant, middle, n):
    """Advance the centres of a row by half a step, with the equations of c, u and v."""
    for j in range(1, n + 3):
        c, u, v = now[0, i, j], now[1, i, j], now[2, i, j]
        c_x, u_x, v_x = slopes[0, j], slopes[1, j], slopes[2, j]
        c_y, u_y, v_y = slopes[3, j], slopes[4, j], slopes[5, j]
        middle[0, j] = c - courant * ((u * c_x + v * c_y) + 0.5 * c * (u_x + v_y))
        middle[1, j] = u - courant * ((u * u_x + v * u_y) + 2.0 * c * c_x)
        middle[2, j] = v - courant * ((u * v_x + v * v_y) + 2.0 * c * c_y)


@_compiled
def _flux(c0, u0, v0, c1, u1, v1):
    """HLL flux of h and the momenta through a face, from the states on its two sides.

    The velocity `u` is that across the face; `v` is carried along from the side that the water
    comes from. Outer waves are as fast as Toro proposes (2001, Shock-capturing methods for
    free-surface shallow flows, chapter 10), with the star region of two rarefactions.
    """
    star_u = 0.5 * (u0 + u1) + (c0 - c1)
    star_c = 0.5 * (c0 + c1) + 0.25 * (u0 - u1)
    lower = min(min(u0 - c0, star_u - star_c), 0.0)
    upper = max(max(u1 + c1, star_u + star_c), 0.0)
    h0, h1 = c0 * c0, c1 * c1
    m0, m1 = h0 * u0, h1 * u1
    p0, p1 = m0 * u0 + 0.5 * h0 * h0, m1 * u1 + 0.5 * h1 * h1
    scale, product = 1.0 / (upper - lower), lower * upper
    mass = ((upper * m0 - lower * m1) + product * (h1 - h0)) * scale
    momentum = ((upper * p0 - lower * p1) + product * (m1 - m0)) * scale
    return mass, momentum, mass * (v0 if mass > 0.0 else v1)


@_compiled
def _fluxes_x(middle0, slopes0, middle1, slopes1, flux, n):
    """Fluxes between two rows, at the n cells of each."""
    for j in range(n):
        k = j + 2
        flux[0, j], flux[1, j], flux[2, j] = _flux(
            middle0[0, k] + slopes0[0, k], middle0[1, k] + slopes0[1, k],
            middle0[2, k] + slopes0[2, k], middle1[0, k] - slopes1[0, k],
            middle1[1, k] - slopes1[1, k], middle1[2, k] - slopes1[2, k],
        )  # fmt: skip


@_compiled
def _fluxes_y(middle, slopes, flux, n):
    """Fluxes within a row, through the n + 1 faces of its n cells."""
    for j in range(n + 1):
        k, after = j + 1, j + 2
        flux[0, j], flux[2, j], flux[1, j] = _flux(
            middle[0, k] + slopes[3, k], middle[2, k] + slopes[5, k],
            middle[1, k] + slopes[4, k], middle[0, after] - slopes[3, after],
            middle[2, after] - slopes[5, after], middle[1, after] - slopes[4, after],
        )  # fmt: skip


@_compiled
def _advance(cells, courant, below, above, beside, n):
    """Let fluxes of one quantity change a row of cells."""
    for j in range(n):
        cells[j] -= courant * ((above[j] - below[j]) + (beside[j + 1] - beside[j]))


@_compiled
def _observe(conserved, now, i, fastest, lowest, n):
    """Set c, u and v of a row; keep the largest speed and the smallest h of every column."""
    h, p, q = conserved[0, i, 2:], conserved[1, i, 2:], conserved[2, i, 2:]
    c, u, v = now[0, i, 2:], now[1, i, 2:], now[2, i, 2:]
    for j in range(n):
        wet = max(h[j], _DRY)
        inverse = 1.0 / wet
        c[j] = np.sqrt(wet)
        u[j] = p[j] * inverse
        v[j] = q[j] * inverse
    for j in range(n):
        fastest[j] = max(fastest[j], max(abs(u[j]), abs(v[j])) + c[j])
        lowest[j] = min(lowest[j], h[j])


@_compiled
def _extend(field, n):
    """Let both rings of ghosts hold the values next to the wall."""
    for i in range(2, n + 2):
        for k in range(2):
            field[i, k] = field[i, 2]
            field[i, n + 2 + k] = field[i, n + 1]
    for j in range(n + 4):
        for k in range(2):
            field[k, j] = field[2, j]
            field[n + 2 + k, j] = field[n + 1, j]


@_compiled
def _step(conserved, now, courant, slopes, middle, flux_x, flux_y, fastest, lowest, n):
    for field in range(3):
        _extend(now[field], n)
    fastest[:] = 0.0
    lowest[:] = np.inf
    for i in range(1, n + 3):
        here, before = i % 2, 1 - i % 2
        _reconstruct(now, i, slopes[here], n)
        _predict(now, i, slopes[here], courant, middle[here], n)
        if i > 1:
            _fluxes_x(middle[before], slopes[before], middle[here], slopes[here], flux_x[before], n)
        if i > 2:
            for field in range(3):
                _advance(
                    conserved[field, i - 1, 2:], courant,
                    flux_x[here, field], flux_x[before, field], flux_y[field], n,
                )  # fmt: skip
            _observe(conserved, now, i - 1, fastest, lowest, n)
        _fluxes_y(middle[here], slopes[here], flux_y, n)


@_compiled
def solve_shallow_water(depth, interval, step, frames):
    """Integrate from water at rest to all frames.

    Steps between two frames are as long as let the fastest wave run at most `step` of a cell:
    `STEP`, or less. `depth` has the cell values of h at the beginning, positive, finite, float64,
    C order, shape `(n, n)`; `interval` is the time between two frames over the width of a cell;
    `frames` takes h from the initial state on, float32 or float64, shape `(frames, n, n)`.

    Returns the number of frames that were reached, less than all if h was no longer positive or a
    wave ran faster than `FASTEST` allows.
    """
    n = depth.shape[0]
    conserved, now = np.zeros((3, n + 4, n + 4)), np.zeros((3, n + 4, n + 4))
    slopes, middle = np.zeros((2, 6, n + 4)), np.zeros((2, 3, n + 4))
    flux_x, flux_y = np.zeros((2, 3, n + 4)), np.zeros((3, n + 4))
    fastest, lowest = np.zeros(n), np.zeros(n)
    conserved[0, 2 : n + 2, 2 : n + 2] = depth
    frames[0] = depth
    for i in range(2, n + 2):
        _observe(conserved, now, i, fastest, lowest, n)
    limit = FASTEST * fastest.max()
    for frame in range(1, frames.shape[0]):
        left, steps = interval, 2.0
        while steps > 1.0:
            steps = max(1.0, np.ceil(left * fastest.max() / step))
            courant = left / steps
            _step(conserved, now, courant, slopes, middle, flux_x, flux_y, fastest, lowest, n)
            left -= courant
            if not (lowest.min() > 0.0 and fastest.max() <= limit):
                return frame
        frames[frame] = conserved[0, 2 : n + 2, 2 : n + 2]
    return frames.shape[0]


def later_depth(depth: np.ndarray, interval: float, step: float) -> np.ndarray:
    """Return the depth after an interval that begins at rest, by the same scheme in plain numpy."""
    conserved = np.stack([depth, np.zeros_like(depth), np.zeros_like(depth)])
    left, steps = interval, 2.0
    while steps > 1.0:
        h, p, q = conserved
        fastest = np.max(np.maximum(np.abs(p / h), np.abs(q / h)) + np.sqrt(h))
        steps = max(1.0, np.ceil(left * fastest / step))
        conserved = _advanced(conserved, left / steps)
        left -= left / steps
    return conserved[0]


def _advanced(conserved: np.ndarray, courant: float) -> np.ndarray:
    """Return h, h u and h v after one step, shape `(3, x, y)`; walls let everything through."""
    h, p, q = np.pad(conserved, np.array([(0, 0), (2, 2), (2, 2)]), mode="edge")
    c, u, v = np.sqrt(h), p / h, q / h
    c_x, u_x, v_x = _slopes(c, u, v)
    c_y, v_y, u_y = (slope.T for slope in _slopes(c.T, v.T, u.T))
    c, u, v = (field[1:-1, 1:-1] for field in (c, u, v))
    half = 0.5 * courant
    c, u, v = (
        c - half * (u * c_x + v * c_y + 0.5 * c * (u_x + v_y)),
        u - half * (u * u_x + v * u_y + 2.0 * c * c_x),
        v - half * (u * v_x + v * v_y + 2.0 * c * c_y),
    )
    mass_x, along_x, across_x = _fluxes((c, u, v), (c_x, u_x, v_x))
    mass_y, along_y, across_y = (flux.T for flux in _fluxes((c.T, v.T, u.T), (c_y.T, v_y.T, u_y.T)))
    gain_x = np.diff([mass_x, along_x, across_x], axis=1)
    gain_y = np.diff([mass_y, across_y, along_y], axis=2)
    return conserved - courant * (gain_x + gain_y)


def _slopes(c: np.ndarray, across: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, ...]:
    """Differences of c and both velocities over a cell, limited in characteristic variables.

    They run along the first axis, which `across` does too; without the outermost ring.
    """
    plus, minus = _limited(across + 2.0 * c), _limited(across - 2.0 * c)
    return (plus - minus) / 4.0, (plus + minus) / 2.0, _limited(along)


def _limited(field: np.ndarray) -> np.ndarray:
    change = np.diff(field[:, 1:-1], axis=0)
    before, after = change[:-1], change[1:]
    smallest = np.min([2.0 * np.abs(before), 2.0 * np.abs(after), np.abs(before + after) / 2], 0)
    return np.where(before * after > 0.0, np.sign(before) * smallest, 0.0)


def _fluxes(centre: tuple[np.ndarray, ...], slopes: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """HLL fluxes through the faces across the first axis; of c and the velocities as above."""
    lower = [(f + s / 2)[:-1, 1:-1] for f, s in zip(centre, slopes, strict=True)]
    upper = [(f - s / 2)[1:, 1:-1] for f, s in zip(centre, slopes, strict=True)]
    (c0, u0, v0), (c1, u1, v1) = lower, upper
    star_u, star_c = (u0 + u1) / 2 + c0 - c1, (c0 + c1) / 2 + (u0 - u1) / 4
    slow = np.min([u0 - c0, star_u - star_c, np.zeros_like(u0)], axis=0)
    fast = np.max([u1 + c1, star_u + star_c, np.zeros_like(u0)], axis=0)
    mass, momentum = (
        (fast * f0 - slow * f1 + slow * fast * (w1 - w0)) / (fast - slow)
        for f0, f1, w0, w1 in (
            (c0**2 * u0, c1**2 * u1, c0**2, c1**2),
            (c0**2 * u0**2 + c0**4 / 2, c1**2 * u1**2 + c1**4 / 2, c0**2 * u0, c1**2 * u1),
        )
    )
    return [mass, momentum, mass * np.where(mass > 0.0, v0, v1)]
