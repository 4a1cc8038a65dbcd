"""Thermal stress in the pieces of a charge: plane strain, by Airy's function on cell centres.

    d_x s_xx + d_y s_xy = 0,   d_x s_xy + d_y s_yy = 0      no traction at a piece's surface
    s_xx = phi_yy,   s_yy = phi_xx,   s_xy = -phi_xy        satisfy both for any phi
    lap(lap phi) = -E alpha / (1 - nu) lap T                phi = d phi / dn = 0 at the surface
    s_zz = nu (s_xx + s_yy) - E alpha (T - T_ref)           no strain along z

The derivatives are central differences, the shear lies at the corners of cells, and `phi` is zero
where one of the eight cells around is no charge. Of all stresses of that form the one with the
least complementary energy is sought, and since the mixed terms of the energy add up to nothing,
that is a least-squares problem: `lap phi` is the best approximation of `-E alpha (T - T_ref) /
(1 - nu)`. It is the dual of a staggered scheme in displacements (`stress_by_displacements`) and of
second order. A temperature that is linear in x and y gives no stress but `s_zz`, to rounding.
Stresses do not depend on the width of a cell, and pieces do not meet in the matrix.

Boley and Weiner, Theory of Thermal Stresses, 1960, chapter 4, has the continuous equations.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import block_diag, csc_matrix, csr_matrix, hstack, identity, kron, vstack

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.scenarios.base import Check, Fields
from mno.scenarios.linear import factorise

_SAME = 0.999  # share of the greatest heat capacity from which a cell is of one material


STRESS = Field("stress", "Pa", "von Mises stress in the charge", "state", ("time", "x", "y"))
EQUILIBRIUM = Check(
    "equilibrium",
    "largest difference between stress and what a second statement, in displacements, makes of "
    "the stored temperature, over E alpha times the greatest rise in the charge, 1 Pa at least "
    "(rounding to float32 leaves up to 6e-8)",
    2e-7,
)


class Solid(NamedTuple):
    """A linear, isotropic elastic material, and whether nothing moves along z.

    Ends that are free move and turn as a whole, so that each piece is without axial force and
    moments (generalised plane strain).
    """

    youngs_modulus: float  # E, Pa
    poisson_ratio: float  # nu, below 1/2
    thermal_expansion: float  # alpha, of a length, 1/K
    ends_held: bool


def charge_stress(inputs: Fields, temperature: np.ndarray, solid: Solid) -> np.ndarray:
    """Return the stress at frames of the temperature, Pa, float32, shape `(time, x, y)`.

    Each piece of the charge is an elastic body, free of stress at the ambient temperature. Nothing
    holds its surface: it stands on the hearth without friction, and has no weight. An `InputError`
    says that a piece has a hole, so that one Airy function does not describe it.
    """
    charge = charge_cells(inputs["heat_capacity"])
    if np.any(ndimage.binary_fill_holes(charge) != charge):
        raise InputError(
            "heat_capacity has a piece of charge, where it is greatest, with a hole in it; "
            "expected solid pieces, since stresses are computed for no others: fill the hole"
        )
    return thermal_stress(charge, _rise(inputs, temperature), solid).astype(np.float32)


def imbalance(inputs: Fields, outputs: Fields, solid: Solid) -> float:
    """Return how far stored stresses are from those by displacements, nondimensional."""
    charge = charge_cells(inputs["heat_capacity"])
    rise = _rise(inputs, outputs["temperature"])
    again = stress_by_displacements(charge, rise, solid)
    size = np.abs(rise[:, charge]).max() * (solid.youngs_modulus * solid.thermal_expansion)
    first = np.abs(inputs["stress"] - again[0]).max()
    return float(max(first, np.abs(outputs["stress"] - again).max()) / max(size, 1.0))


def _rise(inputs: Fields, temperature: np.ndarray) -> np.ndarray:
    return temperature.astype(np.float64) - float(inputs["ambient_temperature"])


def charge_cells(heat_capacity: np.ndarray) -> np.ndarray:
    """Return which cells hold nothing but charge: it has the greatest heat capacity per volume."""
    return heat_capacity > _SAME * heat_capacity.max()


def thermal_stress(charge: np.ndarray, rise: np.ndarray, solid: Solid) -> np.ndarray:
    """Return von Mises' equivalent stress, Pa, shape `(time, x, y)`, zero outside the charge.

    `charge` says which cells it is, shape `(x, y)`, in pieces without holes; `rise` is the
    temperature above that of the state without stress, K, shape `(time, x, y)`.
    """
    per_kelvin = solid.youngs_modulus * solid.thermal_expansion
    airy, fit = _airy(charge), _plane_fit(charge)
    stress = np.zeros(rise.shape)
    for frame, theta in zip(stress, rise, strict=True):
        xx, yy, xy = airy(theta[charge])
        zz = solid.poisson_ratio * (xx + yy) - (1.0 - solid.poisson_ratio) * theta[charge]
        if not solid.ends_held:
            zz -= fit(zz)
        squares = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
        frame[charge] = np.sqrt(0.5 * squares + 3.0 * xy**2)
    return stress * (per_kelvin / (1.0 - solid.poisson_ratio))


def _airy(charge: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return what takes a rise at a charge's cells to `s_xx`, `s_yy` and `s_xy` at them.

    They are in units of `E alpha / (1 - nu)`; the shear is the mean of four corners.
    """
    padded = np.pad(charge, 1)
    inner = np.asarray(ndimage.binary_erosion(padded, np.ones((3, 3))))
    (i, j), unknowns = np.nonzero(padded), np.nonzero(inner)
    row, column = np.full(padded.shape, -1), np.arange(len(unknowns[0]))
    row[padded] = np.arange(len(i))
    five = ((0, 0, -4.0), (-1, 0, 1.0), (1, 0, 1.0), (0, -1, 1.0), (0, 1, 1.0))
    rows = np.concatenate([row[unknowns[0] + di, unknowns[1] + dj] for di, dj, _ in five])
    entries = np.repeat([entry for *_, entry in five], len(column))
    places = (rows, np.tile(column, 5))
    laplacian = csc_matrix((entries, places), shape=(len(i), len(column)))
    factors = factorise(csc_matrix(laplacian.T @ laplacian)) if len(column) else None

    def stress(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        phi = np.zeros(padded.shape)
        if factors:
            phi[unknowns] = factors.solve(-(laplacian.T @ theta))
        xx = phi[i, j - 1] - 2.0 * phi[i, j] + phi[i, j + 1]
        yy = phi[i - 1, j] - 2.0 * phi[i, j] + phi[i + 1, j]
        xy = phi[i + 1, j - 1] + phi[i - 1, j + 1] - phi[i + 1, j + 1] - phi[i - 1, j - 1]
        return xx, yy, 0.25 * xy

    return stress


def _plane_fit(charge: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a least-squares fit of `a + b x + c y` to values at a charge's cells, by pieces."""
    labels, number = ndimage.label(charge)  # type: ignore[misc]
    piece, points = labels[charge], np.argwhere(charge).astype(float)
    pieces = []
    for label in range(1, number + 1):
        cells = np.nonzero(piece == label)[0]
        x, y = (points[cells] - points[cells].mean(axis=0)).T
        basis = np.stack([np.ones(len(cells)), x, y])
        gram = np.einsum("ac,bc->ab", basis, basis)
        pieces.append((cells, basis, np.linalg.pinv(gram, hermitian=True)))

    def fitted(values: np.ndarray) -> np.ndarray:
        fit = np.empty_like(values)
        for cells, basis, inverse in pieces:  # sums whose order no library chooses
            moments = np.einsum("bc,c->b", basis, values[cells])
            fit[cells] = np.einsum("bc,ba,a->c", basis, inverse, moments)
        return fit

    return fitted


def stress_by_displacements(charge: np.ndarray, rise: np.ndarray, solid: Solid) -> np.ndarray:
    """Return von Mises' stress as `thermal_stress` does, by the dual scheme, for checks.

    Unknowns are displacements at the faces of cells (`u` at those across x, `v` at those across y);
    normal strains lie at the cells, shear at corners that four cells of the charge share; at other
    corners there is no shear stress. Forces balance at every face. Both give the same stresses, by
    other unknowns, another matrix and Lame's constants; NaN where a piece falls apart.
    """
    nu = solid.poisson_ratio
    shear = 0.5 / (1.0 + nu)  # Lame's constants, in units of E
    lame = nu / ((1.0 + nu) * (1.0 - 2.0 * nu))
    pressure = (3.0 * lame + 2.0 * shear) * solid.thermal_expansion * rise[:, charge].T

    corners = np.pad(_shared(charge), 1)
    around = corners[1:, 1:] | corners[1:, :-1] | corners[:-1, 1:] | corners[:-1, :-1]
    stiff = charge & around  # other cells have no shear that would hold them
    plane = np.zeros((3, *pressure.shape))
    plane[:, stiff[charge]] = _balanced(stiff, pressure[stiff[charge]], lame, shear)
    xx, yy, xy = plane
    spread = ((xx + yy) / 2.0 + pressure) / (lame + shear)  # u_x + v_y
    zz = lame * spread - pressure
    if not solid.ends_held:
        zz -= _bending(charge, zz)
    mean = (xx + yy + zz) / 3.0
    deviator = (xx - mean) ** 2 + (yy - mean) ** 2 + (zz - mean) ** 2 + 2.0 * xy**2
    stress = np.zeros(rise.shape)
    stress[:, charge] = solid.youngs_modulus * np.sqrt(1.5 * deviator).T
    return stress


def _balanced(
    charge: np.ndarray, pressure: np.ndarray, lame: float, shear: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the stresses within the plane, by displacements that balance a pressure in cells."""
    cells, corners = np.count_nonzero(charge), np.count_nonzero(_shared(charge))
    strain = _strains(charge)
    moving = np.setdiff1d(np.flatnonzero(np.diff(strain.indptr)), _three_of_each_piece(charge))
    strain = csc_matrix(strain[:, moving])
    one = identity(cells)
    both = (lame + 2.0 * shear) * one
    normal = vstack([hstack([both, lame * one]), hstack([lame * one, both])])
    law = block_diag([normal, shear * identity(corners)], format="csc")
    load = np.concatenate([pressure, pressure, np.zeros((corners, pressure.shape[1]))])
    try:
        factors = factorise(csc_matrix(strain.T @ law @ strain))
    except RuntimeError:  # exactly singular
        return tuple(np.full((3, *pressure.shape), math.nan))
    tension = law @ (strain @ factors.solve(strain.T @ load)) - load

    at_corners = np.concatenate([tension[2 * cells :], np.zeros((1, pressure.shape[1]))])
    number = np.full((charge.shape[0] + 1, charge.shape[1] + 1), corners)
    number[1:-1, 1:-1][_shared(charge)] = np.arange(corners)
    i, j = np.nonzero(charge)
    four = (number[i, j], number[i + 1, j], number[i, j + 1], number[i + 1, j + 1])
    xy = sum(at_corners[corner] for corner in four) / 4.0
    return tension[:cells], tension[cells : 2 * cells], np.asarray(xy)


def _strains(charge: np.ndarray) -> csc_matrix:
    """Return what takes `u` and `v` at all faces to `u_x` and `v_y` at cells and shear between."""
    n, m = charge.shape

    def difference(size: int) -> np.ndarray:
        return np.diff(np.eye(size + 1), axis=0)

    def inner(size: int) -> np.ndarray:  # all faces but the first and the last one
        return np.eye(size + 1)[1:-1]

    along_x = csr_matrix(kron(difference(n), np.eye(m)))[charge.ravel()]
    along_y = csr_matrix(kron(np.eye(n), difference(m)))[charge.ravel()]
    turning = hstack([kron(inner(n), difference(m - 1)), kron(difference(n - 1), inner(m))])
    shear = csr_matrix(turning)[_shared(charge).ravel()]
    return csc_matrix(vstack([block_diag([along_x, along_y]), shear]))


def _shared(charge: np.ndarray) -> np.ndarray:
    """Return which of the corners inside the grid have four cells of the charge around them."""
    return charge[1:, 1:] & charge[1:, :-1] & charge[:-1, 1:] & charge[:-1, :-1]


def _three_of_each_piece(charge: np.ndarray) -> np.ndarray:
    """Return three displacements of each piece that keep it from moving and turning as a whole."""
    labels, number = ndimage.label(charge)  # type: ignore[misc]
    n, m = charge.shape
    held = []
    for label in range(1, number + 1):
        i, j = np.argwhere(_shared(labels == label))[0]
        held += [i * m + j, i * m + j + 1, (n + 1) * m + i * (m + 1) + j]
    return np.array(held, dtype=int)


def _bending(charge: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the linear function of place that has the force and moments of each piece."""
    labels, number = ndimage.label(charge)  # type: ignore[misc]
    linear = np.zeros_like(values)
    for label in range(1, number + 1):
        cells = labels[charge] == label
        places = np.argwhere(labels == label)
        basis = np.column_stack([np.ones(len(places)), places])
        linear[cells] = basis @ np.linalg.lstsq(basis, values[cells], rcond=None)[0]
    return linear
