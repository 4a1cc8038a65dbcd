"""Linear finite elements on triangles: stiffness, lumped areas and sparse factors."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import SuperLU, splu


def areas(x: np.ndarray, y: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the area of each triangle, negative where its corners run clockwise.

    Args:
        x: Coordinates of the points, shape `(points,)`.
        y: Likewise.
        triangles: Numbers of the corners, shape `(triangles, 3)`.
    """
    a, b, c = triangles.T
    return 0.5 * ((x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]))


def lumped(per_triangle: np.ndarray, triangles: np.ndarray, num_points: int) -> np.ndarray:
    """Share a quantity of each triangle equally among its corners, shape `(points,)`."""
    thirds = np.repeat(per_triangle / 3.0, 3)
    return np.bincount(triangles.ravel(), thirds, num_points)


def stiffness(
    x: np.ndarray, y: np.ndarray, triangles: np.ndarray, coefficient: np.ndarray
) -> csc_matrix:
    """Return the matrix of `-div(a grad u)` for linear elements, with nothing passing the rim.

    An entry is the sum over triangles T that have both points of
    `a_T area_T (grad phi_i . grad phi_j)`.

    Args:
        x: Coordinates of the points, shape `(points,)`.
        y: Likewise.
        triangles: Numbers of the corners, anticlockwise, shape `(triangles, 3)`.
        coefficient: `a` of each triangle, shape `(triangles,)`.
    """
    # The gradient of the function of a corner is the opposite edge, turned, over twice the area.
    opposite_x = x[np.roll(triangles, -2, axis=1)] - x[np.roll(triangles, -1, axis=1)]
    opposite_y = y[np.roll(triangles, -2, axis=1)] - y[np.roll(triangles, -1, axis=1)]
    scale = coefficient / (4.0 * areas(x, y, triangles))
    entries = scale[:, None, None] * (
        opposite_x[:, :, None] * opposite_x[:, None, :]
        + opposite_y[:, :, None] * opposite_y[:, None, :]
    )
    rows = np.repeat(triangles, 3, axis=1).ravel()
    columns = np.tile(triangles, (1, 3)).ravel()
    return csc_matrix((entries.ravel(), (rows, columns)), shape=(len(x), len(x)))


def factorise(matrix: csc_matrix) -> SuperLU:
    """Return the sparse factors of a symmetric, positive definite matrix."""
    return splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
