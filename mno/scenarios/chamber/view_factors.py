"""View factors between the faces of cells, by rays, and what gas absorbs on the way.

Glossary
    face     between a cell of gas and a cell that is solid, seen from the gas
    direct   A_i F_ij tau_ij, m2: the area of face i, the share of its diffuse radiation that goes
             to face j, and the transmittance of the gas between; symmetric, zero on the diagonal
    absorbed what is lost of the rays of a face to the gas of each zone, times its area, m2

Rays leave a face at random places with the cosine of their angle as weight (diffuse emission), and
go from cell to cell until they meet a solid (Amanatides and Woo 1987). Places and directions are
Sobol's points in four dimensions, shifted at random for each face, which err less than points at
random: in a box, half as much with 64 rays a face, and a third with 1024.

Of finite numbers of rays, `A_i F_ij` and `A_j F_ji` differ. Their mean is scaled by the same
factors from both sides, so that what leaves a face arrives: all rows have the sums that the areas
and the gas leave (scaling rows alone would break the symmetry).
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.stats import qmc

from mno.core.compiled import compiled, inlined
from mno.core.errors import MnoError

_NEVER = 1e30
CLOSURE = 1e-10
"""What rows may miss of their sums, relative."""
_SCALINGS = 2000


class Faces(NamedTuple):
    """The faces between gas and solids, in the order of the gas's cells."""

    gas: np.ndarray
    """Cell in front of each, `(face, 3)`, int64."""
    solid: np.ndarray
    """Cell behind each, `(face, 3)`, int64."""
    axis: np.ndarray
    """Axis that each is normal to, int64."""
    area: np.ndarray
    """m2."""
    index: np.ndarray
    """The face of a gas cell in each of six directions (x-, x+, y-, y+, z-, z+), else -1; shape
    `(x, y, z, 6)`, int32."""


class Views(NamedTuple):
    """What the faces of a chamber exchange by radiation, m2."""

    direct: sp.csr_matrix
    absorbed: np.ndarray  # shape `(face, zone)`


def find_faces(zone: np.ndarray, widths: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Faces:
    """Return the faces of all cells of gas, of `zone` 0 or more; an `MnoError` if it is open."""
    ends = [np.moveaxis(zone, axis, 0)[[0, -1]] for axis in range(3)]
    if any((end >= 0).any() for end in ends):
        raise MnoError("gas reaches the end of the cells; expected solids around it: close it")
    gas, solid, axes, direction = [], [], [], []
    for axis in range(3):
        for step in (-1, 1):
            behind = np.roll(zone, -step, axis)
            cells = np.argwhere((zone >= 0) & (behind < 0))
            gas.append(cells)
            solid.append(cells + step * np.eye(3, dtype=np.int64)[axis])
            axes.append(np.full(len(cells), axis))
            direction.append(np.full(len(cells), 2 * axis + (step > 0)))
    gas, solid = np.concatenate(gas), np.concatenate(solid)
    axis, way = np.concatenate(axes), np.concatenate(direction)
    order = np.lexsort((way, gas[:, 2], gas[:, 1], gas[:, 0]))
    gas, solid, axis, way = gas[order], solid[order], axis[order], way[order]
    lengths = np.stack([widths[a][gas[:, a]] for a in range(3)], axis=1)
    area = lengths.prod(axis=1) / lengths[np.arange(len(axis)), axis]
    index = np.full((*zone.shape, 6), -1, np.int32)
    index[gas[:, 0], gas[:, 1], gas[:, 2], way] = np.arange(len(gas))
    return Faces(gas, solid, axis, area, index)


def find_views(
    faces: Faces,
    zone: np.ndarray,
    widths: tuple[np.ndarray, np.ndarray, np.ndarray],
    num_zones: int,
    absorption: float,
    rays: int,
) -> Views:
    """Trace rays from every face, and return what the faces exchange.

    Absorption is that of the gas, 1/m. The same faces get the same rays anywhere. An `MnoError`
    says that a face sees no other, or rows do not come to their sums.
    """
    count = len(faces.area)
    edges = [np.concatenate([[0.0], np.cumsum(width)]) for width in widths]
    hits = np.empty((count, rays), np.int32)
    passed = np.empty((count, rays))
    absorbed = np.zeros((count, num_zones))
    points = qmc.Sobol(4, scramble=False).random_base2(math.ceil(math.log2(rays)))
    shifts = np.random.default_rng(0).random((count, 4))
    _trace(
        zone, *edges, faces.gas, faces.axis, faces.index, points, shifts, absorption, hits, passed,
        absorbed,
    )  # fmt: skip
    rows = np.repeat(np.arange(count), rays)
    weights = (passed * (faces.area / rays)[:, None]).ravel()
    one_way = sp.coo_matrix((weights, (rows, hits.ravel())), shape=(count, count)).tocsr()
    absorbed *= (faces.area / rays)[:, None]
    both = (0.5 * (one_way + one_way.T)).tocsr()
    both.sort_indices()
    return Views(_closed(both, faces.area - absorbed.sum(axis=1)), absorbed)


def _closed(matrix: sp.csr_matrix, sums: np.ndarray) -> sp.csr_matrix:
    """Scale a symmetric matrix from both sides, so that its rows have the sums given."""
    factors, missing = np.ones(len(sums)), math.inf
    for _ in range(_SCALINGS):
        found = factors * (matrix @ factors)
        if not found.all():
            raise MnoError("a face of the chamber sees no other; use more rays or wider gaps")
        missing = float(np.max(np.abs(found / sums - 1.0)))
        if missing <= CLOSURE:
            # In products of two factors, which are the same from either side to the last bit.
            rows = np.repeat(np.arange(len(sums)), np.diff(matrix.indptr))
            data = matrix.data * (factors[rows] * factors[matrix.indices])
            return sp.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape)
        factors *= np.sqrt(sums / found)
    raise MnoError(
        f"view factors miss {missing:.0e} of a face's area after {_SCALINGS} scalings, expected "
        f"{CLOSURE:.0e}; lower gas.absorption, or widen gaps and supports"
    )


@inlined
def _step(ray, place, edges, cell, axis):
    """Return the distance along a ray to where it leaves its cell along an axis."""
    if ray[axis] > 0.0:
        return (edges[cell[axis] + 1] - place[axis]) / ray[axis]
    if ray[axis] < 0.0:
        return (edges[cell[axis]] - place[axis]) / ray[axis]
    return _NEVER


@compiled
def _trace(
    zone, xs, ys, zs, gas, axes, index, points, shifts, absorption, hits, passed, absorbed,
):  # fmt: skip
    """Follow all rays; fill the face that each meets, what is left of it, and what gas absorbs."""
    count, rays = hits.shape
    ray, place, leave = np.empty(3), np.empty(3), np.empty(3)
    cell, number = np.empty(3, np.int64), np.empty(4)
    for face in range(count):
        axis = axes[face]
        i, j, k = gas[face, 0], gas[face, 1], gas[face, 2]
        # The solid lies on the lower side where the index there is this face.
        below = index[i, j, k, 2 * axis] == face
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for shot in range(rays):
            for d in range(4):
                number[d] = (shifts[face, d] + points[shot, d]) % 1.0
            cell[0], cell[1], cell[2] = i, j, k
            for d in range(3):
                edges = xs if d == 0 else (ys if d == 1 else zs)
                low, high = edges[cell[d]], edges[cell[d] + 1]
                share = number[0] if d == first else number[1]
                if d == axis:
                    share = 0.0 if below else 1.0
                place[d] = low + share * (high - low)
            angle, sine = 2.0 * np.pi * number[2], np.sqrt(number[3])
            ray[axis] = np.sqrt(1.0 - number[3]) * (1.0 if below else -1.0)
            ray[first], ray[second] = sine * np.cos(angle), sine * np.sin(angle)
            leave[0] = _step(ray, place, xs, cell, 0)
            leave[1] = _step(ray, place, ys, cell, 1)
            leave[2] = _step(ray, place, zs, cell, 2)
            left, gone = 1.0, 0.0
            while True:
                d = 0
                if leave[1] < leave[d]:
                    d = 1
                if leave[2] < leave[d]:
                    d = 2
                here = zone[cell[0], cell[1], cell[2]]
                if absorption > 0.0:
                    kept = np.exp(-absorption * (leave[d] - gone))
                    absorbed[face, here] += left * (1.0 - kept)
                    left *= kept
                    gone = leave[d]
                side = 1 if ray[d] > 0.0 else 0
                found = index[cell[0], cell[1], cell[2], 2 * d + side]
                if found >= 0:
                    hits[face, shot], passed[face, shot] = found, left
                    break
                cell[d] += 2 * side - 1
                edges = xs if d == 0 else (ys if d == 1 else zs)
                leave[d] = (edges[cell[d] + side] - place[d]) / ray[d]
