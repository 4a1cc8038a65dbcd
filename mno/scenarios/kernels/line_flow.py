"""What carries itself along on a circle: `u_t + (u^2 / 2)_x = l u`, `l` a number for each wave.

`LineFlow` has Fourier coefficients, ETDRK4 and exact products.

Glossary
    u           coefficients from the constant on, up to the cutoff
    slopes      `-pi k / (length points)`: times `i` and the square's coefficients, the nonlinear
                term
    weights     `mno.scenarios.kernels.runge_kutta.etdrk4`
"""

import numpy as np

from mno.core.compiled import compiled, inlined
from mno.scenarios.kernels.runge_kutta import etdrk4
from mno.scenarios.kernels.transforms import line_points, line_square, square_on_line

START = 0.5 ** np.array([6, 6, 5, 4, 3, 2, 1])
"""Parts of the first step from a rough state, whose shortest waves decay at once."""


@inlined
def _term(u, slopes, squaring, out):
    square_on_line(u, squaring, out)
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


class LineFlow:
    """Solutions for the rates `l` of all waves from the constant on, at least two; one thread's."""

    def __init__(self, rates: np.ndarray, length: float = 1.0) -> None:
        cutoff = len(rates) - 1
        self.points = line_points(cutoff)
        self._rates = rates
        self._squaring = line_square(cutoff, self.points)
        self._slopes = -np.pi * np.arange(cutoff + 1) / (self.points * length)
        self._step, self._weights = 0.0, etdrk4(rates, 0.0)
        self._work = np.empty((4, cutoff + 1), np.complex128)

    def advance(self, u: np.ndarray, duration: float, steps: int) -> None:
        """Advance coefficients in time, in place, by equal steps."""
        if duration / steps != self._step:
            self._step = duration / steps
            self._weights = etdrk4(self._rates, self._step)
        _advance(u, self._weights, self._slopes, self._squaring, steps, self._work)


def waves_on_line(values: np.ndarray, cutoff: int) -> np.ndarray:
    """Return the waves up to a cutoff of the trigonometric polynomial through some values.

    Waves of two points and shorter are none of it.
    """
    n = len(values)
    given = np.fft.rfft(values)[: (n + 1) // 2] / n
    waves = np.zeros(cutoff + 1, np.complex128)
    waves[: len(given)] = given[: cutoff + 1]
    return waves


def values_on_line(waves: np.ndarray, points: int) -> np.ndarray:
    """Return the real function of some waves, from the constant on, at equally spaced points."""
    folded = np.zeros((-(-len(waves) // points), points), np.complex128)
    folded.ravel()[: len(waves)] = waves  # those of the same values at the points
    return 2.0 * points * np.fft.ifft(folded.sum(axis=0)).real - waves[0].real
