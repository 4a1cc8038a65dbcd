"""The scenario diffusion_reaction: initial states, frames as stored, checks."""

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
from mno.scenarios.base import SQUARE, make_scenario, scenario_names
from mno.scenarios.diffusion_reaction import SCENARIO, DiffusionReaction

DIGEST = """
import hashlib, numpy as np
from mno.scenarios.base import make_scenario
scenario = make_scenario("diffusion_reaction", 16, {"frames": 5})
inputs = scenario.sample(np.random.default_rng(7))
outputs = scenario.solve(inputs)
print(hashlib.sha256(b"".join(outputs[name].tobytes() for name in outputs)).hexdigest())
"""


def scenario_of(resolution: int = 16, **parameters: float | str) -> DiffusionReaction:
    scenario = make_scenario("diffusion_reaction", resolution, parameters)
    assert isinstance(scenario, DiffusionReaction)
    return scenario


def test_it_is_found_by_name_and_its_states_are_given_and_predicted():
    assert "diffusion_reaction" in scenario_names()
    assert SCENARIO is DiffusionReaction
    scenario = scenario_of()
    assert scenario.inputs == scenario.outputs == scenario.fields
    assert [field.name for field in scenario.fields] == ["activator", "inhibitor"]
    assert {field.role for field in scenario.fields} == {"state"}


def test_axes_are_frames_from_zero_and_cell_centres_from_minus_one_to_one():
    time, x, y = scenario_of(16, frames=6, duration=2.0).axes
    assert [axis.name for axis in (time, x, y)] == ["time", "x", "y"]
    np.testing.assert_allclose(time.points, [0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert time.extent == (0.0, 2.0)
    assert x.extent == y.extent == (-1.0, 1.0)
    np.testing.assert_allclose(x.points, np.linspace(-15 / 16, 15 / 16, 16))


def test_arrays_are_float32_and_the_first_frame_is_what_was_drawn():
    inputs, outputs = solved(scenario_of(11, frames=4))
    for name in ("activator", "inhibitor"):
        assert inputs[name].dtype == outputs[name].dtype == np.float32
        assert inputs[name].shape == (11, 11)
        assert outputs[name].shape == (4, 11, 11)
        np.testing.assert_array_equal(outputs[name][0], inputs[name])


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_function_at_every_resolution(seed):
    # The centres of 16 cells are among those of 48: every third, from the second on.
    coarse = scenario_of(16).sample(np.random.default_rng(seed))
    fine = scenario_of(48).sample(np.random.default_rng(seed))
    for name, field in coarse.items():
        np.testing.assert_allclose(fine[name][1::3, 1::3], field, rtol=1e-5, atol=1e-6)


def test_smooth_states_have_mean_square_one_and_are_independent():
    scenario = scenario_of(16)
    draws = [scenario.sample(np.random.default_rng(k)) for k in range(300)]
    u, v = (np.stack([draw[name] for draw in draws]) for name in ("activator", "inhibitor"))
    assert np.mean(u**2) == pytest.approx(1.0, abs=0.1)
    assert np.mean(v**2) == pytest.approx(1.0, abs=0.1)
    assert abs(np.mean(u * v)) < 0.1
    assert np.mean(u[:, 4] * u[:, 5]) > 0.6 > 0.2 > np.mean(u[:, 1] * u[:, 12])


def test_smoothness_and_length_change_the_field_the_way_they_say():
    def roughness(**parameters: float) -> float:
        scenario = scenario_of(64, **parameters)
        draws = (scenario.sample(np.random.default_rng(k))["activator"] for k in range(20))
        return float(np.mean([np.mean(np.diff(draw, axis=0) ** 2) for draw in draws]))

    assert roughness(covariance_exponent=1.5) > roughness() > roughness(covariance_exponent=5.0)
    assert roughness(inverse_length=20.0) > roughness() > roughness(inverse_length=4.0)


def test_pdebench_draws_an_independent_normal_number_in_every_cell():
    scenario = scenario_of(32, sampling="pdebench")
    u = np.stack([scenario.sample(np.random.default_rng(k))["activator"] for k in range(50)])
    assert np.mean(u) == pytest.approx(0.0, abs=0.02)
    assert np.mean(u**2) == pytest.approx(1.0, abs=0.03)
    assert np.mean(u**4) == pytest.approx(3.0, abs=0.2)
    assert abs(np.mean(u[:, 1:] * u[:, :-1])) < 0.02


@pytest.mark.parametrize("resolution", [8, 15, 32])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"sampling": "pdebench"},
        {"sampling": "pdebench", "frames": 2},
        {"frames": 60, "offset": 1.0, "activator_diffusivity": 0.0},
        {"inhibitor_diffusivity": 0.1, "activator_diffusivity": 0.1, "frames": 3, "duration": 1.0},
        {"inverse_length": 50.0, "covariance_exponent": 1.01, "offset": -1.0},
    ],
    ids=str,
)
def test_solved_samples_pass_their_checks(resolution, parameters):
    scenario = scenario_of(resolution, **parameters)
    for seed in range(3):
        assert failures(scenario, *solved(scenario, seed)) == set()


def test_checks_catch_another_initial_state():
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    inputs["activator"][3, 4] += 1e-6
    assert failures(scenario, inputs, outputs) == {"initial"}


@pytest.mark.parametrize("frame", [0, 1, 10, 11, 20])
def test_checks_catch_one_wrong_cell_of_a_frame_they_look_at(frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["inhibitor"][frame, 3, 4] += 1e-4
    assert "defect" in failures(scenario, inputs, outputs)


@pytest.mark.parametrize(
    "other",
    [
        {"activator_diffusivity": 1.001e-3},
        {"inhibitor_diffusivity": 5.005e-3},
        {"offset": 5.01e-3},
        {"duration": 5.001},
    ],
    ids=str,
)
def test_checks_catch_frames_of_slightly_other_parameters(other):
    scenario = scenario_of()
    assert failures(scenario, *solved(scenario_of(**other))) == {"defect"}


def test_checks_catch_values_that_the_reaction_does_not_reach():
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["activator"][7, 3, 4] = 1.001 * max(np.abs(f).max() for f in inputs.values())
    assert failures(scenario, inputs, outputs) == {"range"}
    outputs["activator"][7, 3, 4] = -1e30
    assert failures(scenario, inputs, outputs) == {"range", "defect"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("frame", [0, 5])
def test_checks_fail_on_values_that_are_no_numbers(value, frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["activator"][frame, 2, 3] = value
    assert {"range"} <= failures(scenario, inputs, outputs)


def test_declared_symmetries_commute_with_the_solver_to_the_last_bit():
    scenario = scenario_of(12, frames=4, sampling="pdebench")
    inputs, outputs = solved(scenario)
    assert scenario.symmetries == SQUARE
    for turn in SQUARE:
        axes = [part.removeprefix("-") for part in turn.split()]

        def turned(field: np.ndarray, axes=axes, turn=turn) -> np.ndarray:
            field = field.swapaxes(-2, -1) if axes == ["y", "x"] else field
            flipped = [k - 2 for k, part in enumerate(turn.split()) if part.startswith("-")]
            return np.flip(field, flipped)

        again = scenario.solve({name: turned(field) for name, field in inputs.items()})
        for name, field in outputs.items():
            np.testing.assert_array_equal(again[name], turned(field))


def test_repeated_calls_and_a_copied_scenario_give_the_same_bits():
    scenario = scenario_of(frames=5)
    first = solved(scenario, seed=4)
    solved(scenario, seed=5)
    for again in (scenario, pickle.loads(pickle.dumps(scenario))):
        for ours, theirs in zip(solved(again, seed=4), first, strict=True):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_another_process_with_other_threads_gives_the_same_bits():
    outputs = solved(scenario_of(16, frames=5), seed=7)[1]
    here = b"".join(outputs[name].tobytes() for name in outputs)
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


@pytest.mark.parametrize("resolution", [7, 0, -4])
def test_an_impossible_resolution_is_refused(resolution):
    with pytest.raises(InputError) as error:
        scenario_of(resolution)
    assert str(error.value) == (f"generate.resolution={resolution} must be at least 8; choose more")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"activator_diffusivity": -1e-3}, "activator_diffusivity=-0.001"),
        ({"inhibitor_diffusivity": 1.0}, "inhibitor_diffusivity=1.0"),
        ({"offset": float("nan")}, "offset=nan"),
        ({"duration": 0.0}, "duration=0.0"),
        ({"frames": 1}, "frames=1"),
        ({"frames": 2.5}, "frames=2.5"),
        ({"sampling": "grf"}, "sampling='grf'"),
        ({"covariance_exponent": 1.0}, "covariance_exponent=1.0"),
        ({"inverse_length": 0.0}, "inverse_length=0.0"),
        ({"viscosity": 1.0}, "viscosity is not a parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(parameters, words):
    with pytest.raises(InputError) as error:
        scenario_of(**parameters)
    assert f"scenarios.diffusion_reaction.{words}" in str(error.value)
    assert "\n" not in str(error.value)


def test_initial_states_that_do_not_fit_are_refused():
    scenario = scenario_of(16)
    zeros = np.zeros((16, 16), np.float32)
    with pytest.raises(InputError, match=r"inhibitor has shape \(8, 8\).*expected \(16, 16\)"):
        scenario.solve({"activator": zeros, "inhibitor": zeros[:8, :8]})
    for value in (np.nan, np.inf, -30.0):
        wrong = zeros.copy()
        wrong[3, 4] = value
        with pytest.raises(InputError, match="expected numbers from -20 to 20"):
            scenario.solve({"activator": wrong, "inhibitor": zeros})
