"""Gaussian random fields on a square as sums of cosines: one draw is one function everywhere."""

from __future__ import annotations

import math

import numpy as np

NUM_MODES = 64  # cosines along each axis, at every resolution


def covariance_spectrum(exponent: float, inverse_length: float, side: float) -> np.ndarray:
    """Return the variances of the cosines' weights for a covariance of Matern's kind.

    It is `(-Laplacian + tau^2)^-alpha` with zero flux at the wall.

    Args:
        exponent: `alpha`.
        inverse_length: `tau`, in one over the unit of `side`.
        side: Length of the square's side.

    Returns:
        Shape `(64, 64)`; not normalised.
    """
    wave_numbers = np.arange(NUM_MODES)
    squares = (np.pi / side) ** 2 * np.add.outer(wave_numbers**2, wave_numbers**2)
    return (squares + inverse_length**2) ** -exponent


class CosineField:
    """A random field `sum over k, l of w_kl c_k(x) c_l(y)` with independent normal weights.

    `c_k(x) = sqrt(2) cos(k pi x)`, `c_0 = 1`, `x` and `y` being shares of the square's side. The
    weights are drawn in an order that does not depend on the grid.

    Args:
        points: Where the grid's points lie along either axis, in (0, 1).
        variances: Those of the weights, shape `(modes, modes)`.
    """

    def __init__(self, points: np.ndarray, variances: np.ndarray) -> None:
        self._cosines = _cosines(points, len(variances))
        self._deviations = np.sqrt(variances)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a field, shape `(x, y)`, float64."""
        weights = self._deviations * rng.standard_normal(self._deviations.shape)
        # einsum, not a matrix product: BLAS may add in another order with another number of
        # threads. Both sums run over last axes, which is the fast case.
        half = np.einsum("yl,kl->yk", self._cosines, weights)
        return np.einsum("xk,yk->xy", self._cosines, half)


def draw_at(
    rng: np.random.Generator, variances: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Draw such a field at unordered points, shape `(points,)`, float64.

    Args:
        rng: Gives the function that it gives a `CosineField`.
        variances: Those of the weights, shape `(modes, modes)`.
        x: Coordinates of the points, shape `(points,)`, as shares of the square's side.
        y: Likewise.
    """
    weights = np.sqrt(variances) * rng.standard_normal(variances.shape)
    half = np.einsum("pl,kl->pk", _cosines(y, len(variances)), weights)
    return np.einsum("pk,pk->p", _cosines(x, len(variances)), half)


def _cosines(points: np.ndarray, num_modes: int) -> np.ndarray:
    """Return `c_k` at points, shape `(points, modes)`."""
    wave_numbers = np.arange(num_modes)
    norms = np.where(wave_numbers == 0, 1.0, math.sqrt(2.0))
    return norms * np.cos(np.pi * np.outer(points, wave_numbers))
