"""Gaussian random fields on a circle or a torus: one draw is one function on every grid."""

from __future__ import annotations

import math

import numpy as np


def periodic_spectrum(exponent: float, inverse_length: float, waves: int, axes: int) -> np.ndarray:
    """Return the variances of waves for the covariance `(-Laplacian + tau^2)^-alpha`, period 1.

    Args:
        exponent: `alpha`.
        inverse_length: `tau`.
        waves: Largest wave number.
        axes: 1 or 2.

    Returns:
        Shape `(waves + 1,)` for each axis; that of the constant is 0.
    """
    squares = (2.0 * np.pi * np.arange(waves + 1)) ** 2
    total = squares if axes == 1 else np.add.outer(squares, squares)
    variances = (total + inverse_length**2) ** -exponent
    variances[(0,) * axes] = 0.0
    return variances


class PeriodicField:
    """A sum of products of `1`, `sqrt(2) cos(2 pi k x)` and `sqrt(2) sin(2 pi k x)`, one per axis.

    Their weights are independent normal numbers, drawn in an order that does not depend on the
    grid. If variances depend on the length of the wave vector alone, the field is stationary.

    Args:
        points: Where the grid's points lie along every axis, in periods.
        variances: Those of the weights, by wave number along each of one or two axes.
    """

    def __init__(self, points: np.ndarray, variances: np.ndarray) -> None:
        waves = np.arange(1, len(variances))
        angles = 2.0 * np.pi * np.outer(points, waves)
        self._basis = np.ones((len(points), 2 * len(waves) + 1))
        self._basis[:, 1::2] = math.sqrt(2.0) * np.cos(angles)
        self._basis[:, 2::2] = math.sqrt(2.0) * np.sin(angles)
        index = (np.arange(self._basis.shape[1]) + 1) // 2
        self._deviations = np.sqrt(variances[np.ix_(*(index,) * variances.ndim)])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a field, one axis for each of the variances, float64."""
        field = self._deviations * rng.standard_normal(self._deviations.shape)
        # einsum, not a matrix product: BLAS may add in another order with another number of
        # threads. The sums run over last axes, which is the fast case.
        for _ in range(field.ndim):
            field = np.einsum("xk,...k->x...", self._basis, field)
        return field if field.ndim == 1 else field.T
