"""Heat conduction in a ring: exact solutions, order in space and time, an independent code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import jv, jvp, yv, yvp

from mno.scenarios.base import make_scenario
from mno.scenarios.kernels.ring_mesh import RingMesh

INNER, OUTER = 0.2, 0.5  # m
CONDUCTIVITY, HEAT_CAPACITY = 1.5, 1.5e6
FILMS = {"crucible_transfer_coefficient": 30.0, "shell_transfer_coefficient": 10.0}


def round_ring(resolution: int, frames: int) -> dict[str, np.ndarray]:
    """One material between two circles, without power, at the ambient temperature of 300 K."""
    mesh = RingMesh(2 * resolution, resolution // 2)
    ones = np.ones(mesh.num_points)
    x, y = mesh.place(INNER * ones[mesh.inner], OUTER * ones[mesh.inner])
    return {
        "x": x, "y": y, "conductivity": CONDUCTIVITY * ones, "heat_capacity": HEAT_CAPACITY * ones,
        "power": np.zeros((frames, mesh.num_points)), "ambient_temperature": np.array(300.0),
        "temperature": 300.0 * ones,
    }  # fmt: skip


def last_frame(resolution: int, inputs: dict[str, np.ndarray], **parameters: float) -> np.ndarray:
    scenario = make_scenario(
        "furnace_ring", resolution, {"frames": len(inputs["power"]), **FILMS, **parameters}
    )
    return scenario.solve(inputs)["temperature"][-1].astype(np.float64)


def orders(errors: list[float]) -> np.ndarray:
    return np.log2(np.divide(errors[:-1], errors[1:]))


def relative(error: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(error) / np.linalg.norm(exact))


def test_it_is_of_second_order_on_a_steady_state_with_films_on_both_walls():
    power, k, (h, g) = 2e4, CONDUCTIVITY, FILMS.values()
    # rise = c + d ln r - power r^2 / 4 k, with k rise' = h rise inside and -g rise outside
    c, d = np.linalg.solve(
        [[-h, k / INNER - h * np.log(INNER)], [g, k / OUTER + g * np.log(OUTER)]],
        [
            power * (INNER / 2 - h * INNER**2 / (4 * k)),
            power * (OUTER / 2 + g * OUTER**2 / (4 * k)),
        ],
    )
    errors = []
    for n in (16, 32, 64):
        inputs = round_ring(n, frames=11)
        inputs["power"] += power
        radius = np.hypot(inputs["x"], inputs["y"])
        exact = c + d * np.log(radius) - power * radius**2 / (4 * k)
        rise = last_frame(n, inputs, duration=1e7) - 300.0
        errors.append(relative(rise - exact, exact))
    assert errors[-1] < 1e-3
    assert all(1.9 < order < 2.15 for order in orders(errors))


def decaying_mode(waves: int) -> tuple[float, float, float]:
    """`mu` and weights with which `(a J + b Y)(mu r) cos(waves t)` fits the films on both walls."""

    def flux(bessel, slope, radius: float, film: float, mu: float) -> float:
        outwards = CONDUCTIVITY * mu * slope(waves, mu * radius)
        return film * bessel(waves, mu * radius) + (outwards if radius == OUTER else -outwards)

    def fluxes(mu: float) -> np.ndarray:
        places = zip((INNER, OUTER), FILMS.values(), strict=True)
        return np.array([[flux(*f, *at, mu) for f in ((jv, jvp), (yv, yvp))] for at in places])

    mu = brentq(lambda mu: float(np.linalg.det(fluxes(mu))), 7.0, 10.0)
    a, b = fluxes(mu)[0]
    return float(mu), b, -a


def test_it_is_of_second_order_on_a_mode_that_decays_exactly():
    mu, a, b = decaying_mode(2)
    rate = CONDUCTIVITY / HEAT_CAPACITY * mu**2
    errors = []
    for n in (16, 32, 64):
        inputs = round_ring(n, frames=5)
        radius, angle = np.hypot(inputs["x"], inputs["y"]), np.arctan2(inputs["y"], inputs["x"])
        mode = (a * jv(2, mu * radius) + b * yv(2, mu * radius)) * np.cos(2 * angle)
        mode *= 200.0 / np.abs(mode).max()
        inputs["temperature"] = 300.0 + mode
        later = last_frame(n, inputs, duration=1 / rate, steps_per_frame=16) - 300.0
        errors.append(relative(later - mode / np.e, mode))
    assert errors[-1] < 5e-4
    assert all(1.9 < order < 2.3 for order in orders(errors))


def semi_discretisation(inputs: dict[str, np.ndarray], resolution: int, films: tuple[float, float]):
    """Matrix and source of `rise_t = source - matrix rise`, triangle by triangle, dense."""
    mesh = RingMesh(2 * resolution, resolution // 2)
    places = np.stack([inputs["x"], inputs["y"]], axis=-1)
    stiffness, area = np.zeros((len(places), len(places))), np.zeros(len(places))
    for corners in mesh.triangles:
        plane = np.column_stack([np.ones(3), places[corners]])
        size = 0.5 * np.linalg.det(plane)
        gradients = np.linalg.inv(plane)[1:]
        mean = inputs["conductivity"][corners].mean()
        stiffness[np.ix_(corners, corners)] += mean * size * gradients.T @ gradients
        area[corners] += size / 3.0
    for rim, film in zip((mesh.inner, mesh.outer), films, strict=True):
        numbers = np.arange(mesh.num_points)[rim]
        for one, other in zip(numbers, np.roll(numbers, 1), strict=True):
            half = 0.5 * film * np.linalg.norm(places[one] - places[other])
            stiffness[one, one] += half
            stiffness[other, other] += half
    capacity = inputs["heat_capacity"] * area
    return stiffness / capacity[:, None], inputs["power"] / inputs["heat_capacity"]


@pytest.mark.parametrize("seed", [0, 1])
def test_an_independent_code_finds_the_same_run_and_the_order_in_time_is_two(seed):
    n, parameters = 10, {"frames": 4, "element_width": 0.1, "transition": 0.3}
    inputs = make_scenario("furnace_ring", n, parameters).sample(np.random.default_rng(seed))
    inputs = {name: field.astype(np.float64) for name, field in inputs.items()}
    matrix, source = semi_discretisation(inputs, n, (30.0, 10.0))
    rise = inputs["temperature"] - inputs["ambient_temperature"]
    for heating in source[:-1]:
        run = solve_ivp(
            lambda _, u, heating=heating: heating - matrix @ u, (0.0, 86400.0 / 3), rise,
            method="Radau", jac=-matrix, rtol=1e-9, atol=1e-7,
        )  # fmt: skip
        rise = run.y[:, -1]
    exact, errors = rise + inputs["ambient_temperature"], []
    for steps in (4, 8, 16, 32):
        found = last_frame(n, inputs, **parameters, steps_per_frame=steps)
        errors.append(float(np.max(np.abs(found - exact))))
    assert all(1.9 < order < 2.15 for order in orders(errors))
    assert errors[-1] < 1e-4 * rise.max()
