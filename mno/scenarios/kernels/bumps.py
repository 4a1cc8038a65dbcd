"""Sums of Gaussian bumps on a square: one draw is one function on every grid."""

from __future__ import annotations

import numpy as np

NUM_BUMPS = 5
WIDTHS = 0.05, 0.2  # bounds of a bump's standard deviation, in sides of the square


def sum_of_bumps(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Draw `sum over k of exp(-|x - x_k|^2 / (2 s_k^2))` on the unit square.

    Centres lie anywhere in the square, standard deviations between 0.05 and 0.2.

    Args:
        rng: What they are drawn from, in an order that does not depend on the grid.
        points: Where the grid's points lie along either axis, in (0, 1).

    Returns:
        Shape `(x, y)`, float64.
    """
    centres = rng.random((NUM_BUMPS, 2))
    widths = rng.uniform(*WIDTHS, NUM_BUMPS)
    total = np.zeros((len(points), len(points)))
    for (x, y), width in zip(centres, widths, strict=True):
        along_x, along_y = (np.exp(-0.5 * ((points - at) / width) ** 2) for at in (x, y))
        total += np.outer(along_x, along_y)
    return total
