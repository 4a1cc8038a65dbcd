"""Rings: exact solutions, order, independent codes, symmetry, checks; furnaces as drawn."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from scipy.special import jv, jvp, yv, yvp

from mno.core.errors import MnoError
from mno.scenarios.base import make_scenario
from mno.scenarios.check import failed_checks, solved_sample
from mno.scenarios.furnace_ring import FurnaceRing, FurnaceRingParameters
from mno.scenarios.kernels.furnaces import draw_round_furnace
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum, draw_at
from mno.scenarios.kernels.ring_mesh import SWING, RingMesh, draw_curve
from tests.scenarios.measures import assert_orders, relative

HOLE = 0.3


def ring(resolution=16, **parameters):
    return make_scenario("darcy_ring", resolution, parameters)


def round_ring(resolution):
    """The points between two circles, by polar coordinates, float64."""
    mesh = RingMesh(2 * resolution, resolution // 2)
    ones = np.ones(mesh.around)
    x, y = mesh.place(HOLE * ones, ones)
    return {"x": x, "y": y, "radius": np.hypot(x, y), "angle": np.arctan2(y, x)}


def pressure(resolution, permeability):
    places = round_ring(resolution)
    inputs = {"x": places["x"], "y": places["y"], "permeability": permeability}
    return ring(resolution).solve(inputs)["pressure"]


@pytest.mark.parametrize("kind", ["even", "growing"])
def test_it_is_of_second_order_on_exact_solutions(kind):
    errors = []
    for resolution in (16, 32, 64):
        r = round_ring(resolution)["radius"]
        if kind == "even":
            exact, permeability = (1 - r**2) / 4 + HOLE**2 / 2 * np.log(r), np.ones_like(r)
        else:
            exact, permeability = (1 - r) / 2 - HOLE**2 / 2 * (1 / r - 1), r
        errors.append(relative(pressure(resolution, permeability), exact))
    assert errors[-1] < 1e-3
    assert_orders(errors, 1.85, 2.15)


def polar(permeability, rays, rings):
    """The same equation by finite volumes on a polar grid; radii, angles and pressures."""
    dr, dt = (1 - HOLE) / rings, 2 * np.pi / rays
    r = HOLE + dr * (np.arange(rings) + 0.5)
    t = dt * np.arange(rays)
    number = np.arange(rays * rings).reshape(rays, rings)
    rows, columns, entries = [], [], []

    def connect(one, other, weight):
        for a, b in ((one, other), (other, one)):
            rows.extend([a.ravel(), a.ravel()])
            columns.extend([a.ravel(), b.ravel()])
            entries.extend([weight.ravel(), -weight.ravel()])

    faces = r[:-1] + dr / 2
    through = permeability(faces[None], t[:, None]) * faces * dt / dr
    connect(number[:, :-1], number[:, 1:], through)
    along = permeability(r[None], t[:, None] + dt / 2) * dr / (r * dt)
    connect(number, np.roll(number, -1, axis=0), along)
    rows.append(number[:, -1])
    columns.append(number[:, -1])
    entries.append(permeability(np.ones((1, 1)), t[:, None])[:, 0] * dt / (dr / 2))
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_matrix((np.concatenate(entries), places)).tocsc()
    load = np.broadcast_to(r * dr * dt, number.shape).ravel()
    return r, t, spsolve(matrix, load).reshape(rays, rings)


def test_an_independent_code_finds_the_same_solution():
    def permeability(radius, angle):
        return np.exp(0.8 * np.cos(2 * angle) * radius + 0.5 * np.sin(angle))

    places = round_ring(64)
    found = pressure(64, permeability(places["radius"], places["angle"])).reshape(32, 128)
    r, _, expected = polar(permeability, rays=128, rings=124)
    # Rings of ours lie between those of the other code; along rays both have the same angles.
    radii = HOLE + (1 - HOLE) * np.arange(1, 31) / 31
    beside = np.stack([np.interp(radii, r, along) for along in expected], axis=1)
    assert relative(found[1:-1], beside) < 3e-3


def test_points_fit_the_walls_and_triangles_fill_the_ring():
    mesh = RingMesh(64, 16)
    rng = np.random.default_rng(0)
    inner, outer = (r * draw_curve(rng, mesh.angles(), 0.2) for r in (0.3, 1.0))
    x, y = mesh.place(inner, outer)
    np.testing.assert_allclose(np.hypot(x, y)[mesh.inner], inner)
    np.testing.assert_allclose(np.hypot(x, y)[mesh.outer], outer)
    corners = np.stack([x, y], axis=-1)[mesh.triangles]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    sizes = (ax * by - ay * bx) / 2
    assert sizes.min() > 0

    def shoelace(curve: slice) -> float:
        u, v = x[curve], y[curve]
        return float(np.sum(u * np.roll(v, -1) - v * np.roll(u, -1)) / 2)

    assert sizes.sum() == pytest.approx(shoelace(mesh.outer) - shoelace(mesh.inner))
    assert sorted(set(mesh.triangles.ravel())) == list(range(mesh.num_points))


def test_curves_swing_no_further_than_is_said():
    angles = np.linspace(0, 2 * np.pi, 500)
    swings = [
        np.abs(draw_curve(np.random.default_rng(k), angles, 0.1) - 1).max() for k in range(300)
    ]
    assert 0.3 * SWING < max(swings) / 0.1 < SWING


def test_one_draw_is_one_curve_and_one_field_on_every_mesh():
    coarse, fine = RingMesh(16, 4).angles(), RingMesh(32, 4).angles()
    a, b = (draw_curve(np.random.default_rng(1), angles, 0.1) for angles in (coarse, fine))
    np.testing.assert_allclose(b[::2], a)
    variances = covariance_spectrum(3.0, 5.0, 4.0)
    points = np.array([0.1, 0.35, 0.8])
    grid = cosine_field(points, variances).draw(np.random.default_rng(2))
    x, y = (places.ravel() for places in np.meshgrid(points, points, indexing="ij"))
    np.testing.assert_allclose(draw_at(np.random.default_rng(2), variances, x, y), grid.ravel())


def test_a_turned_ring_has_the_turned_solution():
    scenario = ring(16)
    inputs = scenario.sample(np.random.default_rng(0))
    found = scenario.solve(inputs)["pressure"].reshape(8, 32)
    # By two rays, so that the diagonals of the mesh turn with it.
    turned = {name: np.roll(field.reshape(8, 32), 2, 1).ravel() for name, field in inputs.items()}
    again = scenario.solve(turned)["pressure"].reshape(8, 32)
    np.testing.assert_allclose(again, np.roll(found, 2, 1), rtol=1e-5, atol=1e-7)


def test_checks_catch_a_mesh_that_is_folded():
    scenario = ring()
    inputs, outputs = solved_sample(scenario)
    for name in "xy":
        inputs[name][70] = inputs[name][102]
    assert "mesh" in failed_checks(scenario, inputs, outputs)


INNER, OUTER = 0.2, 0.5  # m
CONDUCTIVITY, HEAT_CAPACITY = 1.5, 1.5e6
FILMS = {"crucible_transfer_coefficient": 30.0, "shell_transfer_coefficient": 10.0}


def round_ring_conduction(resolution, frames):
    """One material between two circles, without power, at the ambient temperature of 300 K."""
    mesh = RingMesh(2 * resolution, resolution // 2)
    ones = np.ones(mesh.num_points)
    x, y = mesh.place(INNER * ones[mesh.inner], OUTER * ones[mesh.inner])
    return {
        "x": x, "y": y, "conductivity": CONDUCTIVITY * ones, "heat_capacity": HEAT_CAPACITY * ones,
        "power": np.zeros((frames, mesh.num_points)), "ambient_temperature": np.array(300.0),
        "temperature": 300.0 * ones,
    }  # fmt: skip


def last_frame(resolution, inputs, **parameters):
    scenario = make_scenario(
        "furnace_ring", resolution, {"frames": len(inputs["power"]), **FILMS, **parameters}
    )
    return scenario.solve(inputs)["temperature"][-1].astype(np.float64)


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
        inputs = round_ring_conduction(n, frames=11)
        inputs["power"] += power
        radius = np.hypot(inputs["x"], inputs["y"])
        exact = c + d * np.log(radius) - power * radius**2 / (4 * k)
        rise = last_frame(n, inputs, duration=1e7) - 300.0
        errors.append(relative(rise, exact))
    assert errors[-1] < 1e-3
    assert_orders(errors, 1.9, 2.15)


def decaying_mode(waves):
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
        inputs = round_ring_conduction(n, frames=5)
        radius, angle = np.hypot(inputs["x"], inputs["y"]), np.arctan2(inputs["y"], inputs["x"])
        mode = (a * jv(2, mu * radius) + b * yv(2, mu * radius)) * np.cos(2 * angle)
        mode *= 200.0 / np.abs(mode).max()
        inputs["temperature"] = 300.0 + mode
        later = last_frame(n, inputs, duration=1 / rate, steps_per_frame=16) - 300.0
        errors.append(np.linalg.norm(later - mode / np.e) / np.linalg.norm(mode))
    assert errors[-1] < 5e-4
    assert_orders(errors, 1.9, 2.3)


def semi_discretisation(inputs, resolution, films):
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
    assert_orders(errors, 1.9, 2.15)
    assert errors[-1] < 1e-4 * rise.max()


def furnace(resolution=16, **parameters):
    scenario = make_scenario("furnace_ring", resolution, parameters)
    assert isinstance(scenario, FurnaceRing)
    return scenario


def on_rings(field, resolution):
    """A field by ring and ray, the last two axes of the result."""
    return field.reshape(*field.shape[:-1], resolution // 2, 2 * resolution)


def test_one_seed_is_one_furnace_at_every_resolution():
    # Every ninth of 64 rings is one of 8, every eighth of 256 rays one of 32.
    for seed in range(2):
        coarse, fine = (furnace(n).sample(np.random.default_rng(seed)) for n in (16, 128))
        for name, field in coarse.items():
            there = fine[name]
            if field.ndim:
                field, there = on_rings(field, 16), on_rings(there, 128)[..., ::9, ::8]
            np.testing.assert_allclose(there, field, rtol=1e-6, atol=1e-6)


def test_one_seed_gets_the_same_heat_in_any_number_of_frames():
    for seed in range(3):
        heats = [
            furnace(frames=frames).sample(np.random.default_rng(seed))["power"][:-1].mean(axis=0)
            for frames in (3, 25, 48)
        ]
        np.testing.assert_allclose(heats[0], heats[2], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(heats[1], heats[2], rtol=1e-5, atol=1e-3)


def test_furnaces_are_as_the_parameters_say():
    parameters = FurnaceRingParameters(variation=0.0, most_elements=4, warm_share=0.25)
    mesh = RingMesh(64, 30)
    drawn = [
        draw_round_furnace(parameters, np.random.default_rng(seed), mesh) for seed in range(99)
    ]
    assert {len(one.bells) for one in drawn} == {3, 4}
    assert 0.1 < np.mean([one.initial_rise.any() for one in drawn]) < 0.4
    for one in drawn:
        radius = np.hypot(one.ring["x"], one.ring["y"])
        inner, conductivity = radius[mesh.inner], one.ring["conductivity"]
        assert inner.min() > 0.85 * 0.17
        assert inner.max() < 1.15 * 0.25
        np.testing.assert_allclose(radius[mesh.outer], 0.5, rtol=0.02)
        assert 1.45 < conductivity[mesh.inner].min() <= conductivity[mesh.inner].max() < 3.0
        assert 0.2 < conductivity.min() < 0.55 < conductivity[mesh.outer].min() < 1.2
        hottest = np.argmax(one.bells, axis=1)
        assert np.all(hottest // 64 < 12), "elements lie in the inner third"
        assert np.all(np.max(one.bells, axis=1) > 0.7)
        power = one.power(50)
        assert power.min() >= 0.0
        assert power[15].max() > 0.4
    assert 0.4 < np.mean([one.power(50)[-1].max() == 0.0 for one in drawn]) < 1.0


def test_the_hottest_point_is_as_the_elements_were_sized():
    scenario = furnace(32, coolest_peak=1300.0, hottest_peak=1400.0)
    for seed in range(4):
        inputs, outputs = solved_sample(scenario, seed)
        assert 1250.0 < outputs["temperature"].max() < 1430.0
        assert outputs["temperature"].min() >= inputs["ambient_temperature"] >= 283.0


def test_the_temperatures_of_one_furnace_converge_with_second_order():
    places = {}
    for n, ring, ray in ((16, 1, 4), (44, 3, 11), (128, 9, 32)):
        scenario = furnace(n, frames=5, element_width=0.06, transition=0.3)
        last = solved_sample(scenario, seed=2)[1]["temperature"][-1].astype(float)
        places[n] = on_rings(last, n)[::ring, ::ray]
    errors = [np.sqrt(np.mean((places[n] - places[128]) ** 2)) for n in (16, 44)]
    # From 7 to 21 to 63 distances: 10 for order 2, 3.7 for order 1.
    assert 7.0 < errors[0] / errors[1] < 14.0
    assert errors[1] < 2e-3 * np.ptp(places[128])


def test_the_energy_balance_of_a_run_is_that_of_its_frames():
    scenario = furnace()
    inputs, outputs = solved_sample(scenario, seed=1)
    balance = scenario.balance(inputs)
    x, y = inputs["x"].astype(float), inputs["y"].astype(float)
    a, b, c = RingMesh(32, 8).triangles.T
    sizes = 0.5 * ((x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]))

    def total(field: np.ndarray) -> float:
        return float(np.sum(sizes * (field[a] + field[b] + field[c]) / 3.0))

    frames = outputs["temperature"].astype(float)
    content = total(inputs["heat_capacity"].astype(float) * (frames[-1] - frames[0]))
    assert balance.stored.sum() == pytest.approx(content, rel=1e-6)
    supplied = total(inputs["power"][:-1].astype(float).sum(axis=0)) * 3600.0
    assert balance.supplied.sum() == pytest.approx(supplied, rel=1e-12)
    assert balance.stored.sum() + balance.lost.sum() == pytest.approx(supplied, rel=1e-12)


def test_without_power_no_temperature_leaves_the_range_it_began_in():
    scenario = furnace(24, warm_share=1.0, shell_waviness=0.05, wear=0.15, frames=9)
    for seed in range(4):
        inputs = scenario.sample(np.random.default_rng(seed))
        inputs["power"][:] = 0.0
        frames = scenario.solve(inputs)["temperature"]
        assert frames.min() >= inputs["ambient_temperature"]
        assert np.all(np.diff(frames.max(axis=1)) <= 0.0)


def test_a_turned_furnace_has_the_turned_temperatures():
    scenario = furnace(frames=5)
    inputs, outputs = solved_sample(scenario, seed=3)

    def turned(field: np.ndarray) -> np.ndarray:
        # By two rays, so that the diagonals of the mesh turn with it.
        return np.roll(on_rings(field, 16), 2, -1).reshape(field.shape) if field.ndim else field

    angle = 0.3  # of the coordinates besides, which no scheme may notice
    again = {name: turned(field) for name, field in inputs.items()}
    x, y = again["x"].astype(float), again["y"].astype(float)
    again["x"] = x * np.cos(angle) - y * np.sin(angle)
    again["y"] = x * np.sin(angle) + y * np.cos(angle)
    found = scenario.solve(again)["temperature"]
    np.testing.assert_allclose(found, turned(outputs["temperature"]), rtol=3e-7)


def test_checks_catch_heat_that_is_missing_everywhere():
    scenario = furnace(frames=5)
    inputs, outputs = solved_sample(scenario, seed=1)
    outputs["temperature"][3] -= 0.01
    assert {"defect", "energy"} <= failed_checks(scenario, inputs, outputs)


@pytest.mark.filterwarnings("error")
def test_checks_catch_points_that_have_moved_and_a_mesh_that_is_folded():
    scenario = furnace(frames=3)
    inputs, outputs = solved_sample(scenario)
    inputs["x"][100] *= 1.001
    assert {"defect", "energy"} == failed_checks(scenario, inputs, outputs)
    for name in "xy":
        inputs[name][70] = inputs[name][102]
    assert {"mesh", "defect", "energy"} <= failed_checks(scenario, inputs, outputs)


def test_a_solution_that_is_not_finite_is_an_error():
    scenario = furnace(frames=5)
    inputs = scenario.sample(np.random.default_rng(0))
    with pytest.raises(MnoError, match="temperature of furnace_ring is not finite"):
        scenario.solve(inputs | {"power": np.full((5, 256), 1e300)})
