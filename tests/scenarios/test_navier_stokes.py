"""The scenario navier_stokes: viscosities, initial states, frames as stored, checks."""

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
from mno.core.errors import InputError
from mno.scenarios.base import make_scenario, scenario_names
from mno.scenarios.navier_stokes import SCENARIO, NavierStokes

DIGEST = """
import hashlib, numpy as np
from concurrent.futures import ThreadPoolExecutor
from mno.scenarios.base import make_scenario
scenario = make_scenario("navier_stokes", 24, {"frames": 4, "duration": 2.0})
def digest(seed):
    inputs = scenario.sample(np.random.default_rng(seed))
    return hashlib.sha256(scenario.solve(inputs)["vorticity"].tobytes()).hexdigest()
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(digest, range(8)))
"""
THIN = {"viscosity_low": 1e-4, "viscosity_high": 1e-4}  # not held by 24 points


def scenario_of(resolution: int = 32, **parameters: float) -> NavierStokes:
    parameters = {"duration": 2.0, "frames": 4, **parameters}
    scenario = make_scenario("navier_stokes", resolution, parameters)
    assert isinstance(scenario, NavierStokes)
    return scenario


def test_it_is_found_by_name_and_has_a_number_and_a_state():
    assert "navier_stokes" in scenario_names()
    assert SCENARIO is NavierStokes
    viscosity, vorticity = scenario_of().fields
    assert (viscosity.name, viscosity.role, viscosity.dims) == ("viscosity", "input", ())
    assert (vorticity.role, vorticity.dims) == ("state", ("time", "x", "y"))


def test_axes_are_frames_from_zero_and_cell_centres_from_zero_to_one():
    time, x, y = scenario_of(16, frames=6, duration=2.0).axes
    assert [axis.name for axis in (time, x, y)] == ["time", "x", "y"]
    np.testing.assert_allclose(time.points, [0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert time.extent == (0.0, 2.0)
    assert x.extent == y.extent == (0.0, 1.0)
    np.testing.assert_allclose(x.points, np.linspace(1 / 32, 31 / 32, 16))


def test_arrays_are_float32_and_the_first_frame_is_what_was_drawn():
    inputs, outputs = solved(scenario_of(33))
    assert inputs["viscosity"].shape == ()
    assert inputs["vorticity"].shape == (33, 33)
    assert outputs["vorticity"].shape == (4, 33, 33)
    for array in (*inputs.values(), *outputs.values()):
        assert array.dtype == np.float32
    np.testing.assert_array_equal(outputs["vorticity"][0], inputs["vorticity"])


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_function_at_every_resolution(seed):
    # The centres of 16 cells are among those of 48: every third, from the second on.
    coarse, fine = (
        scenario_of(n, viscosity_low=1e-4).sample(np.random.default_rng(seed)) for n in (16, 48)
    )
    assert fine["viscosity"] == coarse["viscosity"]
    assert 1e-4 <= coarse["viscosity"] <= np.float32(1e-3)
    np.testing.assert_allclose(
        fine["vorticity"][1::3, 1::3], coarse["vorticity"], rtol=1e-5, atol=1e-6
    )


def test_the_initial_state_has_the_covariance_it_says():
    scenario = scenario_of(32, vorticity_scale=1.0)
    fields = [scenario.sample(np.random.default_rng(k))["vorticity"] for k in range(300)]
    waves = np.fft.rfft2(np.stack(fields)) / 32**2
    power = np.mean(np.abs(waves) ** 2, axis=0)
    assert np.max(np.abs(waves[:, 0, 0])) < 1e-4
    for k_x, k_y in ((1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (-2, 1)):
        expected = 7**1.5 * (4 * np.pi**2 * (k_x**2 + k_y**2) + 49) ** -2.5
        assert power[k_x, k_y] == pytest.approx(expected, rel=0.25)
    scaled = scenario_of(32, vorticity_scale=3.0).sample(np.random.default_rng(0))["vorticity"]
    np.testing.assert_allclose(scaled, 3.0 * fields[0], rtol=1e-5)


@pytest.mark.parametrize("resolution", [8, 15, 32])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"frames": 2, "duration": 12.0, "forcing": 0.5, "viscosity_high": 1e-2},
        {"frames": 41, "duration": 0.1, "vorticity_scale": 10.0},
        {**THIN, "frames": 3},
        {"forcing": 0.0, "viscosity_low": 1e-2, "viscosity_high": 1e-2, "duration": 50.0},
    ],
    ids=str,
)
def test_solved_samples_pass_their_checks(resolution, parameters):
    scenario = scenario_of(resolution, **parameters)
    for seed in range(2):
        assert failures(scenario, *solved(scenario, seed)) == set()


def test_what_the_points_do_not_hold_is_solved_for_on_finer_ones():
    # The same initial function, of waves that the coarse points hold.
    coarse, fine = (scenario_of(n, **THIN, forcing=1.0) for n in (24, 72))
    x = (np.arange(72) + 0.5) / 72
    angles = 2 * np.pi * np.add.outer(x, 2 * x)
    vorticity = (0.5 * np.cos(angles) + 0.3 * np.sin(angles.T + 1.0)).astype(np.float32)
    inputs = {"viscosity": np.float32(1e-4), "vorticity": vorticity}
    expected = fine.solve(inputs)["vorticity"][:, 1::3, 1::3]
    found = coarse.solve({**inputs, "vorticity": vorticity[1::3, 1::3]})["vorticity"]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_force_and_state_are_where_they_should_be():
    # The exact solution of a state that is the force's wave, on points that are cell centres.
    scenario = scenario_of(16, viscosity_low=2e-3, viscosity_high=2e-3)
    x = (np.arange(16) + 0.5) / 16
    angle = 2 * np.pi * np.add.outer(x, x)
    wave = np.sin(angle) + np.cos(angle)
    inputs = {"viscosity": np.float32(2e-3), "vorticity": (0.3 * wave).astype(np.float32)}
    rate = 8 * np.pi**2 * 2e-3
    decay = np.exp(-rate * np.linspace(0.0, 2.0, 4))[:, None, None]
    expected = (0.3 * decay + 0.1 * (1 - decay) / rate) * wave
    np.testing.assert_allclose(scenario.solve(inputs)["vorticity"], expected, atol=2e-7)


def test_a_state_at_rest_without_force_stays_and_passes():
    scenario = scenario_of(16, forcing=0.0)
    inputs = {"viscosity": np.float32(1e-3), "vorticity": np.zeros((16, 16), np.float32)}
    outputs = scenario.solve(inputs)
    assert not outputs["vorticity"].any()
    assert failures(scenario, inputs, outputs) == set()


def test_checks_catch_another_initial_state():
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    inputs["vorticity"][3, 4] += 1e-6
    assert failures(scenario, inputs, outputs) == {"initial"}


@pytest.mark.parametrize("frame", [0, 1, 2, 3])
def test_checks_catch_one_wrong_cell_of_a_frame_they_look_at(frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["vorticity"][frame, 3, 4] += 1e-4
    assert "defect" in failures(scenario, inputs, outputs)


@pytest.mark.parametrize(
    "other",
    [
        {"viscosity_low": 1.0005e-3, "viscosity_high": 1.0005e-3},
        {"forcing": 0.10001},
        {"duration": 2.0001},
    ],
    ids=str,
)
@pytest.mark.parametrize("resolution", [12, 32])
def test_checks_catch_frames_of_slightly_other_parameters(other, resolution):
    scenario = scenario_of(resolution)
    inputs, _ = solved(scenario)
    _, outputs = solved(scenario_of(resolution, **other))
    assert "defect" in failures(scenario, inputs, outputs)


def test_checks_catch_values_that_the_force_cannot_make():
    scenario = scenario_of(frames=9)
    inputs, outputs = solved(scenario)
    outputs["vorticity"][4, 3, 4] = -2.0
    assert {"range", "mean"} <= failures(scenario, inputs, outputs)
    outputs["vorticity"][4, 3, 4] = 1e30
    assert {"range", "defect"} <= failures(scenario, inputs, outputs)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("frame", [0, 2])
def test_checks_fail_on_values_that_are_no_numbers(value, frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["vorticity"][frame, 2, 3] = value
    assert "range" in failures(scenario, inputs, outputs)


def test_repeated_calls_and_a_copied_scenario_give_the_same_bits():
    scenario = scenario_of()
    first = solved(scenario, seed=4)
    solved(scenario, seed=5)
    for again in (scenario, pickle.loads(pickle.dumps(scenario))):
        for ours, theirs in zip(solved(again, seed=4), first, strict=True):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_another_process_with_other_threads_gives_the_same_bits():
    scenario = scenario_of(24)
    here = [
        hashlib.sha256(solved(scenario, seed)[1]["vorticity"].tobytes()).hexdigest()
        for seed in range(8)
    ]
    there = subprocess.run(
        [sys.executable, "-c", DIGEST],
        cwd=Path(mno.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split() == here


@pytest.mark.parametrize("resolution", [7, 0, -4, 513])
def test_an_impossible_resolution_is_refused(resolution):
    with pytest.raises(InputError) as error:
        scenario_of(resolution)
    assert str(error.value) == (
        f"generate.resolution={resolution} must be from 8 to 512; choose one of these"
    )


def test_the_public_data_can_be_made_and_what_needs_finer_points_yet_is_refused():
    for viscosity, duration in ((1e-3, 50.0), (1e-4, 30.0), (1e-5, 20.0)):
        scenario_of(64, viscosity_low=viscosity, duration=duration)
    with pytest.raises(InputError, match=r"viscosity_low=1e-05 needs waves up to \d+ .* raise it"):
        scenario_of(64, viscosity_low=1e-5, duration=20.0, forcing=1.0)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"viscosity_low": 1e-6}, "viscosity_low=1e-06"),
        ({"viscosity_high": 1.0}, "viscosity_high=1.0"),
        ({"viscosity_low": 5e-3}, "viscosity_low=0.005 must not be above viscosity_high=0.001"),
        ({"forcing": -0.1}, "forcing=-0.1"),
        ({"vorticity_scale": 0.0}, "vorticity_scale=0.0"),
        ({"duration": float("nan")}, "duration=nan"),
        ({"frames": 1}, "frames=1"),
        ({"reynolds": 1.0}, "reynolds is not a parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(parameters, words):
    with pytest.raises(InputError) as error:
        scenario_of(**parameters)
    assert "scenarios.navier_stokes" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_inputs_that_do_not_fit_are_refused():
    scenario = scenario_of(16)
    good = {"viscosity": np.float32(1e-3), "vorticity": np.zeros((16, 16), np.float32)}
    for viscosity in (np.nan, 1e-4, 1.0):
        with pytest.raises(InputError, match=r"expected a number from 0.001 .* to 0.01"):
            scenario.solve({**good, "viscosity": np.float32(viscosity)})
    with pytest.raises(InputError, match=r"vorticity has shape \(8, 8\).*expected \(16, 16\)"):
        scenario.solve({**good, "vorticity": np.zeros((8, 8), np.float32)})
    for value in (np.nan, np.inf, -11.0):
        wrong = good["vorticity"].copy()
        wrong[3, 4] = value
        with pytest.raises(InputError, match="expected numbers up to"):
            scenario.solve({**good, "vorticity": wrong})
