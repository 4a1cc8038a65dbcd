"""Thermal stress in the pieces of a charge: plane strain, by Airy's function on cell centres.

    d_x s_xx + d_y s_xy = 0,   d_x s_xy + d_y s_yy = 0      no traction at a piece's surface
    s_xx = phi_yy,   s_yy = phi_xx,   s_xy = -phi_xy        satisfy both for any phi
    lap(lap phi) = -E alpha / (1 - nu) lap T                phi = d phi / dn = 0 at the surface
    s_zz = nu (s_xx + s_yy) - E alpha (T - T_ref)           no strain along z

The derivatives are central differences, the shear lies at the corners of cells, and `phi` is zero
where one of the eight cells around is no charge. Of all stresses of that form the one with the
least complementary energy is sought, and since the mixed terms of the energy add up to nothing,
that is a least-squares problem: `lap phi` is the best approximation of `-E alpha (T - T_ref) /
(1 - nu)`. It is the dual of a staggered scheme in displacements (`thermal_stress_plain.py`) and of
second order. A temperature that is linear in x and y gives no stress but `s_zz`, to rounding.
Stresses do not depend on the width of a cell, and pieces do not meet in the matrix.

Boley and Weiner, Theory of Thermal Stresses, 1960, chapter 4, has the continuous equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csc_matrix

from mno.scenarios.kernels.triangles import factorise

_SAME = 0.999  # share of the greatest heat capacity from which a cell is of one material


@dataclass(frozen=True)
class Solid:
    """A linear, isotropic elastic material, and how its ends along z are held.

    Attributes:
        youngs_modulus: E, Pa.
        poisson_ratio: nu, below 1/2.
        thermal_expansion: alpha, of a length, 1/K.
        ends_held: Whether nothing moves along z. Ends that are free move and turn as a whole, so
            that each piece is without axial force and moments (generalised plane strain).
    """

    youngs_modulus: float
    poisson_ratio: float
    thermal_expansion: float
    ends_held: bool


def charge_cells(heat_capacity: np.ndarray) -> np.ndarray:
    """Return which cells hold nothing but charge: it has the greatest heat capacity per volume."""
    return heat_capacity > _SAME * heat_capacity.max()


def has_holes(charge: np.ndarray) -> bool:
    """Whether a piece encloses anything, in which case one Airy function does not describe it."""
    return bool(np.any(ndimage.binary_fill_holes(charge) != charge))


def thermal_stress(charge: np.ndarray, rise: np.ndarray, solid: Solid) -> np.ndarray:
    """Return von Mises' equivalent stress, Pa, shape `(time, x, y)`, zero outside the charge.

    Args:
        charge: Which cells are charge, shape `(x, y)`; pieces have no holes.
        rise: Temperature above that of the state without stress, K, shape `(time, x, y)`.
        solid: What the charge is made of.
    """
    per_kelvin = solid.youngs_modulus * solid.thermal_expansion
    airy, fit = _Airy(charge), _PlaneFit(charge)
    stress = np.zeros(rise.shape)
    for frame, theta in zip(stress, rise, strict=True):
        xx, yy, xy = airy.stress(theta[charge])
        zz = solid.poisson_ratio * (xx + yy) - (1.0 - solid.poisson_ratio) * theta[charge]
        if not solid.ends_held:
            zz -= fit(zz)
        squares = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
        frame[charge] = np.sqrt(0.5 * squares + 3.0 * xy**2)
    return stress * (per_kelvin / (1.0 - solid.poisson_ratio))


class _Airy:
    """Stresses within the plane, in units of `E alpha / (1 - nu)`, at the cells of a charge."""

    def __init__(self, charge: np.ndarray) -> None:
        padded = np.pad(charge, 1)
        self._charge = padded
        inner = np.asarray(ndimage.binary_erosion(padded, np.ones((3, 3))))
        self._cells, self._unknowns = np.nonzero(padded), np.nonzero(inner)
        row, column = np.full(padded.shape, -1), np.arange(len(self._unknowns[0]))
        row[padded] = np.arange(len(self._cells[0]))
        i, j = self._unknowns
        five = ((0, 0, -4.0), (-1, 0, 1.0), (1, 0, 1.0), (0, -1, 1.0), (0, 1, 1.0))
        rows = np.concatenate([row[i + di, j + dj] for di, dj, _ in five])
        entries = np.repeat([entry for *_, entry in five], len(column))
        shape = len(self._cells[0]), len(column)
        self._laplacian = csc_matrix((entries, (rows, np.tile(column, 5))), shape=shape)
        if len(column):
            self._factors = factorise(csc_matrix(self._laplacian.T @ self._laplacian))

    def stress(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `s_xx`, `s_yy` and `s_xy`, the mean of four corners, for a rise in each cell."""
        phi = np.zeros(self._charge.shape)
        if len(self._unknowns[0]):
            phi[self._unknowns] = self._factors.solve(-(self._laplacian.T @ theta))
        i, j = self._cells
        xx = phi[i, j - 1] - 2.0 * phi[i, j] + phi[i, j + 1]
        yy = phi[i - 1, j] - 2.0 * phi[i, j] + phi[i + 1, j]
        xy = phi[i + 1, j - 1] + phi[i - 1, j + 1] - phi[i + 1, j + 1] - phi[i - 1, j - 1]
        return xx, yy, 0.25 * xy


class _PlaneFit:
    """Least-squares fit of `a + b x + c y` to values at the cells of a charge, piece by piece."""

    def __init__(self, charge: np.ndarray) -> None:
        labels, number = ndimage.label(charge)  # type: ignore[misc]
        piece = labels[charge]
        points = np.argwhere(charge).astype(float)
        self._pieces = []
        for label in range(1, number + 1):
            cells = np.nonzero(piece == label)[0]
            x, y = (points[cells] - points[cells].mean(axis=0)).T
            basis = np.stack([np.ones(len(cells)), x, y])
            gram = np.einsum("ac,bc->ab", basis, basis)
            self._pieces.append((cells, basis, np.linalg.pinv(gram, hermitian=True)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the fit at the cells."""
        fit = np.empty_like(values)
        for cells, basis, inverse in self._pieces:  # sums whose order no library chooses
            moments = np.einsum("bc,c->b", basis, values[cells])
            fit[cells] = np.einsum("bc,ba,a->c", basis, inverse, moments)
        return fit
