"""The scenario furnace_ring: furnaces as drawn, frames as stored, heat, checks."""

from __future__ import annotations

import numpy as np
import pytest

from mno.core.errors import MnoError
from mno.scenarios.base import make_scenario
from mno.scenarios.check import failed_checks, solved_sample
from mno.scenarios.furnace_ring import FurnaceRing, FurnaceRingParameters
from mno.scenarios.kernels.furnaces import draw_round_furnace
from mno.scenarios.kernels.ring_mesh import RingMesh

STATES = ("x", "y", "conductivity", "heat_capacity", "temperature")


def furnace(resolution: int = 16, **parameters: float) -> FurnaceRing:
    scenario = make_scenario("furnace_ring", resolution, parameters)
    assert isinstance(scenario, FurnaceRing)
    return scenario


def on_rings(field: np.ndarray, resolution: int) -> np.ndarray:
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
