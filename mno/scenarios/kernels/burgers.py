"""Burgers' equation on a circle in time, `u_t + (u^2 / 2)_x = nu u_xx`, of period 1.

`BurgersFlow` chooses the steps of a `LineFlow`; `cole_hopf` is the exact solution by quadrature.
"""

import numpy as np

from mno.scenarios.kernels.line_flow import LineFlow

STEP = 0.25  # length of a step times the rate that `BurgersFlow.advance` speaks of


class BurgersFlow:
    """Solutions of one viscosity `nu` and waves up to a cutoff of at least 1, for one thread."""

    def __init__(self, cutoff: int, viscosity: float) -> None:
        self._viscosity = viscosity
        self._flow = LineFlow(-viscosity * (2.0 * np.pi * np.arange(cutoff + 1)) ** 2)

    def advance(self, u: np.ndarray, duration: float, step: float = STEP) -> None:
        """Advance coefficients in time, in place.

        All steps are equal. There are as many as keep a step times `speed (speed / nu + 2 pi 32)`
        below `step`: the first is the rate at which the thinnest layer passes, the second that of
        waves of 1/32 of the circle. Shorter waves decay faster than they turn, which the method
        treats exactly.
        """
        points = self._flow.points
        speed = np.max(np.abs(np.fft.irfft(u, points) * points))
        rate = speed * (speed / self._viscosity + 2.0 * np.pi * 32)
        self._flow.advance(u, duration, max(1, int(np.ceil(duration * rate / step))))


_FINEST = 2**22
_EVEN = 15.0  # powers of e between weights that a transform still tells apart to 1e-9
_NEGLIGIBLE = 40.0  # powers of e below the largest weight
_AT_ONCE = 2**20  # weights


def cole_hopf(initial: np.ndarray, viscosity: float, time: float) -> np.ndarray:
    """Return the exact solution at the points of the initial state.

        u(x, t) = int u_0(y) w(y) dy / int w(y) dy,
        w(y) = exp(-(U_0(y) + (x - y)^2 / (2 t)) / (2 nu)),   U_0' = u_0

    for an initial state `u_0` of mean zero (Hopf 1950, doi:10.1002/cpa.3160030302; Cole 1951,
    doi:10.1090/qam/42889). A mean carries all along with it.

    The trapezoidal rule, which converges faster than any power here, on points so fine that the
    narrowest possible peak of the weights has three in its deviation. Where `exp(-U_0 / (2 nu))`
    is of similar size everywhere, its sum over all points is done by transforms, as the heat
    equation that it is.

    `initial` has the values at equally spaced points of the unit circle, the samples of a
    trigonometric polynomial without the shortest wave that they could hold, shape `(n,)`, float64;
    `viscosity`, `nu`, and `time` are positive.
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
