"""Bilinear elements for `-div(theta grad u) = f` on the unit square, u = 0 on its wall, compiled.

A coefficient is theta on `blocks x blocks` squares, in C order; each has as many of `n x n`
elements. The matrix is of the `(n - 1)^2` inner nodes in C order, in bands (`bands.py`).
"""

import numpy as np

from mno.core.compiled import compiled
from mno.scenarios.kernels import bands

ELEMENT = np.array([[4, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]]) / 6.0
"""Stiffness of an element with a coefficient of one, by corners in C order."""


@compiled
def factored(coefficient, blocks, n):
    """Return the factor of the matrix of a coefficient."""
    m = n - 1
    factor = np.zeros((m * m, n + 1))
    for e in range(n):
        for f in range(n):
            theta = coefficient[e * blocks // n * blocks + f * blocks // n]
            for p in range(4):  # two corners of the element
                i, j = e - 1 + p // 2, f - 1 + p % 2
                for q in range(p, 4):
                    k, h = e - 1 + q // 2, f - 1 + q % 2
                    if i >= 0 and k < m and min(j, h) >= 0 and max(j, h) < m:
                        factor[i * m + j, (k - i) * m + h - j] += ELEMENT[p, q] * theta
    return bands.factored(factor)
