"""The vorticity of a plane flow in time by numpy alone: the kernels' method, stated a second time.

The nonlinear term is `-v . grad omega`, as it stands, and the coefficients of ETDRK4 are contour
integrals (Kassam and Trefethen 2005, doi:10.1137/S1064827502410633).
"""

from __future__ import annotations

import math

import numpy as np

from mno.scenarios.kernels.vorticity import LEG, LIMIT, STEP

_CIRCLE = np.exp(2j * np.pi * (np.arange(32) + 0.5) / 32)


class PlainFlow:
    """Flows of one viscosity and forcing.

    Args:
        cutoff: Largest wave number along either axis.
        points: Along each axis, more than three times the cutoff.
        viscosity: `nu`.
        forcing: Values of `f` at the points, shape `(points, points)`.
    """

    def __init__(self, cutoff: int, points: int, viscosity: float, forcing: np.ndarray) -> None:
        x = np.fft.fftfreq(points, 1.0 / points)[:, None]
        y = np.fft.rfftfreq(points, 1.0 / points)[None, :]
        self._kept = (np.abs(x) <= cutoff) & (np.abs(y) <= cutoff)
        self._squares = np.where(self._kept, x**2 + y**2, 0.0).astype(np.int64)
        self._slopes = 2j * np.pi * x, 2j * np.pi * y
        self._inverse = 1.0 / (4.0 * np.pi**2 * np.maximum(self._squares, 1))
        self._forcing = np.where(self._kept, np.fft.rfft2(forcing), 0.0)
        self._shortest, self._points = 2.0 * np.pi * cutoff, points
        self._viscosity = viscosity

    def integrate(self, vorticity: np.ndarray, duration: float) -> np.ndarray:
        """Return the vorticity after some time, values at the points."""
        omega = np.where(self._kept, np.fft.rfft2(vorticity), 0.0)
        legs = math.ceil(duration / LEG)
        leg = duration / legs
        for _ in range(legs):
            work, met = leg * self._shortest * self._term(omega)[1], math.inf
            after, steps = omega, 0
            while met > steps * LIMIT:
                steps = max(1, math.ceil(work / STEP))
                after, speed = self._steps(omega, leg, steps)
                met = leg * self._shortest * speed
                work = min(4.0 * max(work, STEP), met)
            omega = after
        return np.fft.irfft2(omega, (self._points, self._points))

    def _term(self, omega: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the nonlinear term with the forcing, and the largest speed."""
        along_x, along_y = self._slopes
        psi = omega * self._inverse
        fields = np.stack([along_y * psi, -along_x * psi, along_x * omega, along_y * omega])
        u, v, by_x, by_y = np.fft.irfft2(fields, (self._points, self._points))
        term = np.where(self._kept, np.fft.rfft2(-u * by_x - v * by_y), 0.0) + self._forcing
        return term, math.sqrt(np.max(u**2 + v**2))

    def _steps(self, w: np.ndarray, leg: float, steps: int) -> tuple[np.ndarray, float]:
        dt = leg / steps
        rates = -4.0 * np.pi**2 * self._viscosity * dt * np.arange(self._squares.max() + 1)
        z = rates[:, None] + _CIRCLE
        e = np.exp(z)
        contours = np.stack(
            [
                (np.exp(z / 2) - 1) / z,
                (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
                2 * (2 + z + e * (z - 2)) / z**3,
                (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
            ]
        )
        q, first, middle, last = dt * contours.mean(axis=2).real[:, self._squares]
        whole, half = np.exp(rates)[self._squares], np.exp(rates / 2)[self._squares]
        fastest = 0.0
        for _ in range(steps):
            n_0, speed = self._term(w)
            fastest = max(fastest, speed)
            a = half * w + q * n_0
            n_a, _ = self._term(a)
            b = half * w + q * n_a
            n_b, _ = self._term(b)
            c = half * a + q * (2 * n_b - n_0)
            n_c, _ = self._term(c)
            w = whole * w + first * n_0 + middle * (n_a + n_b) + last * n_c
        return w, max(fastest, self._term(w)[1])
