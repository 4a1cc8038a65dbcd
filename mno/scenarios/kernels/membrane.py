"""Bilinear elements for `-div(theta grad u) = f` on the unit square, u = 0 on its wall, compiled.

Glossary
    coefficient theta on `blocks x blocks` squares, in C order; each has as many of `n x n` elements
    factor      Cholesky's, of the `(n - 1)^2` inner nodes in C order: row `j` has column `j` from
                its diagonal down, and of that the inverse, shape `((n - 1)^2, n + 1)`
"""

import numpy as np

from mno.core.compiled import compiled

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
    for j in range(m * m):
        column = factor[j]
        scale = 1.0 / np.sqrt(column[0])
        column *= scale
        for k in range(1, min(n + 1, m * m - j)):
            later, share, below = factor[j + k], column[k], column[k:]
            for i in range(n + 1 - k):
                later[i] -= share * below[i]
        column[0] = scale
    return factor


@compiled
def substituted(factor, right):
    """Return the solution of a right side, `((n - 1)^2,)`."""
    size, width = factor.shape
    x = right.copy()
    for j in range(size):
        x[j] *= factor[j, 0]
        for k in range(1, min(width, size - j)):
            x[j + k] -= factor[j, k] * x[j]
    for j in range(size - 1, -1, -1):
        for k in range(1, min(width, size - j)):
            x[j] -= factor[j, k] * x[j + k]
        x[j] *= factor[j, 0]
    return x
