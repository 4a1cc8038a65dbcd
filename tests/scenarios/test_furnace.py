"""The scenario furnace: plants and runs as drawn, frames as stored, checks, heat."""

from __future__ import annotations

import numpy as np
import pytest

from mno.core.errors import InputError, MnoError
from mno.scenarios import furnace as module
from mno.scenarios.base import make_scenario
from mno.scenarios.check import solved_sample
from mno.scenarios.furnace import Furnace, FurnaceParameters
from mno.scenarios.kernels.furnaces import draw_plant


def furnace(resolution: int = 20, **parameters: float) -> Furnace:
    scenario = make_scenario("furnace", resolution, parameters)
    assert isinstance(scenario, Furnace)
    return scenario


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_furnace_at_every_resolution(seed):
    def in_blocks(field: np.ndarray) -> np.ndarray:
        return field.reshape(20, 3, 20, 3).mean(axis=(1, 3))

    coarse = furnace(20).sample(np.random.default_rng(seed))
    fine = furnace(60).sample(np.random.default_rng(seed))
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
            inputs = furnace(20, frames=frames).sample(np.random.default_rng(seed))
            heats.append(inputs["power"][:-1].astype(float).mean(axis=0))
        np.testing.assert_allclose(heats[0], heats[2], rtol=1e-4, atol=1.0)
        np.testing.assert_allclose(heats[1], heats[2], rtol=1e-4, atol=1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_temperatures_converge_under_refinement_of_one_furnace(seed):
    means = []
    for n in (20, 40, 80, 160):
        inputs, outputs = solved_sample(furnace(n, frames=7), seed)
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
    scenario = furnace(32, coolest_peak=1300.0, hottest_peak=1400.0)
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
    inputs = furnace(40, warm_share=1.0).sample(np.random.default_rng(0))
    temperature, ambient = inputs["temperature"], inputs["ambient_temperature"]
    capacity = inputs["heat_capacity"]
    gas, charge = capacity == 400.0, capacity > 0.999 * capacity.max()
    assert np.ptp(temperature[gas]) == 0.0 and temperature[gas][0] > ambient + 250.0
    np.testing.assert_array_equal(temperature[charge], ambient)
    assert np.all(temperature[0] < ambient + 0.2 * (temperature[gas][0] - ambient))
    cold = furnace(40, warm_share=0.0).sample(np.random.default_rng(0))
    assert np.all(cold["temperature"] == cold["ambient_temperature"])


def test_the_energy_balance_of_a_run_closes():
    scenario = furnace(32)
    for seed in range(4):
        inputs, outputs = solved_sample(scenario, seed)
        balance = scenario.balance(inputs)
        assert balance.error < 2e-9
        area, frames = (2.0 / 32) ** 2, outputs["temperature"].astype(float)
        content = (inputs["heat_capacity"].astype(float) * (frames[-1] - frames[0])).sum() * area
        assert balance.stored.sum() == pytest.approx(content, rel=1e-6)
        supplied = inputs["power"][:-1].astype(float).sum() * area * 1800.0
        assert balance.supplied.sum() == pytest.approx(supplied, rel=1e-12)


def test_an_iteration_that_does_not_converge_is_named(monkeypatch):
    scenario = furnace(20, frames=3)
    inputs = scenario.sample(np.random.default_rng(0))
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    with pytest.raises(MnoError, match="conjugate gradients for furnace did not conv") as error:
        scenario.solve(inputs)
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)
