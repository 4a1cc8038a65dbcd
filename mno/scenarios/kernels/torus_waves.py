"""Real functions on a torus: their values at equally spaced points, and their coefficients.

Coefficients have shape `(2 cutoff + 1, cutoff + 1)`: `k_x` from `-cutoff` on, `k_y` from 0 on.
"""

from __future__ import annotations

import numpy as np


def waves_of(values: np.ndarray, cutoff: int) -> np.ndarray:
    """Return the coefficients of values at points, shape `(n, n)`.

    Those that the points do not hold, and those of two points, are zero.
    """
    n = len(values)
    held = min(cutoff, (n - 1) // 2)
    coefficients = np.zeros((2 * cutoff + 1, cutoff + 1), np.complex128)
    found = np.fft.rfft2(values)[np.arange(-held, held + 1), : held + 1] / n**2
    coefficients[cutoff - held : cutoff + held + 1, : held + 1] = found
    return coefficients


def values_of(coefficients: np.ndarray, points: int, finer: int = 1) -> np.ndarray:
    """Return the values of coefficients at points, or at some times as many."""
    cutoff = coefficients.shape[1] - 1
    skip = -(-(2 * cutoff + 1) // (points * finer))
    n = points * finer * skip
    spectrum = np.zeros((n, n // 2 + 1), np.complex128)
    spectrum[np.arange(-cutoff, cutoff + 1), : cutoff + 1] = coefficients
    return n**2 * np.fft.irfft2(spectrum, (n, n))[::skip, ::skip]
