"""What a scenario tells of its equation where that is linear in what it predicts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix, csr_array, diags_array
from scipy.sparse.linalg import SuperLU, splu


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
    which may be infinite. Shapes are `(x - 1, y)`, `(x, y - 1)` and `(x, y)`, perhaps with further
    axes before.
    """
    half = 0.5 * width / conductivity  # resistance of half a cell
    across_x = width / (half[..., :-1, :] + half[..., 1:, :])
    across_y = width / (half[..., :-1] + half[..., 1:])
    outer = np.zeros_like(half)
    for edge in (np.s_[..., 0, :], np.s_[..., -1, :], np.s_[..., 0], np.s_[..., -1]):
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


def conductance_rates(
    conductivity: np.ndarray, directions: np.ndarray, width: float, film: float
) -> list[np.ndarray]:
    """Return how each of the `conductances` changes along directions, `(direction, x, y)`.

    They are central differences, exact to some eight digits.
    """
    step = 1e-4 / max(np.abs(directions / conductivity).max(), 1e-9)
    ends = [conductances(conductivity + h * directions, width, film) for h in (step, -step)]
    return [(after - before) / (2.0 * step) for after, before in zip(*ends, strict=True)]


def leaving(parts: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return what leaves each cell, by its conductances along x and y, and outwards."""
    along_x, along_y, outer = parts
    x, y = -along_x * np.diff(values, axis=-2), -along_y * np.diff(values)
    found = outer * values
    found[..., :-1, :] += x
    found[..., 1:, :] -= x
    found[..., :-1] += y
    found[..., 1:] -= y
    return found


def factorise(matrix: csc_matrix) -> SuperLU:
    """Return the sparse factors of a symmetric, positive definite matrix."""
    return splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
