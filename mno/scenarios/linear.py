"""What a scenario tells of its equation where that is linear in what it predicts."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix, csr_array, diags_array
from scipy.sparse.linalg import SuperLU, splu

from mno.scenarios.kernels.bands import conductances


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


def five_points(conductivity: np.ndarray, width: float, film: float) -> csr_array:
    """Return the matrix that takes values of cells to what leaves each, by `conductances`."""
    along_x, along_y, _, own = conductances(conductivity, width, film)
    rows = len(own)
    x, y = -along_x.ravel()[:-rows], -along_y.ravel()[:-1]
    offsets = [0, 1, -1, rows, -rows]
    return csr_array(diags_array([own.ravel(), y, y, x, x], offsets=offsets))  # type: ignore[arg-type]


def factorise(matrix: csc_matrix) -> SuperLU:
    """Return the sparse factors of a symmetric, positive definite matrix."""
    return splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
