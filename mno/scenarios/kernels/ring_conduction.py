"""Heat conduction at the points of a ring with a film on either wall, stated and solved twice.

    C rise_t + (K + F) rise = S q

`rise` is the temperature above the ambient one, K, and `q` a power density, W/m3. Conductivity is
the mean of the corners in each triangle; heat capacity, power and films are lumped at the points.

A step has two stages of gamma = 1 - 1/sqrt(2) of its length, which share one matrix: the singly
diagonally implicit Runge-Kutta method of second order that is L-stable (Alexander 1977,
doi:10.1137/0714068). It starts afresh with each step, so a power that jumps between intervals costs
no order.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix, diags_array
from scipy.sparse.linalg import splu

from mno.scenarios.kernels import ring_mesh
from mno.scenarios.kernels.ring_mesh import Edges, RingMesh, factorise

GAMMA = 1.0 - math.sqrt(0.5)  # share of a step that a stage is long


class Network(NamedTuple):
    """Points that store heat and conduct it to each other and outwards, per metre of depth."""

    area: np.ndarray  # `S`, what belongs to each point, m2, shape `(point,)`
    capacity: np.ndarray  # `C`, heat stored per kelvin, J/(m K), likewise
    film: np.ndarray  # `F`, heat lost to the outside, W/(m K), likewise
    conductance: csc_matrix  # `K`, takes rises to what leaves each point, W/(m K)


def solve_conduction(
    network: Network, power: np.ndarray, initial: np.ndarray, ambient: float, interval: float,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Integrate from an initial temperature, in equal steps, with one sparse factorisation.

    Each interval, s, begins with the frame as it is stored and has its own `power`, W/m3, shape
    `(interval, point)`. Temperatures are in K. Returned are the frames, float32, shape
    `(interval + 1, point)`, and what is stored, supplied and lost in each interval, J/m, shape
    `(interval, 3)`.
    """
    step = interval / steps
    rate = network.capacity / (GAMMA * step)
    factors = factorise(csc_matrix(network.conductance + diags_array(rate + network.film)))
    frames = np.empty((len(power) + 1, len(initial)), np.float32)
    frames[0] = initial
    heat = np.empty((len(power), 3))
    for k, source in enumerate(power * network.area):
        begin = rise = frames[k].astype(np.float64) - ambient
        lost = 0.0
        for _ in range(steps):
            first = factors.solve(rate * rise + source)
            rise = rise + (1.0 / GAMMA - 1.0) * (first - rise)
            last = factors.solve(rate * rise + source)
            lost += step * np.sum(network.film * ((1.0 - GAMMA) * first + GAMMA * last))
            rise = last
        heat[k] = np.sum(network.capacity * (rise - begin)), interval * np.sum(source), lost
        frames[k + 1] = rise + ambient
    return frames, heat


def advance_again(
    network: Network, power: np.ndarray, rise: np.ndarray, interval: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """State the method a second time, by the rates of its stages, for checks.

    States of the `rise`, K, are advanced by one interval each, with their own `power`, W/m3; both
    have shape `(point, state)`. Returns the later rise, and the heat that each state has lost until
    then, J/m, shape `(state,)`.
    """
    step, share = interval / steps, 1.0 - 1.0 / math.sqrt(2.0)
    source = network.area[:, None] * power
    matrix = csc_matrix(network.conductance + diags_array(network.film))
    factors = splu(csc_matrix(diags_array(network.capacity) + share * step * matrix))
    lost = np.zeros(rise.shape[1])
    for _ in range(steps):
        first = factors.solve(source - matrix @ rise)  # K/s
        middle = rise + share * step * first
        last = rise + (1.0 - share) * step * first
        second = factors.solve(source - matrix @ last)
        rise = last + share * step * second
        passed = (1.0 - share) * middle + share * rise
        lost += step * np.einsum("p,pt->t", network.film, passed)
    return rise, lost


def assemble(
    mesh: RingMesh, x: np.ndarray, y: np.ndarray, conductivity: np.ndarray,
    heat_capacity: np.ndarray, films: tuple[float, float],
) -> Network:  # fmt: skip
    """Return the equation of a ring for the solver.

    Coordinates are in m, conductivity in W/(m K), heat capacity in J/(m3 K), shape `(point,)`, and
    films are what passes the inner and the outer wall, W/(m2 K).
    """
    area = ring_mesh.lumped(mesh.sizes(x, y), mesh.triangles, mesh.num_points)
    film = np.zeros(mesh.num_points)
    for rim, coefficient in zip((mesh.inner, mesh.outer), films, strict=True):
        edges = np.hypot(np.roll(x[rim], -1) - x[rim], np.roll(y[rim], -1) - y[rim])
        film[rim] = coefficient * (0.5 * (edges + np.roll(edges, 1)))  # half of both of a corner
    means = conductivity[mesh.triangles].mean(axis=1)
    conductance = ring_mesh.stiffness(x, y, mesh.triangles, means)
    return Network(area, heat_capacity * area, film, conductance)


def restate(
    mesh: RingMesh, edges: Edges, x: np.ndarray, y: np.ndarray, heat_capacity: np.ndarray,
    films: tuple[float, float],
) -> Network:  # fmt: skip
    """Return the same equation edge by edge, for checks; it shares no arithmetic with `assemble`.

    The edges are those of the mesh's triangles, with the conductivity in them.
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
