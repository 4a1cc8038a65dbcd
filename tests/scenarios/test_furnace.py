"""Furnaces: exact solutions, orders, an independent code, heat; plants and runs as drawn."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.sparse import diags_array

from mno.core.errors import InputError, MnoError
from mno.scenarios import furnace as module
from mno.scenarios import linear
from mno.scenarios.base import make_scenario
from mno.scenarios.furnace import Furnace, FurnaceParameters
from mno.scenarios.kernels.furnaces import draw_plant
from mno.scenarios.kernels.heat_conduction import advance_directly, solve_heat_conduction
from tests.scenarios.contract import solved_sample
from tests.scenarios.measures import (
    assert_orders,
    assert_threads_give_the_bits_of_one,
    five_points,
    relative,
)

AMBIENT, FILM = 300.0, 10.0  # K, W/(m2 K)


def integrate(
    conductivity, capacity, power, rise, interval, steps, side=1.0, film=FILM, dtype=np.float64
):
    """Rise above the ambient temperature at all frames, and the heat of each interval."""
    n, h = len(conductivity), side / len(conductivity)
    frames = np.empty((len(power), n, n), dtype)
    initial = AMBIENT + np.broadcast_to(rise, (n, n))
    given = (np.ascontiguousarray(field) for field in (conductivity, capacity, power, initial))
    heat, _, residual = solve_heat_conduction(
        *given, AMBIENT, film * h, h, interval, steps, 1e-12, 500, frames
    )  # fmt: skip
    assert residual <= 1e-12
    return frames.astype(float) - AMBIENT, heat


def matrix(conductivity, side=1.0, film=FILM):
    """What flows out of each cell per kelvin, W/(m K)."""
    h = side / len(conductivity)
    return five_points(conductivity, lambda here: h / (h / (2.0 * here) + 1.0 / film))


def furnace(n, frames=4):
    """Lining, one piece and gas with two burners of changing power; nothing is symmetric."""
    x = (np.arange(n) + 0.5) / n
    wall = (x < 0.2) | (x > 0.85)
    wall = wall[:, None] | wall[None, :]
    piece = ((x > 0.3) & (x < 0.55))[:, None] & (x < 0.5)[None, :] & ~wall
    conductivity = np.where(wall, 0.8, np.where(piece, 30.0, 60.0))
    capacity = np.where(wall, 1.5e6, np.where(piece, 5e6, 400.0))
    bell = np.exp(-((x - 0.3) ** 2)[:, None] / 0.01 - ((x - 0.7) ** 2)[None, :] / 0.01)
    levels = 1e5 * np.resize([1.0, 0.3, 0.8], frames)
    power = levels[:, None, None] * np.where(wall | piece, 0.0, bell + 0.5 * bell[::-1])
    return conductivity, capacity, power, np.where(piece, 0.0, np.where(wall, 200.0, 700.0))


def cooling_slab(x, fourier, biot):
    """A slab of half thickness 1/2 that cools from 1 through its film: the series solution."""
    total = np.zeros_like(x)
    for k in range(40):
        low, high = k * np.pi + 1e-12, k * np.pi + np.pi / 2 - 1e-12
        z = brentq(lambda z: z * np.sin(z) - biot * np.cos(z), low, high)
        weight = 4.0 * np.sin(z) / (2.0 * z + np.sin(2.0 * z))
        total += weight * np.exp(-(z**2) * fourier) * np.cos(z * (2.0 * x - 1.0))
    return total


@pytest.mark.slow
def test_a_uniform_square_cools_as_the_product_of_two_slabs():
    kappa, capacity, time = 5.0, 1e6, 2e4
    errors = []
    for n in (8, 16, 32, 64):
        x = (np.arange(n) + 0.5) / n
        slab = cooling_slab(x, kappa / capacity * time / 0.25, FILM * 0.5 / kappa)
        found, _ = integrate(
            np.full((n, n), kappa), np.full((n, n), capacity), np.zeros((2, n, n)), 500.0, time, n
        )
        errors.append(relative(found[-1], 500.0 * np.outer(slab, slab)))
    assert_orders(errors, 1.8, 2.2)
    assert errors[-1] < 1e-4


def test_the_steady_state_of_a_composite_wall_is_exact():
    # Layers along x and a heated sheet in one column of cells. The side walls are given what they
    # lose, so nothing depends on y: resistances in series on either side of the sheet.
    n, h, sheet, supplied = 16, 1.0 / 16, 9, 4000.0
    kappa = np.repeat([0.5, 3.0, 40.0, 1.2], 4)
    conductivity = np.repeat(kappa[:, None], n, axis=1)
    resistance = h / 2 / kappa
    to_left = 1.0 / FILM + np.cumsum(2 * resistance) - resistance  # from each centre, m2 K/W
    to_right = 1.0 / FILM + np.cumsum(2 * resistance[::-1])[::-1] - resistance
    peak = supplied / (1.0 / to_left[sheet] + 1.0 / to_right[sheet])
    rise = peak * np.minimum(to_left / to_left[sheet], to_right / to_right[sheet])
    power = np.zeros((4, n, n))
    power[:, sheet] = supplied / h
    for edge in (0, -1):
        power[:, :, edge] += rise / (resistance + 1.0 / FILM) / h
    found, heat = integrate(conductivity, np.full((n, n), 1e6), power, 0.0, 1e12, 1)
    np.testing.assert_allclose(found[-1], np.repeat(rise[:, None], n, axis=1), rtol=1e-8)
    assert heat[-1, 2] == pytest.approx(heat[-1, 1], rel=1e-9)


def manufactured_error(n):
    """Error of a steady state `g(x) g(y)`, which has the film at the wall, for a smooth kappa."""
    x = (np.arange(n) + 0.5) / n
    beta = brentq(lambda b: b * np.tan(b / 2) - FILM, 0.1, 3.1)
    g, g_x = np.cos(beta * (x - 0.5)), -beta * np.sin(beta * (x - 0.5))
    sine, sine_x = np.sin(np.pi * x) ** 2, np.pi * np.sin(2 * np.pi * x)
    kappa = 1.0 + 0.5 * np.outer(sine, sine)  # 1 at the wall
    divergence = 0.5 * np.outer(sine_x * g_x, sine * g) + 0.5 * np.outer(sine * g, sine_x * g_x)
    divergence -= 2.0 * beta**2 * kappa * np.outer(g, g)
    power = np.repeat(-divergence[None], 4, axis=0)
    found, _ = integrate(kappa, np.ones((n, n)), power, 0.0, 1e6, 1)
    return relative(found[-1], np.outer(g, g))


def test_the_order_in_space_is_two_for_smooth_materials():
    errors = [manufactured_error(n) for n in (8, 16, 32, 64)]
    assert_orders(errors, 1.8, 2.2)
    assert errors[-1] < 1e-3


def test_the_order_in_time_is_two():
    n = 16
    x = (np.arange(n) + 0.5) / n
    smooth = 500.0 * np.outer(np.sin(np.pi * x), np.sin(np.pi * x) + 0.5)
    case = np.full((n, n), 5.0), np.full((n, n), 1e6), np.full((2, n, n), 1e4), smooth, 2e4
    expected = integrate(*case, 512)[0][-1]
    errors = [relative(integrate(*case, steps)[0][-1], expected) for steps in (8, 16, 32, 64)]
    assert_orders(errors, 1.8, 2.2)


def test_an_independent_code_finds_the_same_temperatures():
    n, interval = 12, 1800.0
    conductivity, capacity, power, rise = furnace(n)
    flow, storage = matrix(conductivity), capacity.ravel() / n**2
    state, expected = rise.ravel(), []
    for frame in range(3):
        supplied = power[frame].ravel() / n**2
        found = solve_ivp(
            lambda _, theta, q=supplied: (q - flow @ theta) / storage,
            (0.0, interval),
            state,
            "BDF",
            rtol=1e-8,
            atol=1e-6,
            jac=-diags_array(1.0 / storage) @ flow,
        )
        state = found.y[:, -1]
        expected.append(state.reshape(n, n))
    for steps, limit in ((4, 3e-3), (32, 1e-4)):
        found, _ = integrate(conductivity, capacity, power, rise, interval, steps)
        assert max(relative(a, b) for a, b in zip(found[1:], expected, strict=True)) < limit


def system_of(conductivity, capacity, power):
    width = 1.0 / len(conductivity)
    stiffness = linear.five_points(conductivity, width, FILM)
    source = power.reshape(len(power), -1) * width**2
    return linear.LinearSystem(stiffness, source, capacity.ravel() * width**2)


@pytest.mark.parametrize("n", [16, 20, 31])
def test_a_direct_solution_of_the_same_steps_is_equal(n):
    conductivity, capacity, power, rise = furnace(n)
    found, heat = integrate(conductivity, capacity, power, rise, 900.0, 3)
    system = system_of(conductivity, capacity, power)
    later, lost = advance_directly(system, found[:-1].reshape(len(found) - 1, -1).T, 900.0, 3)
    np.testing.assert_allclose(later.T.reshape(-1, n, n), found[1:], rtol=0, atol=1e-8)
    np.testing.assert_allclose(lost, heat[:, 2], rtol=1e-10)


def test_the_direct_solution_solves_the_steps_as_they_are_written_down():
    n, step, gamma = 7, 500.0, 1.0 - np.sqrt(0.5)
    conductivity, capacity, power, rise = furnace(n)
    flow, storage = matrix(conductivity).toarray(), np.diag(capacity.ravel() / n**2)
    supplied, state = power[0].ravel() / n**2, rise.ravel()
    for _ in range(2):  # implicit Euler
        euler = storage / (gamma * step) + flow
        state = np.linalg.solve(euler, storage @ state / (gamma * step) + supplied)
    k = []
    for begun in (0.0, 1.0 - gamma):  # M k = q - A (theta + dt sum a k)
        stage = state + step * begun * (k[0] if k else 0.0)
        k.append(np.linalg.solve(storage + gamma * step * flow, supplied - flow @ stage))
    expected = state + step * ((1.0 - gamma) * k[0] + gamma * k[1])
    interval = step * (1.0 + 2.0 * gamma)
    system = system_of(conductivity, capacity, power)
    later, _ = advance_directly(system, rise.reshape(-1, 1), interval, 1)
    np.testing.assert_allclose(later.ravel(), expected, rtol=1e-10)


@pytest.mark.parametrize("n", [16, 30, 64])
def test_what_is_stored_is_what_is_supplied_less_what_is_lost(n):
    conductivity, capacity, power, rise = furnace(n)
    found, heat = integrate(conductivity, capacity, power, rise, 1800.0, 2)
    stored, supplied, lost = heat.T
    assert np.abs(stored - supplied + lost).max() < 1e-10 * supplied.max()
    np.testing.assert_allclose(stored, (np.diff(found, axis=0) * capacity).sum((1, 2)) / n**2)
    np.testing.assert_allclose(supplied, 1800.0 * power[:-1].sum((1, 2)) / n**2)
    assert np.all(lost > 0.0)


def test_without_burners_temperatures_stay_between_those_at_the_beginning_and_outside():
    conductivity, capacity, power, rise = furnace(32, 12)
    found, _ = integrate(conductivity, capacity, 0.0 * power, rise, 1800.0, 1)
    assert found.min() > -1e-9
    assert found.max() <= rise.max()
    assert np.all(np.diff(found.max(axis=(1, 2))) <= 0.0)


def test_without_burners_and_from_the_ambient_temperature_nothing_happens():
    conductivity, capacity, power, _ = furnace(16)
    found, heat = integrate(conductivity, capacity, 0.0 * power, 0.0, 1800.0, 2)
    assert not found.any() and not heat.any()


@pytest.mark.parametrize(
    "turn",
    [np.transpose, np.flipud, np.fliplr, np.rot90],
    ids=["transpose", "flip x", "flip y", "rotate"],
)
def test_a_turned_furnace_has_the_turned_temperatures(turn):
    conductivity, capacity, power, rise = furnace(20)
    found, _ = integrate(conductivity, capacity, power, rise, 1800.0, 2)
    turned = (turn(field) for field in (conductivity, capacity))
    again, _ = integrate(*turned, np.stack([turn(frame) for frame in power]), turn(rise), 1800.0, 2)
    np.testing.assert_allclose(again, np.stack([turn(frame) for frame in found]), rtol=0, atol=1e-8)


def test_stored_frames_are_those_it_goes_on_from():
    conductivity, capacity, power, rise = furnace(16)
    frames, _ = integrate(conductivity, capacity, power, rise, 1800.0, 2, dtype=np.float32)
    for k in range(3):
        again, _ = integrate(
            conductivity, capacity, power[k : k + 2], frames[k], 1800.0, 2, dtype=np.float32
        )
        np.testing.assert_array_equal(again[1], frames[k + 1])


def solve(n, tolerance, iterations):
    conductivity, capacity, power, rise = furnace(n)
    frames = np.empty(power.shape, np.float64)
    _, total, residual = solve_heat_conduction(
        conductivity, capacity, power, AMBIENT + rise, AMBIENT, FILM / n, 1.0 / n, 1800.0, 4,
        tolerance, iterations, frames,
    )  # fmt: skip
    return total, residual, frames.tobytes()


@pytest.mark.parametrize("n", [32, 50, 64, 128])
def test_the_number_of_iterations_hardly_depends_on_the_resolution(n):
    assert solve(n, 1e-8, 100)[0] / 30 <= 20


def test_too_few_iterations_are_reported_as_such():
    total, residual, _ = solve(32, 1e-8, 3)
    assert total == 3
    assert residual > 1e-8


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_impossible_conductivity_gives_no_residual_that_passes(value):
    conductivity, capacity, power, rise = furnace(16)
    conductivity[3, 4] = value
    frames = np.empty(power.shape, np.float64)
    residual = solve_heat_conduction(
        conductivity, capacity, power, AMBIENT + rise, AMBIENT, 1.0, 0.1, 1.0, 1, 1e-8, 100, frames
    )[2]
    assert not residual <= 1e-8


def test_threads_that_solve_at_once_give_the_bits_of_one():
    assert_threads_give_the_bits_of_one(lambda n: solve(n, 1e-8, 100)[2], [16, 20, 24, 28])


def scenario_of(resolution=20, **parameters):
    scenario = make_scenario("furnace", resolution, parameters)
    assert isinstance(scenario, Furnace)
    return scenario


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_furnace_at_every_resolution(seed):
    def in_blocks(field: np.ndarray) -> np.ndarray:
        return field.reshape(20, 3, 20, 3).mean(axis=(1, 3))

    coarse = scenario_of(20).sample(np.random.default_rng(seed))
    fine = scenario_of(60).sample(np.random.default_rng(seed))
    assert coarse["ambient_temperature"] == fine["ambient_temperature"]
    capacity, resistivity = in_blocks(fine["heat_capacity"]), in_blocks(1.0 / fine["conductivity"])
    np.testing.assert_allclose(coarse["heat_capacity"], capacity, rtol=1e-5)
    np.testing.assert_allclose(1.0 / coarse["conductivity"], resistivity, rtol=1e-5)
    supplied = [drawn["power"].astype(float).mean(axis=(1, 2)) for drawn in (coarse, fine)]
    np.testing.assert_allclose(*supplied, rtol=0.02)


def test_one_seed_gets_the_same_heat_in_any_number_of_frames():
    for seed in range(3):
        heats = []
        for frames in (7, 25, 49):
            inputs = scenario_of(20, frames=frames).sample(np.random.default_rng(seed))
            heats.append(inputs["power"][:-1].astype(float).mean(axis=0))
        np.testing.assert_allclose(heats[0], heats[2], rtol=1e-4, atol=1.0)
        np.testing.assert_allclose(heats[1], heats[2], rtol=1e-4, atol=1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_temperatures_converge_under_refinement_of_one_furnace(seed):
    means = []
    for n in (20, 40, 80, 160):
        inputs, outputs = solved_sample(scenario_of(n, frames=7), seed)
        rise = outputs["temperature"].astype(float) - inputs["ambient_temperature"]
        means.append(rise.reshape(7, 20, n // 20, 20, n // 20).mean(axis=(2, 4)))
    changes = [np.linalg.norm(b - a) for a, b in zip(means, means[1:], strict=False)]
    assert changes[2] < 0.4 * changes[0]
    assert changes[2] < 0.02 * np.linalg.norm(means[-1])


def test_plants_are_as_the_parameters_say():
    parameters = FurnaceParameters(
        thinnest_wall=0.3, thickest_wall=0.5, most_pieces=2, warm_share=0.25
    )
    plants = [draw_plant(parameters, np.random.default_rng(seed)) for seed in range(400)]
    left, right, floor, roof = np.array([plant.cavity for plant in plants]).T
    for wall in (left, 2.0 - right, floor, 2.0 - roof):
        assert 0.3 <= wall.min() < 0.32 and 0.48 < wall.max() <= 0.5
    assert {len(plant.pieces) for plant in plants} == {1, 2}
    assert {len(plant.burners) for plant in plants} == {2, 3, 4}
    assert np.mean([plant.warmth > 0.0 for plant in plants]) == pytest.approx(0.25, abs=0.07)
    for plant in plants:
        starts, ends, bottoms, tops = plant.pieces.T
        assert np.all(bottoms == plant.cavity[2]) and np.all(tops < plant.cavity[3])
        assert plant.cavity[0] < starts[0] and ends[-1] < plant.cavity[1]
        assert np.all(ends[:-1] < starts[1:])
        x, y, flame = plant.burners.T
        assert np.all((x > plant.cavity[0]) & (x < plant.cavity[1]))
        assert np.all((y > tops.max()) & (y < plant.cavity[3]))
        assert plant.schedule(24).min() >= 0.0


def test_burners_are_in_the_gas_and_its_hottest_place_is_as_they_were_sized():
    scenario = scenario_of(32, coolest_peak=1300.0, hottest_peak=1400.0)
    for seed in range(6):
        inputs, outputs = solved_sample(scenario, seed)
        power, gas = inputs["power"], inputs["heat_capacity"] == 400.0
        assert power.min() == 0.0
        corners = [power[:, i, j] for i in (0, 1, -1) for j in (0, 1, -1)]  # nothing but lining
        assert not np.any(corners)
        assert power[:, gas].sum() > 0.85 * power.sum()  # the others are partly gas
        assert 1250.0 < outputs["temperature"].max() < 1450.0
        assert outputs["temperature"].min() >= 283.0


def test_a_warm_start_is_a_hot_furnace_with_a_cold_charge():
    inputs = scenario_of(40, warm_share=1.0).sample(np.random.default_rng(0))
    temperature, ambient = inputs["temperature"], inputs["ambient_temperature"]
    capacity = inputs["heat_capacity"]
    gas, charge = capacity == 400.0, capacity > 0.999 * capacity.max()
    assert np.ptp(temperature[gas]) == 0.0 and temperature[gas][0] > ambient + 250.0
    np.testing.assert_array_equal(temperature[charge], ambient)
    assert np.all(temperature[0] < ambient + 0.2 * (temperature[gas][0] - ambient))
    cold = scenario_of(40, warm_share=0.0).sample(np.random.default_rng(0))
    assert np.all(cold["temperature"] == cold["ambient_temperature"])


def test_the_energy_balance_of_a_run_closes():
    scenario = scenario_of(32)
    for seed in range(4):
        inputs, outputs = solved_sample(scenario, seed)
        stored, given, lost = scenario.balance(inputs).sum(axis=0)
        assert abs(stored - given + lost) < 2e-9 * given
        area, frames = (2.0 / 32) ** 2, outputs["temperature"].astype(float)
        content = (inputs["heat_capacity"].astype(float) * (frames[-1] - frames[0])).sum() * area
        assert stored == pytest.approx(content, rel=1e-6)
        supplied = inputs["power"][:-1].astype(float).sum() * area * 1800.0
        assert given == pytest.approx(supplied, rel=1e-12)


def test_an_iteration_that_does_not_converge_is_named(monkeypatch):
    scenario = scenario_of(20, frames=3)
    inputs = scenario.sample(np.random.default_rng(0))
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    with pytest.raises(MnoError, match="conjugate gradients for furnace did not conv") as error:
        scenario.solve(inputs)
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)


def test_what_earlier_datasets_say_of_a_stress_that_they_lack_is_no_obstacle():
    earlier = {"frames": 3, "thermal_stress": False, "piece_ends": "held", "youngs_modulus": 2e11}
    assert FurnaceParameters.model_validate(earlier) == FurnaceParameters(frames=3)
    with pytest.raises(ValueError, match="thermal_stress"):
        FurnaceParameters.model_validate({**earlier, "thermal_stress": True})
    with pytest.raises(ValueError, match="duratoin"):
        FurnaceParameters.model_validate({**earlier, "duratoin": 600.0})
