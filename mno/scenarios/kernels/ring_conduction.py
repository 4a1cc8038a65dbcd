"""Heat conduction in a ring of triangles with a film on either wall, stated twice.

Conductivity is the mean of the corners in each triangle; heat capacity, power and films are lumped
at the points.
"""

from __future__ import annotations

import numpy as np

from mno.scenarios.kernels.edges import Edges
from mno.scenarios.kernels.point_conduction import Network
from mno.scenarios.kernels.ring import RingMesh, rim_lengths
from mno.scenarios.kernels.triangles import areas, lumped, stiffness


def assemble(
    mesh: RingMesh,
    x: np.ndarray,
    y: np.ndarray,
    conductivity: np.ndarray,
    heat_capacity: np.ndarray,
    films: tuple[float, float],
) -> Network:
    """Return the equation of a ring for the solver.

    Args:
        mesh: The ring's mesh.
        x: Coordinates of the points, m, shape `(point,)`.
        y: Likewise.
        conductivity: W/(m K), likewise.
        heat_capacity: J/(m3 K), likewise.
        films: What passes the inner and the outer wall, W/(m2 K).
    """
    triangles = mesh.triangles()
    area = lumped(areas(x, y, triangles), triangles, mesh.num_points)
    film = np.zeros(mesh.num_points)
    for rim, coefficient in zip((mesh.inner, mesh.outer), films, strict=True):
        film[rim] = coefficient * rim_lengths(x[rim], y[rim])
    conductance = stiffness(x, y, triangles, conductivity[triangles].mean(axis=1))
    return Network(area, heat_capacity * area, film, conductance)


def restate(
    mesh: RingMesh,
    edges: Edges,
    x: np.ndarray,
    y: np.ndarray,
    heat_capacity: np.ndarray,
    films: tuple[float, float],
) -> Network:
    """Return the same equation edge by edge, for checks; it shares no arithmetic with `assemble`.

    Args:
        mesh: The ring's mesh.
        edges: Of its triangles, with the conductivity in them.
        x: Coordinates of the points, m, shape `(point,)`.
        y: Likewise.
        heat_capacity: J/(m3 K), likewise.
        films: What passes the inner and the outer wall, W/(m2 K).
    """
    numbers, film = np.arange(mesh.num_points), np.zeros(mesh.num_points)
    for rim, coefficient in zip((mesh.inner, mesh.outer), films, strict=True):
        begin = numbers[rim]
        end = np.roll(begin, -1)
        length = np.sqrt((x[end] - x[begin]) ** 2 + (y[end] - y[begin]) ** 2)
        for points in (begin, end):
            film[points] += 0.5 * coefficient * length
    area = edges.shares()
    return Network(area, area * heat_capacity, film, edges.matrix())
