"""Burgers' equation on a circle in time: Fourier coefficients, ETDRK4, exact products.

    u_t + (u^2 / 2)_x = nu u_xx, of period 1

Glossary
    u           coefficients from the constant on, up to the cutoff
    slopes      `-pi k / points`: times `i` and the square's coefficients, the nonlinear term
    weights     `mno.scenarios.kernels.exponential.etdrk4`
"""

from __future__ import annotations

import numpy as np

from mno.scenarios.kernels.caching import compiled, inlined
from mno.scenarios.kernels.exponential import etdrk4
from mno.scenarios.kernels.line_square import LineSquare, line_points, square_on_line

STEP = 0.25  # length of a step times the rate that `BurgersFlow.advance` speaks of


@inlined
def _term(u, slopes, squaring, out):
    """Set `out` to the nonlinear term of `u`."""
    places, turns, tables, across, block = squaring
    square_on_line(u, places, turns, tables, across, block, out)
    for k in range(u.size):
        out[k] = complex(-slopes[k] * out[k].imag, slopes[k] * out[k].real)


@compiled
def _advance(u, weights, slopes, squaring, steps, work):
    """Take steps of ETDRK4, in place."""
    whole, half, q, first, middle, last = weights
    here, stage, before, after = work
    for _ in range(steps):
        _term(u, slopes, squaring, before)
        for k in range(u.size):
            here[k] = half[k] * u[k] + q[k] * before[k]
        _term(here, slopes, squaring, after)
        for k in range(u.size):
            stage[k] = half[k] * u[k] + q[k] * after[k]
            u[k] = whole[k] * u[k] + first[k] * before[k] + middle[k] * after[k]
        _term(stage, slopes, squaring, after)
        for k in range(u.size):
            stage[k] = half[k] * here[k] + q[k] * (2.0 * after[k] - before[k])
            u[k] += middle[k] * after[k]
        _term(stage, slopes, squaring, after)
        for k in range(u.size):
            u[k] += last[k] * after[k]


class BurgersFlow:
    """Solutions of one viscosity, for one thread.

    Args:
        cutoff: Largest wave number, at least 1.
        viscosity: `nu`.
    """

    def __init__(self, cutoff: int, viscosity: float) -> None:
        waves = np.arange(cutoff + 1)
        self._square = LineSquare(cutoff, line_points(cutoff))
        self._viscosity = viscosity
        self._rates = -viscosity * (2.0 * np.pi * waves) ** 2
        self._slopes = -np.pi * waves / self._square.points
        self._length, self._weights = 0.0, etdrk4(self._rates, 0.0)
        self._work = np.empty((4, cutoff + 1), np.complex128)

    def advance(self, u: np.ndarray, duration: float, step: float = STEP) -> None:
        """Advance coefficients in time, in place.

        All steps are equal. There are as many as keep a step times `speed (speed / nu + 2 pi 32)`
        below `step`: the first is the rate at which the thinnest layer passes, the second that of
        waves of 1/32 of the circle. Shorter waves decay faster than they turn, which the method
        treats exactly.
        """
        points = np.fft.irfft(u, self._square.points) * self._square.points
        speed = np.max(np.abs(points))
        rate = speed * (speed / self._viscosity + 2.0 * np.pi * 32)
        steps = max(1, int(np.ceil(duration * rate / step)))
        if duration / steps != self._length:
            self._length = duration / steps
            self._weights = etdrk4(self._rates, self._length)
        _advance(u, self._weights, self._slopes, self._square.arguments, steps, self._work)
