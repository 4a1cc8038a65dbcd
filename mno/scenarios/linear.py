"""What a scenario tells of its equation where that is linear in what it predicts."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, diags_array


class LinearSystem(NamedTuple):
    """The discrete equation of one sample; `u` is the one field that is predicted, less `level`.

    M du/dt + K u = f    of a state
    K u = f              of an output
    """

    stiffness: csr_array
    """`K`, symmetric and, of fields that meet the conditions at the walls, positive definite."""
    source: np.ndarray
    """`f`, shape `(points,)`; of a state `(frames, points)`, each held until the next frame."""
    mass: np.ndarray | None = None  # the diagonal of `M`, shape `(points,)`; none of an output
    level: float = 0.0


def conductances(
    conductivity: np.ndarray, width: float, film: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a difference of one drives between square cells along x and y, and outwards.

    Between centres are two half cells in series, at the outer surface half a cell and the `film`,
    which may be infinite. Shapes are `(x - 1, y)`, `(x, y - 1)` and `(x, y)`.
    """
    half = 0.5 * width / conductivity  # resistance of half a cell
    across_x = width / (half[:-1] + half[1:])
    across_y = width / (half[:, :-1] + half[:, 1:])
    outer = np.zeros_like(half)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        outer[edge] += width / (half[edge] + 1.0 / film)
    return across_x, across_y, outer


def five_points(conductivity: np.ndarray, width: float, film: float) -> csr_array:
    """Return the matrix that takes values of cells to what leaves each, by `conductances`."""
    along_x, along_y, own = conductances(conductivity, width, film)
    own[:-1] += along_x
    own[1:] += along_x
    own[:, :-1] += along_y
    own[:, 1:] += along_y
    rows = own.shape[1]
    x, y = -along_x.ravel(), -np.pad(along_y, [(0, 0), (0, 1)]).ravel()[:-1]
    offsets = [0, 1, -1, rows, -rows]
    return csr_array(diags_array([own.ravel(), y, y, x, x], offsets=offsets))  # type: ignore[arg-type]
