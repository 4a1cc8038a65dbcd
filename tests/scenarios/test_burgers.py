"""The scenario burgers: viscosities, initial states, frames as stored, checks."""

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
from mno.scenarios.burgers import SCENARIO, Burgers

DIGEST = """
import hashlib, numpy as np
from concurrent.futures import ThreadPoolExecutor
from mno.scenarios.base import make_scenario
scenario = make_scenario("burgers", 32, {"frames": 5})
def digest(seed):
    inputs = scenario.sample(np.random.default_rng(seed))
    return hashlib.sha256(scenario.solve(inputs)["velocity"].tobytes()).hexdigest()
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(digest, range(8)))
"""


def scenario_of(resolution: int = 32, **parameters: float | str) -> Burgers:
    scenario = make_scenario("burgers", resolution, parameters)
    assert isinstance(scenario, Burgers)
    return scenario


def test_it_is_found_by_name_and_has_a_number_and_a_state():
    assert "burgers" in scenario_names()
    assert SCENARIO is Burgers
    viscosity, velocity = scenario_of().fields
    assert (viscosity.name, viscosity.role, viscosity.dims) == ("viscosity", "input", ())
    assert (velocity.name, velocity.role, velocity.dims) == ("velocity", "state", ("time", "x"))


def test_axes_are_frames_from_zero_and_cell_centres_from_zero_to_one():
    time, x = scenario_of(16, frames=6, duration=2.0).axes
    assert (time.name, x.name) == ("time", "x")
    np.testing.assert_allclose(time.points, [0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert (time.extent, x.extent) == ((0.0, 2.0), (0.0, 1.0))
    np.testing.assert_allclose(x.points, np.linspace(1 / 32, 31 / 32, 16))


def test_arrays_are_float32_and_the_first_frame_is_what_was_drawn():
    inputs, outputs = solved(scenario_of(19, frames=4))
    assert inputs["viscosity"].shape == ()
    assert inputs["velocity"].shape == (19,)
    assert outputs["velocity"].shape == (4, 19)
    for array in (*inputs.values(), *outputs.values()):
        assert array.dtype == np.float32
    np.testing.assert_array_equal(outputs["velocity"][0], inputs["velocity"])


@pytest.mark.parametrize("sampling", ["grf", "sines"])
@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_function_at_every_resolution(seed, sampling):
    # The centres of 16 cells are among those of 48: every third, from the second on.
    coarse, fine = (
        scenario_of(n, sampling=sampling, viscosity_low=1e-3).sample(np.random.default_rng(seed))
        for n in (16, 48)
    )
    assert fine["viscosity"] == coarse["viscosity"]
    np.testing.assert_allclose(fine["velocity"][1::3], coarse["velocity"], rtol=1e-5, atol=1e-6)


def test_a_solution_at_fewer_points_is_that_of_more_where_the_initial_state_is_smooth():
    coarse, fine = (
        solved(scenario_of(n, sampling="sines", viscosity_low=2e-3, viscosity_high=2e-3))[1]
        for n in (16, 48)
    )
    np.testing.assert_allclose(fine["velocity"][:, 1::3], coarse["velocity"], rtol=0, atol=2e-6)


def test_viscosities_are_spread_evenly_over_their_logarithms():
    scenario = scenario_of(16, viscosity_low=1e-3, viscosity_high=1e-1)
    drawn = [float(scenario.sample(np.random.default_rng(k))["viscosity"]) for k in range(400)]
    assert 1e-3 <= min(drawn) < 1.1e-3
    assert 0.9e-1 < max(drawn) <= np.float32(1e-1)
    assert np.mean(np.log10(drawn)) == pytest.approx(-2.0, abs=0.1)
    alike = scenario_of(16)
    assert {float(alike.sample(np.random.default_rng(k))["viscosity"]) for k in range(9)} == {
        float(np.float32(2e-2))
    }


def test_random_fields_have_the_covariance_they_say():
    scenario = scenario_of(32)
    u = np.stack([scenario.sample(np.random.default_rng(k))["velocity"] for k in range(600)])
    waves = np.fft.rfft(u, axis=1) / 32
    assert np.max(np.abs(waves[:, 0])) < 5e-3  # what waves of one point and shorter look like
    expected = [625.0 / ((2 * np.pi * k) ** 2 + 25.0) ** 2 for k in (1, 2, 3)]
    np.testing.assert_allclose(np.mean(np.abs(waves[:, 1:4]) ** 2, axis=0), expected, rtol=0.15)


def test_sums_of_sines_have_waves_up_to_the_highest_and_amplitudes_up_to_their_number():
    scenario = scenario_of(32, sampling="sines", num_sines=3, highest_wave=5)
    u = np.stack([scenario.sample(np.random.default_rng(k))["velocity"] for k in range(200)])
    assert 1.5 < np.max(np.abs(u)) <= 3.0
    waves = np.max(np.abs(np.fft.rfft(u, axis=1)), axis=0) / 16
    assert np.all(waves[1:6] > 0.5)
    assert max(waves[0], *waves[6:]) < 1e-6


@pytest.mark.parametrize("resolution", [8, 15, 64])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"viscosity_low": 1e-3, "viscosity_high": 1e-3, "frames": 3, "duration": 0.1},
        {"viscosity_low": 1e-1, "viscosity_high": 1e-1, "frames": 41, "duration": 10.0},
        {"sampling": "sines", "highest_wave": 3, "frames": 11, "viscosity_low": 5e-3},
        {"duration": 1e-2, "frames": 1001},
    ],
    ids=str,
)
def test_solved_samples_pass_their_checks(resolution, parameters):
    scenario = scenario_of(resolution, **parameters)
    for seed in range(2):
        assert failures(scenario, *solved(scenario, seed)) == set()


def test_frames_between_change_nothing_that_is_seen():
    few = solved(scenario_of(frames=3, viscosity_low=5e-3))[1]["velocity"]
    many = solved(scenario_of(frames=9, viscosity_low=5e-3))[1]["velocity"]
    np.testing.assert_allclose(many[::4], few, rtol=0, atol=1e-6)


def test_a_state_at_rest_stays_and_passes():
    scenario = scenario_of(frames=3)
    inputs = {"viscosity": np.float32(0.02), "velocity": np.zeros(32, np.float32)}
    outputs = scenario.solve(inputs)
    assert not outputs["velocity"].any()
    assert failures(scenario, inputs, outputs) == set()


def test_checks_catch_another_initial_state():
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    inputs["velocity"][3] += 1e-6
    assert "initial" in failures(scenario, inputs, outputs)


@pytest.mark.parametrize("frame", [1, 3, 6])
def test_checks_catch_one_wrong_point(frame):
    scenario = scenario_of(frames=7)
    inputs, outputs = solved(scenario)
    outputs["velocity"][frame, 5] += 1e-5
    assert failures(scenario, inputs, outputs) == {"exact"}


@pytest.mark.parametrize(
    "other",
    [{"viscosity_low": 2.001e-2, "viscosity_high": 2.001e-2}, {"duration": 1.0001}],
    ids=str,
)
def test_checks_catch_frames_of_slightly_other_parameters(other):
    scenario = scenario_of()
    inputs, _ = solved(scenario)
    _, outputs = solved(scenario_of(**other))
    assert failures(scenario, inputs, outputs) == {"exact"}


def test_checks_catch_values_beyond_the_initial_ones_in_any_frame():
    scenario = scenario_of(frames=101)
    inputs, outputs = solved(scenario)
    outputs["velocity"][37, 5] = -1.1 * np.abs(inputs["velocity"]).max()
    assert "range" in failures(scenario, inputs, outputs)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("frame", [0, 1])
def test_checks_fail_on_values_that_are_no_numbers(value, frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["velocity"][frame, 2] = value
    assert failures(scenario, inputs, outputs)


def test_repeated_calls_and_a_copied_scenario_give_the_same_bits():
    scenario = scenario_of(frames=5)
    first = solved(scenario, seed=4)
    solved(scenario, seed=5)
    for again in (scenario, pickle.loads(pickle.dumps(scenario))):
        for ours, theirs in zip(solved(again, seed=4), first, strict=True):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_another_process_with_other_threads_gives_the_same_bits():
    scenario = scenario_of(32, frames=5)
    here = [
        hashlib.sha256(solved(scenario, seed)[1]["velocity"].tobytes()).hexdigest()
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


@pytest.mark.parametrize("resolution", [7, 0, -4])
def test_an_impossible_resolution_is_refused(resolution):
    with pytest.raises(InputError) as error:
        scenario_of(resolution)
    assert str(error.value) == f"generate.resolution={resolution} must be at least 8; choose more"


def test_waves_that_the_points_cannot_hold_are_refused():
    with pytest.raises(InputError, match=r"highest_wave=8 needs generate.resolution=17 at least"):
        scenario_of(16, sampling="sines", highest_wave=8)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"viscosity_low": 1e-4}, "viscosity_low=0.0001"),
        ({"viscosity_high": 1.0}, "viscosity_high=1.0"),
        ({"viscosity_low": 5e-2}, "viscosity_low=0.05 must not be above viscosity_high=0.02"),
        ({"duration": 0.0}, "duration=0.0"),
        ({"duration": float("nan")}, "duration=nan"),
        ({"frames": 1}, "frames=1"),
        ({"sampling": "pdebench"}, "sampling='pdebench'"),
        ({"num_sines": 0}, "num_sines=0"),
        ({"diffusivity": 1.0}, "diffusivity is not a parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(parameters, words):
    with pytest.raises(InputError) as error:
        scenario_of(**parameters)
    assert "scenarios.burgers" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_inputs_that_do_not_fit_are_refused():
    scenario = scenario_of(16)
    good = {"viscosity": np.float32(0.02), "velocity": np.zeros(16, np.float32)}
    for viscosity in (np.nan, 0.0, 1.0):
        with pytest.raises(InputError, match=r"expected a number from 0.001 to 0.1"):
            scenario.solve({**good, "viscosity": np.float32(viscosity)})
    with pytest.raises(InputError, match=r"velocity has shape \(8,\).*expected \(16,\)"):
        scenario.solve({**good, "velocity": np.zeros(8, np.float32)})
    for value in (np.nan, np.inf, -11.0):
        wrong = np.zeros(16, np.float32)
        wrong[3] = value
        with pytest.raises(InputError, match="expected numbers from -10 to 10"):
            scenario.solve({**good, "velocity": wrong})
