"""Heat conduction once more: the scheme of `heat_conduction.py` in plain numpy, solved directly.

It shares no arithmetic with the compiled solver, so that checks can compare with it. It is dear on
fine grids: time and memory grow with the fourth and the third power of the cells along a side.
"""

from __future__ import annotations

import math

import numpy as np


def advance_directly(
    conductivity: np.ndarray,
    heat_capacity: np.ndarray,
    power: np.ndarray,
    rise: np.ndarray,
    heat_transfer_coefficient: float,
    width: float,
    interval: float,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Advance many states, each by one interval with its own power.

    Args:
        conductivity: Shape `(x, y)`, W/(m K).
        heat_capacity: Likewise, J/(m3 K).
        power: Shape `(x, y, states)`, W/m3.
        rise: Temperature above the ambient one, likewise, K.
        heat_transfer_coefficient: Of the outer surface, W/(m2 K).
        width: Of a cell, m.
        interval: Time to advance by, s.
        steps: Of the method.

    Returns:
        The later rise, and the heat that each state has lost until then, J per metre of depth.
    """
    half = 0.5 * width / conductivity  # resistance of half a cell, m2 K/W
    across_x = width / (half[:-1] + half[1:])
    across_y = width / (half[:, :-1] + half[:, 1:])
    outer = np.zeros_like(half)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        outer[edge] += width / (half[edge] + 1.0 / heat_transfer_coefficient)

    def gained(state: np.ndarray) -> np.ndarray:
        flow_x = across_x[..., None] * np.diff(state, axis=0)
        flow_y = across_y[..., None] * np.diff(state, axis=1)
        gain = power * width**2 - outer[..., None] * state
        gain[:-1] += flow_x
        gain[1:] -= flow_x
        gain[:, :-1] += flow_y
        gain[:, 1:] -= flow_y
        return gain

    step = interval / steps
    first = 1.0 - math.sqrt(0.5)  # end of the first stage, and length of both, in steps
    factors = BlockElimination(
        heat_capacity * width**2 / (first * step) + outer, across_x, across_y
    )
    lost = np.zeros(rise.shape[-1])
    for _ in range(steps):
        change = factors.solve(gained(rise))
        lost += step * (1.0 - first) * np.einsum("xy,xyt->t", outer, rise + change)
        rise = rise + (1.0 / first - 1.0) * change
        rise = rise + factors.solve(gained(rise))
        lost += step * first * np.einsum("xy,xyt->t", outer, rise)
    return rise, lost


class BlockElimination:
    """Factors of five-point equations, row of cells by row: `own u + sum of t (u - u') = rhs`.

    The sum is over a cell's neighbours `u'` with the conductances `t` to them.

    Args:
        own: Positive, shape `(x, y)`.
        across_x: Conductances between cells `(i, j)` and `(i + 1, j)`, shape `(x - 1, y)`.
        across_y: The same between `(i, j)` and `(i, j + 1)`, shape `(x, y - 1)`.
    """

    def __init__(self, own: np.ndarray, across_x: np.ndarray, across_y: np.ndarray) -> None:
        self._across_x = across_x
        diagonal = own.copy()
        diagonal[:-1] += across_x
        diagonal[1:] += across_x
        diagonal[:, :-1] += across_y
        diagonal[:, 1:] += across_y
        self._inverses = np.empty((*diagonal.shape, diagonal.shape[1]))
        for i, row in enumerate(diagonal):
            block = np.diag(row) - np.diag(across_y[i], 1) - np.diag(across_y[i], -1)
            if i > 0:
                block -= np.multiply.outer(across_x[i - 1], across_x[i - 1]) * self._inverses[i - 1]
            self._inverses[i] = np.linalg.inv(block)

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """Solve for right sides side by side, shape `(x, y, number)`."""
        u = np.empty_like(rhs)
        u[0] = self._inverses[0] @ rhs[0]
        for i in range(1, len(u)):
            u[i] = self._inverses[i] @ (rhs[i] + self._across_x[i - 1, :, None] * u[i - 1])
        for i in range(len(u) - 2, -1, -1):
            u[i] += self._inverses[i] @ (self._across_x[i, :, None] * u[i + 1])
        return u
