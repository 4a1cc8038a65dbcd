"""Random functions on a square, a circle or a torus: one draw is one function on every grid."""

import math
from dataclasses import dataclass

import numpy as np

NUM_MODES = 64  # cosines along each axis, at every resolution
NUM_BUMPS = 5
WIDTHS = 0.05, 0.2  # bounds of a bump's standard deviation, in sides of the square


def covariance_spectrum(exponent: float, inverse_length: float, side: float) -> np.ndarray:
    """Return the variances of the cosines' weights for a covariance of Matern's kind.

    It is `(-Laplacian + tau^2)^-alpha` with zero flux at the wall, `alpha` being the exponent and
    `tau` the inverse length, in one over the unit of `side`, of the square. The variances have
    shape `(64, 64)` and are not normalised.
    """
    wave_numbers = np.arange(NUM_MODES)
    squares = (np.pi / side) ** 2 * np.add.outer(wave_numbers**2, wave_numbers**2)
    return (squares + inverse_length**2) ** -exponent


def periodic_spectrum(exponent: float, inverse_length: float, waves: int, axes: int) -> np.ndarray:
    """Return the variances of waves for the covariance `(-Laplacian + tau^2)^-alpha`, period 1.

    They have shape `(waves + 1,)` for each of one or two axes; that of the constant is 0.
    """
    squares = (2.0 * np.pi * np.arange(waves + 1)) ** 2
    total = squares if axes == 1 else np.add.outer(squares, squares)
    variances = (total + inverse_length**2) ** -exponent
    variances[(0,) * axes] = 0.0
    return variances


@dataclass(frozen=True)
class RandomField:
    """A sum of products of functions, one per axis, with independent normal weights.

    The weights are drawn in an order that does not depend on the grid.
    """

    basis: np.ndarray  # the functions at the points of every axis, shape `(points, functions)`
    deviations: np.ndarray  # of the weights, one axis for each of the field's

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a field, float64."""
        field = self.deviations * rng.standard_normal(self.deviations.shape)
        # einsum, not a matrix product: BLAS may add in another order with another number of
        # threads. The sums run over last axes, which is the fast case.
        for _ in range(field.ndim):
            field = np.einsum("xk,...k->x...", self.basis, field)
        return field


def cosine_field(points: np.ndarray, variances: np.ndarray) -> RandomField:
    """Return a random field `sum over k, l of w_kl c_k(x) c_l(y)` on a square.

    `c_k(x) = sqrt(2) cos(k pi x)`, `c_0 = 1`, `x` and `y` being shares of the square's side.
    `points` says where the grid's lie along either axis, in (0, 1).
    """
    return RandomField(_cosines(points, len(variances)), np.sqrt(variances))


def draw_at(
    rng: np.random.Generator, variances: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Draw such a field at unordered points, shares of the square's side, float64.

    The generator gives the function that it gives a `cosine_field`.
    """
    weights = np.sqrt(variances) * rng.standard_normal(variances.shape)
    half = np.einsum("pl,kl->pk", _cosines(y, len(variances)), weights)
    return np.einsum("pk,pk->p", _cosines(x, len(variances)), half)


def _cosines(points: np.ndarray, num_modes: int) -> np.ndarray:
    """Return `c_k` at points, shape `(points, modes)`."""
    wave_numbers = np.arange(num_modes)
    norms = np.where(wave_numbers == 0, 1.0, math.sqrt(2.0))
    return norms * np.cos(np.pi * np.outer(points, wave_numbers))


def periodic_field(points: np.ndarray, variances: np.ndarray) -> RandomField:
    """Return a field of products of `1`, `sqrt(2) cos(2 pi k x)` and `sqrt(2) sin(2 pi k x)`.

    If variances, by wave number along each of one or two axes, depend on the length of the wave
    vector alone, it is stationary. `points` says where the grid's lie along every axis, in periods.
    """
    waves = np.arange(1, len(variances))
    angles = 2.0 * np.pi * np.outer(points, waves)
    basis = np.ones((len(points), 2 * len(waves) + 1))
    basis[:, 1::2] = math.sqrt(2.0) * np.cos(angles)
    basis[:, 2::2] = math.sqrt(2.0) * np.sin(angles)
    index = (np.arange(basis.shape[1]) + 1) // 2
    return RandomField(basis, np.sqrt(variances[np.ix_(*(index,) * variances.ndim)]))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of two bounds."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def sum_of_bumps(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Draw `sum over k of exp(-|x - x_k|^2 / (2 s_k^2))` on the unit square, shape `(x, y)`.

    Centres lie anywhere in the square, standard deviations between 0.05 and 0.2; they are drawn in
    an order that does not depend on the grid, whose points lie at `points` along either axis.
    """
    centres = rng.random((NUM_BUMPS, 2))
    widths = rng.uniform(*WIDTHS, NUM_BUMPS)
    total = np.zeros((len(points), len(points)))
    for (x, y), width in zip(centres, widths, strict=True):
        along_x, along_y = (np.exp(-0.5 * ((points - at) / width) ** 2) for at in (x, y))
        total += np.outer(along_x, along_y)
    return total
