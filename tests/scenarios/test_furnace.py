"""The scenario furnace: plants and runs as drawn, frames as stored, checks, heat."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from samples import failures, solved

import mno
from mno.core.errors import InputError, MnoError
from mno.scenarios import furnace as module
from mno.scenarios.base import SQUARE, make_scenario, scenario_names
from mno.scenarios.furnace import SCENARIO, Furnace
from mno.scenarios.kernels.furnace_plant import FurnaceParameters, draw_plant

DIGEST = """
import hashlib, numpy as np
from mno.scenarios.base import make_scenario
scenario = make_scenario("furnace", 48, {"frames": 5, "thermal_stress": True})
inputs = scenario.sample(np.random.default_rng(7))
fields = {**inputs, **scenario.solve(inputs)}
print(hashlib.sha256(b"".join(fields[name].tobytes() for name in sorted(fields))).hexdigest())
"""


def furnace(resolution: int = 20, **parameters: float) -> Furnace:
    scenario = make_scenario("furnace", resolution, parameters)
    assert isinstance(scenario, Furnace)
    return scenario


def test_it_is_found_by_name_with_its_fields():
    assert "furnace" in scenario_names()
    assert SCENARIO is Furnace
    roles = {field.name: (field.role, field.dims, field.units) for field in furnace().fields}
    assert roles == {
        "conductivity": ("input", ("x", "y"), "W m-1 K-1"),
        "heat_capacity": ("input", ("x", "y"), "J m-3 K-1"),
        "power": ("input", ("time", "x", "y"), "W m-3"),
        "ambient_temperature": ("input", (), "K"),
        "temperature": ("state", ("time", "x", "y"), "K"),
    }


def test_axes_are_seconds_from_zero_and_cell_centres_in_metres():
    time, x, y = furnace(20, frames=5, duration=7200.0).axes
    assert [(axis.name, axis.units) for axis in (time, x, y)] == [
        ("time", "s"), ("x", "m"), ("y", "m"),
    ]  # fmt: skip
    np.testing.assert_allclose(time.points, [0.0, 1800.0, 3600.0, 5400.0, 7200.0])
    assert x.extent == y.extent == (0.0, 2.0)
    np.testing.assert_allclose(x.points, np.linspace(0.05, 1.95, 20))


def test_arrays_are_float32_and_the_first_frame_is_what_was_drawn():
    inputs, outputs = solved(furnace(20, frames=4))
    shapes = {name: field.shape for name, field in inputs.items()}
    square = (20, 20)
    assert shapes == {
        "conductivity": square, "heat_capacity": square, "power": (4, *square),
        "ambient_temperature": (), "temperature": square,
    }  # fmt: skip
    assert {field.dtype for field in (*inputs.values(), *outputs.values())} == {np.dtype("f4")}
    assert outputs["temperature"].shape == (4, *square)
    np.testing.assert_array_equal(outputs["temperature"][0], inputs["temperature"])
    np.testing.assert_array_equal(inputs["power"][-1], inputs["power"][-2])


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
        inputs, outputs = solved(furnace(n, frames=7), seed)
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
        inputs, outputs = solved(scenario, seed)
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


EXTREMES = {
    "defaults": {},
    "two frames": {"frames": 2, "steps_per_frame": 1},
    "ten minutes": {"duration": 600.0, "frames": 5},
    "four months": {"duration": 1e7, "frames": 5},
    "thick walls": {"thinnest_wall": 0.6, "thickest_wall": 0.6, "most_pieces": 6, "frames": 5},
    "insulated": {
        "lowest_lining_conductivity": 0.02, "highest_lining_conductivity": 0.02,
        "heat_transfer_coefficient": 0.1, "gas_conductivity": 1000.0, "frames": 7,
    },
    "cooled": {
        "lowest_lining_conductivity": 20.0, "highest_lining_conductivity": 20.0,
        "heat_transfer_coefficient": 1000.0, "gas_conductivity": 1.0, "frames": 7,
    },
    "large": {
        "side": 20.0, "thinnest_wall": 3.0, "thickest_wall": 5.0, "frames": 7, "duration": 600.0,
    },
    "small": {"side": 0.2, "thinnest_wall": 0.04, "thickest_wall": 0.06, "frames": 7},
    "mild": {"coolest_peak": 500.0, "hottest_peak": 500.0, "warm_share": 1.0, "frames": 7},
    "hot": {"coolest_peak": 2500.0, "hottest_peak": 2500.0, "frames": 7},
}  # fmt: skip


@pytest.mark.parametrize("resolution", [20, 36])
@pytest.mark.parametrize("parameters", EXTREMES.values(), ids=EXTREMES)
def test_solved_samples_pass_their_checks(resolution, parameters):
    scenario = furnace(resolution, **parameters)
    for seed in range(3):
        inputs, outputs = solved(scenario, seed)
        assert failures(scenario, inputs, outputs) == set()
        assert scenario.balance(inputs).error < 1e-7


def test_the_energy_balance_of_a_run_closes():
    scenario = furnace(32)
    for seed in range(4):
        inputs, outputs = solved(scenario, seed)
        balance = scenario.balance(inputs)
        assert balance.error < 2e-9
        area, frames = (2.0 / 32) ** 2, outputs["temperature"].astype(float)
        content = (inputs["heat_capacity"].astype(float) * (frames[-1] - frames[0])).sum() * area
        assert balance.stored.sum() == pytest.approx(content, rel=1e-6)
        supplied = inputs["power"][:-1].astype(float).sum() * area * 1800.0
        assert balance.supplied.sum() == pytest.approx(supplied, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("conductivity", 1.001), ("heat_capacity", 1.001), ("power", 1.001)],
)
def test_checks_catch_slightly_other_inputs(name, factor):
    scenario = furnace(frames=5)
    inputs, outputs = solved(scenario, seed=1)
    other = {**inputs, name: (inputs[name] * factor).astype(np.float32)}
    assert {"defect", "energy"} <= failures(scenario, other, outputs)


@pytest.mark.parametrize(
    "parameters",
    [{"heat_transfer_coefficient": 10.1}, {"duration": 43300.0}, {"steps_per_frame": 5}],
    ids=str,
)
def test_checks_catch_slightly_other_parameters(parameters):
    inputs, outputs = solved(furnace(frames=5), seed=1)
    assert "defect" in failures(furnace(frames=5, **parameters), inputs, outputs)


def test_checks_catch_one_wrong_cell_in_any_frame():
    scenario = furnace(frames=5)
    inputs, outputs = solved(scenario, seed=0)
    for frame in range(1, 5):
        wrong = outputs["temperature"].copy()
        wrong[frame, 10, 7] += 0.01
        assert "defect" in failures(scenario, inputs, {"temperature": wrong})
    wrong = outputs["temperature"].copy()
    wrong[0, 10, 7] += 0.01
    assert "initial" in failures(scenario, inputs, {"temperature": wrong})


def test_checks_catch_temperatures_out_of_range_and_those_of_another_sample():
    scenario = furnace(frames=5)
    inputs, outputs = solved(scenario, seed=0)
    frames = outputs["temperature"]
    cold, hot = frames.copy(), frames.copy()
    cold[2, 3, 4], hot[2, 3, 4] = 280.0, 5000.0
    assert "range" in failures(scenario, inputs, {"temperature": cold})
    assert "range" in failures(scenario, inputs, {"temperature": hot})
    others = solved(scenario, seed=1)[1]
    assert {"initial", "defect", "energy"} <= failures(scenario, inputs, others)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["conductivity", "power", "ambient_temperature", "frames"])
def test_checks_fail_on_values_that_are_no_numbers(name, value):
    scenario = furnace(frames=3)
    inputs, outputs = solved(scenario, seed=0)
    field = outputs["temperature"] if name == "frames" else inputs[name]
    field[(1,) * field.ndim] = value
    assert {"defect", "energy", "range"} <= failures(scenario, inputs, outputs)


def test_the_symmetries_it_declares_are_those_of_its_solver():
    scenario = furnace(20, frames=5)
    assert scenario.symmetries == SQUARE
    inputs, outputs = solved(scenario, seed=3)
    for turn in SQUARE:
        axes = [part.lstrip("-") for part in turn.split()]

        def turned(field: np.ndarray, turn: str = turn, axes: list[str] = axes) -> np.ndarray:
            if field.ndim < 2:
                return field
            field = field.swapaxes(-2, -1) if axes == ["y", "x"] else field
            flipped = [k - 2 for k, part in enumerate(turn.split()) if part.startswith("-")]
            return np.flip(field, flipped)

        again = scenario.solve({name: turned(field) for name, field in inputs.items()})
        expected = turned(outputs["temperature"])
        np.testing.assert_allclose(again["temperature"], expected, rtol=2e-7)


def test_repeated_calls_and_a_copied_scenario_give_the_same_bits():
    scenario = furnace(frames=5)
    first = solved(scenario, seed=4)
    solved(scenario, seed=5)
    for again in (scenario, pickle.loads(pickle.dumps(scenario))):
        for ours, theirs in zip(solved(again, seed=4), first, strict=True):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_another_process_with_other_threads_gives_the_same_bits():
    inputs, outputs = solved(furnace(48, frames=5, thermal_stress=True), seed=7)
    fields = {**inputs, **outputs}
    here = b"".join(fields[name].tobytes() for name in sorted(fields))
    for threads in ("1", "3"):
        there = subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=Path(mno.__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize(
    ("resolution", "remedy"),
    [(33, "choose 32 or 36"), (12, "choose 16"), (0, "choose 16"), (-4, "choose 16"),
     (514, "choose 512"), (1024, "choose 512")],
)  # fmt: skip
def test_an_impossible_resolution_is_refused_with_the_nearest_possible(resolution, remedy):
    with pytest.raises(InputError) as error:
        furnace(resolution)
    assert str(error.value) == (
        f"generate.resolution={resolution} must be a multiple of 4 from 16 (two cells in a wall "
        f"of 0.25 m) to 512; {remedy}"
    )


def test_walls_too_thin_for_any_grid_are_refused():
    with pytest.raises(InputError, match="thinnest_wall=0.01 needs 4000 .* choose 0.0782") as error:
        furnace(512, side=20.0, thinnest_wall=0.01)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"side": 0.0}, "scenarios.furnace.side=0.0"),
        ({"thinnest_wall": 0.4}, "thinnest_wall=0.4 must be at most thickest_wall=0.35; swap"),
        ({"thickest_wall": 0.7}, "thickest_wall=0.7 must be at most 0.3 of side=2.0; choose 0.6"),
        ({"lowest_lining_conductivity": 2.0}, "must be at most highest_lining_conductivity=1.5"),
        ({"coolest_peak": 1700.0}, "coolest_peak=1700.0 must be at most hottest_peak=1650.0"),
        ({"hottest_peak": 3000.0}, "scenarios.furnace.hottest_peak=3000.0"),
        ({"gas_conductivity": float("nan")}, "scenarios.furnace.gas_conductivity=nan"),
        ({"most_pieces": 0}, "scenarios.furnace.most_pieces=0"),
        ({"warm_share": 1.5}, "scenarios.furnace.warm_share=1.5"),
        ({"heat_transfer_coefficient": 0.0}, "scenarios.furnace.heat_transfer_coefficient=0.0"),
        ({"duration": 0.0}, "scenarios.furnace.duration=0.0"),
        ({"frames": 1}, "scenarios.furnace.frames=1"),
        ({"steps_per_frame": 0}, "scenarios.furnace.steps_per_frame=0"),
        ({"viscosity": 1.0}, "scenarios.furnace.viscosity is not a parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(parameters, words):
    with pytest.raises(InputError) as error:
        furnace(**parameters)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_inputs_that_do_not_fit_are_refused():
    scenario = furnace(20, frames=3)
    inputs = scenario.sample(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"power has shape \(2, 20, 20\); expected \(3, 20, 20\)"):
        scenario.solve({**inputs, "power": inputs["power"][:2]})
    with pytest.raises(InputError, match=r"ambient_temperature has shape \(1,\); expected \(\)"):
        scenario.solve({**inputs, "ambient_temperature": np.full(1, 300.0, np.float32)})
    for name, value in (("conductivity", 0.0), ("heat_capacity", -1.0), ("temperature", np.nan)):
        wrong = inputs[name].copy()
        wrong[3, 4] = value
        with pytest.raises(InputError, match=f"{name} reaches .* expected finite positive numbers"):
            scenario.solve({**inputs, name: wrong})
    with pytest.raises(InputError, match="power reaches .* expected finite numbers"):
        scenario.solve({**inputs, "power": np.full_like(inputs["power"], np.inf)})


def test_an_iteration_that_does_not_converge_is_named(monkeypatch):
    scenario = furnace(20, frames=3)
    inputs = scenario.sample(np.random.default_rng(0))
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    with pytest.raises(MnoError, match="conjugate gradients for furnace did not conv") as error:
        scenario.solve(inputs)
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)
