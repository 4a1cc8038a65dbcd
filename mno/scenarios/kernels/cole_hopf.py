"""The exact solution of Burgers' equation on a circle, by quadrature.

    u(x, t) = int u_0(y) w(y) dy / int w(y) dy,
    w(y) = exp(-(U_0(y) + (x - y)^2 / (2 t)) / (2 nu)),   U_0' = u_0

for an initial state `u_0` of mean zero (Hopf 1950, doi:10.1002/cpa.3160030302; Cole 1951,
doi:10.1090/qam/42889). A mean carries all along with it.
"""

from __future__ import annotations

import numpy as np

_FINEST = 2**22
_EVEN = 15.0  # powers of e between weights that a transform still tells apart to 1e-9
_NEGLIGIBLE = 40.0  # powers of e below the largest weight
_AT_ONCE = 2**20  # weights


def cole_hopf(initial: np.ndarray, viscosity: float, time: float) -> np.ndarray:
    """Return the solution at the points of the initial state.

    The trapezoidal rule, which converges faster than any power here, on points so fine that the
    narrowest possible peak of the weights has three in its deviation. Where `exp(-U_0 / (2 nu))`
    is of similar size everywhere, its sum over all points is done by transforms, as the heat
    equation that it is.

    Args:
        initial: Values at equally spaced points of the unit circle, the samples of a trigonometric
            polynomial without the shortest wave that they could hold, shape `(n,)`, float64.
        viscosity: `nu`, positive.
        time: `t`, positive.

    Returns:
        Shape `(n,)`, float64.
    """
    n = len(initial)
    coefficients = np.fft.rfft(initial) / n
    waves = 2.0 * np.pi * np.arange(len(coefficients))
    mean, coefficients[0] = coefficients[0].real, 0.0
    if n % 2 == 0:
        coefficients[-1] = 0.0
    integral = coefficients / np.where(waves > 0.0, 1j * waves, 1.0)

    def finely(coefficients: np.ndarray, points: int) -> np.ndarray:
        return np.fft.irfft(coefficients, points) * points

    points = 4 * n
    steepest = max(0.0, np.max(finely(1j * waves * coefficients, points)))
    deviation = np.sqrt(2.0 * viscosity / (1.0 / time + steepest))
    points *= 2 ** max(0, int(np.ceil(np.log2(3.0 / (deviation * points)))))
    points = max(4 * n, min(points, _FINEST // n * n))
    u, potential = finely(coefficients, points), finely(integral, points)
    if np.ptp(potential) <= 2.0 * viscosity * _EVEN:
        weights = np.exp((np.min(potential) - potential) / (2.0 * viscosity))
        k = 2.0 * np.pi * np.arange(points // 2 + 1)
        later = np.exp(-viscosity * time * k**2 - 1j * k * mean * time)
        upper, lower = (
            np.fft.irfft(later * np.fft.rfft(w), points) for w in (weights * u, weights)
        )
        return (upper / lower)[:: points // n] + mean
    reach = np.sqrt(2.0 * time * (np.ptp(potential) + 2.0 * viscosity * _NEGLIGIBLE))
    near = np.arange(-int(reach * points) - 1, int(reach * points) + 2)
    places = np.arange(n) / n - mean * time
    solution = np.empty(n)
    rows = max(1, _AT_ONCE // len(near))
    for start in range(0, n, rows):
        x = places[start : start + rows, None]
        nodes = np.round(x * points).astype(np.int64) + near
        action = potential[nodes % points] + (x - nodes / points) ** 2 / (2.0 * time)
        weights = np.exp((np.min(action, axis=1, keepdims=True) - action) / (2.0 * viscosity))
        solution[start : start + rows] = np.sum(weights * u[nodes % points], 1) / np.sum(weights, 1)
    return solution + mean
