"""Symmetric, positive definite matrices in bands, and five points' of square cells, compiled.

Row `j` of bands has column `j` of the matrix from its diagonal down, `(size, width + 1)`. A factor
is Cholesky's, in bands, with the inverse of its diagonal. A film's conductance may be infinite.
"""

import numpy as np

from mno.core.compiled import compiled


@compiled
def factored(bands):
    """Put the factor in the place of a matrix, and return it."""
    size, width = bands.shape
    for j in range(size):
        column = bands[j]
        scale = 1.0 / np.sqrt(column[0])
        column *= scale
        for k in range(1, min(width, size - j)):
            later, share, below = bands[j + k], column[k], column[k:]
            for i in range(width - k):
                later[i] -= share * below[i]
        column[0] = scale
    return bands


@compiled
def substituted(factor, right):
    """Return the solution of a right side, `(size,)`."""
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


@compiled
def all_substituted(factor, right):
    """Put the solutions in the place of many right sides, `(size, number)`, and return them."""
    size, width = factor.shape
    for j in range(size):
        right[j] *= factor[j, 0]
        for k in range(1, min(width, size - j)):
            own, later, share = right[j], right[j + k], factor[j, k]
            for i in range(len(own)):
                later[i] -= share * own[i]
    for j in range(size - 1, -1, -1):
        for k in range(1, min(width, size - j)):
            own, later, share = right[j], right[j + k], factor[j, k]
            for i in range(len(own)):
                own[i] -= share * later[i]
        right[j] *= factor[j, 0]
    return right


@compiled
def conductances(conductivity, width, film):
    """Return what a difference of one drives to the next cell along x and y, and outwards.

    Between centres of square cells are two half cells in series, at the outer surface half a cell
    and the film. Each has the shape of the grid, and so has, last, the sum of each cell's.
    """
    half = 0.5 * width / conductivity  # resistance of half a cell
    out, outer = width / (half + 1.0 / film), np.zeros_like(half)
    outer[0] += out[0]
    outer[-1] += out[-1]
    outer[:, 0] += out[:, 0]
    outer[:, -1] += out[:, -1]
    along_x, along_y, own = np.zeros_like(half), np.zeros_like(half), outer.copy()
    along_x[:-1] = width / (half[:-1] + half[1:])
    along_y[:, :-1] = width / (half[:, :-1] + half[:, 1:])
    own += along_x
    own[1:] += along_x[:-1]
    own += along_y
    own[:, 1:] += along_y[:, :-1]
    return along_x, along_y, outer, own


@compiled
def bands_of(conductivity, width, film):
    """Return the matrix of what leaves each cell by `conductances`."""
    along_x, along_y, _, own = conductances(conductivity, width, film)
    bands = np.zeros((conductivity.size, len(conductivity) + 1))
    bands[:, 0], bands[:, 1], bands[:, -1] = own.ravel(), -along_y.ravel(), -along_x.ravel()
    return bands


@compiled
def leaving_along(conductivity, directions, values, width, film):
    """Return the rates of what leaves each cell, as conductivities move and values stay.

    Directions and rates have shape `(x * y, direction)`, conductivity and values `(x, y)`.
    """
    along_x, along_y, outer, _ = conductances(conductivity, width, film)
    # Two halves in series, c = w / (r + s) with r = w / 2k, have the rate c^2 dk / 2k^2 of each.
    slopes = directions / (2.0 * conductivity.reshape(-1, 1) ** 2)
    out = outer * values * width / (0.5 * width / conductivity + 1.0 / film)
    found, u = out.reshape(-1, 1) * slopes, values.ravel()
    for step, along in ((1, along_y.ravel()), (len(values), along_x.ravel())):
        for c in range(len(u) - step):
            share = along[c] ** 2 * (u[c] - u[c + step])
            for k in range(directions.shape[1]):
                flow = share * (slopes[c, k] + slopes[c + step, k])
                found[c, k] += flow
                found[c + step, k] -= flow
    return found
