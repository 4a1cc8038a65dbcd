"""The scheme of `shallow_water` a second time, in plain numpy, for checks of what it has solved."""

from __future__ import annotations

import numpy as np


def later_depth(depth: np.ndarray, interval: float, step: float) -> np.ndarray:
    """Return the depth after an interval that begins at rest.

    Args:
        depth: Means over cells, positive, shape `(x, y)`.
        interval: Its length over width of a cell, under a gravity of one.
        step: Bound on how far a wave runs in a step, in widths of a cell.
    """
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
    h, p, q = np.pad(conserved, ((0, 0), (2, 2), (2, 2)), mode="edge")
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
