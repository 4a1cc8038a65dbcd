"""Thermal stress once more: in displacements, for checks.

The scheme of `thermal_stress.py` has a dual one: displacements at the faces of cells (`u` at those
across x, `v` at those across y), normal strains at the cells and shear at corners that four cells
of the charge share; at other corners there is no shear stress. Forces balance at every face. Both
give the same stresses, by other unknowns, another matrix and Lame's constants.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.sparse import block_diag, csc_matrix, csr_matrix, hstack, identity, kron, vstack

from mno.scenarios.kernels.thermal_stress import Solid
from mno.scenarios.kernels.triangles import factorise


def stress_by_displacements(charge: np.ndarray, rise: np.ndarray, solid: Solid) -> np.ndarray:
    """Return von Mises' equivalent stress as `thermal_stress` does; NaN where a piece falls apart.

    Args:
        charge: Which cells are charge, shape `(x, y)`.
        rise: Temperature above that of the state without stress, K, shape `(time, x, y)`.
        solid: What the charge is made of.
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
