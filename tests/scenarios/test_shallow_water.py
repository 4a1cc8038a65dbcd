"""The scenario shallow_water: initial depths, frames as stored, checks."""

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
from mno.scenarios.base import SQUARE, make_scenario, scenario_names
from mno.scenarios.shallow_water import SCENARIO, ShallowWater

DIGEST = """
import hashlib, numpy as np
from mno.scenarios.base import make_scenario
scenario = make_scenario("shallow_water", 16, {"frames": 5})
outputs = scenario.solve(scenario.sample(np.random.default_rng(7)))
print(hashlib.sha256(outputs["depth"].tobytes()).hexdigest())
"""


def scenario_of(resolution: int = 24, **parameters: float | str) -> ShallowWater:
    scenario = make_scenario("shallow_water", resolution, parameters)
    assert isinstance(scenario, ShallowWater)
    return scenario


def test_it_is_found_by_name_and_its_state_is_given_and_predicted():
    assert "shallow_water" in scenario_names()
    assert SCENARIO is ShallowWater
    scenario = scenario_of()
    assert scenario.inputs == scenario.outputs == scenario.fields
    assert [(field.name, field.role) for field in scenario.fields] == [("depth", "state")]


def test_axes_are_frames_from_zero_and_cell_centres_from_minus_two_and_a_half():
    time, x, y = scenario_of(20, frames=6, duration=2.0).axes
    assert [axis.name for axis in (time, x, y)] == ["time", "x", "y"]
    np.testing.assert_allclose(time.points, [0.0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert time.extent == (0.0, 2.0)
    assert x.extent == y.extent == (-2.5, 2.5)
    np.testing.assert_allclose(x.points, np.linspace(-2.375, 2.375, 20))


@pytest.mark.parametrize("sampling", ["dams", "pdebench"])
def test_arrays_are_float32_and_the_first_frame_is_what_was_drawn(sampling):
    inputs, outputs = solved(scenario_of(13, frames=4, sampling=sampling))
    assert inputs["depth"].dtype == outputs["depth"].dtype == np.float32
    assert inputs["depth"].shape == (13, 13)
    assert outputs["depth"].shape == (4, 13, 13)
    np.testing.assert_array_equal(outputs["depth"][0], inputs["depth"])


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_function_at_every_resolution(seed):
    # The centres of 16 cells are among those of 48: every third, from the second on.
    coarse = scenario_of(16, sampling="pdebench").sample(np.random.default_rng(seed))["depth"]
    fine = scenario_of(48, sampling="pdebench").sample(np.random.default_rng(seed))["depth"]
    np.testing.assert_array_equal(fine[1::3, 1::3], coarse)
    # Means of dams: a share of 1 / 64 of a cell is what its points can tell.
    coarse = scenario_of(16).sample(np.random.default_rng(seed))["depth"]
    fine = scenario_of(48).sample(np.random.default_rng(seed))["depth"]
    means = fine.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(means, coarse, atol=0.05)
    assert np.abs(means - coarse).mean() < 1e-3


def test_the_solution_converges_under_refinement_of_one_function():
    frames = []
    for n in (24, 48, 96, 192):
        depth = solved(scenario_of(n, frames=3), seed=1)[1]["depth"].astype(np.float64)
        frames.append(depth.reshape(3, 24, n // 24, 24, n // 24).mean(axis=(2, 4)))
    changes = [np.abs(b - a).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert changes[2] < 0.6 * changes[1] < 0.4 * changes[0]


def test_pdebench_draws_a_disc_in_the_middle_of_random_radius():
    scenario = scenario_of(64, sampling="pdebench")
    draws = [scenario.sample(np.random.default_rng(k))["depth"] for k in range(300)]
    assert all(set(np.unique(draw)) == {1.0, 2.0} for draw in draws)
    assert all(np.array_equal(draw, np.rot90(draw)) for draw in draws)
    radii = [np.sqrt(np.sum(draw > 1.5) / np.pi) * 5.0 / 64 for draw in draws]
    assert 0.27 < min(radii) < 0.33 < 0.67 < max(radii) < 0.73
    assert np.mean(radii) == pytest.approx(0.5, abs=0.03)


def test_dams_lie_anywhere_and_their_depth_differs():
    scenario = scenario_of(32, dam_depth=3.0)
    draws = np.array([scenario.sample(np.random.default_rng(k))["depth"] for k in range(300)])
    assert draws.min() == 1.0
    deepest = draws.max(axis=(1, 2))
    assert 2.0 <= deepest.min() < 2.1 < 2.9 < deepest.max() <= 3.0
    often = np.mean(draws > 1.0, axis=0)
    assert often[16, 16] > 0.1
    assert often[8, 8] > 0.05
    assert len({draw.tobytes() for draw in draws}) == 300


@pytest.mark.parametrize("resolution", [9, 15, 32])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"sampling": "pdebench"},
        {"sampling": "pdebench", "frames": 101},
        {"dams": 20, "spread": 2.5, "max_radius": 2.5, "frames": 2},
        {"outer_depth": 0.01, "dam_depth": 0.1, "duration": 10.0, "gravity": 10.0},
        {"outer_depth": 1.0, "dam_depth": 10.0, "dams": 20, "spread": 1.0},
        {"dam_depth": 1.0001, "frames": 41, "spread": 0.0},
        {"gravity": 0.01, "duration": 1e-3, "frames": 1001},
    ],
    ids=str,
)
def test_solved_samples_pass_their_checks(resolution, parameters):
    scenario = scenario_of(resolution, **parameters)
    for seed in range(3):
        inputs, outputs = solved(scenario, seed)
        assert failures(scenario, inputs, outputs) == set()
        assert outputs["depth"].min() > 0.0


@pytest.mark.parametrize("seed", range(25))
def test_solved_samples_of_any_parameters_pass_their_checks(seed):
    rng = np.random.default_rng(seed)
    outer = 10.0 ** rng.uniform(-2.0, 0.0)
    radii = np.sort(rng.uniform(0.1, 1.5, 2))
    scenario = scenario_of(
        int(rng.integers(25, 40)),
        sampling=str(rng.choice(["dams", "pdebench"])),
        dams=int(rng.integers(1, 21)),
        outer_depth=outer,
        dam_depth=outer * rng.uniform(1.001, 9.999),
        min_radius=float(radii[0]),
        max_radius=float(radii[1]),
        spread=rng.uniform(0.0, 2.5),
        gravity=10.0 ** rng.uniform(-2.0, 1.0),
        duration=10.0 ** rng.uniform(-3.0, 0.5),
        frames=int(rng.integers(2, 50)),
    )
    assert failures(scenario, *solved(scenario, seed)) == set()


def test_checks_catch_another_initial_state():
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    inputs["depth"][3, 4] += 1e-6
    assert failures(scenario, inputs, outputs) == {"initial"}


def test_checks_catch_one_wrong_cell_of_the_first_interval():
    scenario = scenario_of()
    for frame in (0, 1):
        inputs, outputs = solved(scenario)
        outputs["depth"][frame, 12, 13] += 1e-5
        assert "defect" in failures(scenario, inputs, outputs)


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_checks_catch_one_wrong_cell_before_a_wave_reaches_the_wall(frame):
    scenario = scenario_of(spread=0.0)
    inputs, outputs = solved(scenario)
    outputs["depth"][frame, 12, 13] += 1e-3
    assert "mass" in failures(scenario, inputs, outputs)


@pytest.mark.parametrize(
    "other", [{"gravity": 1.001}, {"duration": 1.001}, {"duration": 0.999}], ids=str
)
def test_checks_catch_frames_of_slightly_other_parameters(other):
    scenario = scenario_of()
    assert "defect" in failures(scenario, *solved(scenario_of(**other)))


def test_checks_catch_waves_that_rise_again():
    scenario = scenario_of(spread=0.0)
    inputs, outputs = solved(scenario)
    assert failures(scenario, inputs, {"depth": outputs["depth"][[0, 1, 0, 3, *range(4, 21)]]}) == (
        set()
    )
    wrong = outputs["depth"].copy()
    wrong[2] = 1.0 + 1.1 * (wrong[0] - 1.0)
    assert {"energy", "mass"} <= failures(scenario, inputs, {"depth": wrong})


def test_checks_catch_depths_out_of_range():
    scenario = scenario_of()
    for value in (-1e-3, 30.0, -1e30):
        inputs, outputs = solved(scenario)
        outputs["depth"][15, 3, 4] = value
        assert failures(scenario, inputs, outputs) == {"range"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("frame", [0, 1, 15])
def test_checks_fail_on_values_that_are_no_numbers(value, frame):
    scenario = scenario_of()
    inputs, outputs = solved(scenario)
    outputs["depth"][frame, 2, 3] = value
    assert {"range"} <= failures(scenario, inputs, outputs)


def test_declared_symmetries_commute_with_the_solver_to_the_last_bit():
    scenario = scenario_of(18, frames=4)
    inputs, outputs = solved(scenario, seed=3)
    assert scenario.symmetries == SQUARE
    for turn in SQUARE:

        def turned(field: np.ndarray, turn=turn) -> np.ndarray:
            parts = turn.split()
            field = field.swapaxes(-2, -1) if parts[0].endswith("y") else field
            backwards = (k - 2 for k, part in enumerate(parts) if part.startswith("-"))
            return np.flip(field, tuple(backwards))

        again = scenario.solve({"depth": turned(inputs["depth"])})
        np.testing.assert_array_equal(again["depth"], turned(outputs["depth"]))


def test_four_times_the_gravity_does_the_same_in_half_the_time():
    _, outputs = solved(scenario_of())
    _, faster = solved(scenario_of(gravity=4.0, duration=0.5))
    assert faster["depth"].tobytes() == outputs["depth"].tobytes()


def test_repeated_calls_and_a_copied_scenario_give_the_same_bits():
    scenario = scenario_of(frames=5)
    first = solved(scenario, seed=4)
    solved(scenario, seed=5)
    for again in (scenario, pickle.loads(pickle.dumps(scenario))):
        for ours, theirs in zip(solved(again, seed=4), first, strict=True):
            assert ours["depth"].tobytes() == theirs["depth"].tobytes()


def test_another_process_with_other_threads_gives_the_same_bits():
    here = solved(scenario_of(16, frames=5), seed=7)[1]["depth"].tobytes()
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
    ("resolution", "radius", "needed"), [(8, 0.3, 9), (0, 0.3, 9), (7, 0.7, 8), (49, 0.05, 50)]
)
def test_an_impossible_resolution_is_refused(resolution, radius, needed):
    with pytest.raises(InputError) as error:
        scenario_of(resolution, min_radius=radius)
    assert str(error.value) == (
        f"generate.resolution={resolution} must be at least {needed}, so that a cell is no wider "
        f"than the smallest dam (min_radius={radius}); choose more"
    )
    assert scenario_of(needed, min_radius=radius)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sampling": "radial"}, ".sampling='radial'"),
        ({"dams": 0}, ".dams=0"),
        ({"outer_depth": 0.0}, ".outer_depth=0.0"),
        ({"dam_depth": float("nan")}, ".dam_depth=nan"),
        ({"dam_depth": 1.0}, ": dam_depth=1.0 must be more than outer_depth=1.0 and at most 10"),
        ({"outer_depth": 0.1}, ": dam_depth=2.0 must be more than outer_depth=0.1 and at most 10"),
        ({"min_radius": 0.0}, ".min_radius=0.0"),
        ({"min_radius": 0.8}, ": min_radius=0.8 must be at most max_radius=0.7; swap"),
        ({"spread": 3.0}, ".spread=3.0"),
        ({"gravity": 0.0}, ".gravity=0.0"),
        ({"duration": 0.0}, ".duration=0.0"),
        ({"frames": 1}, ".frames=1"),
        ({"frames": 2.5}, ".frames=2.5"),
        ({"viscosity": 1.0}, ".viscosity is not a parameter"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(parameters, words):
    with pytest.raises(InputError) as error:
        scenario_of(**parameters)
    assert f"scenarios.shallow_water{words}" in str(error.value)
    assert "\n" not in str(error.value)


def test_initial_depths_that_do_not_fit_are_refused():
    scenario = scenario_of(16)
    ones = np.ones((16, 16), np.float32)
    with pytest.raises(InputError, match=r"shape \(8, 8\).*expected \(16, 16\)"):
        scenario.solve({"depth": ones[:8, :8]})
    for value in (np.nan, np.inf, 0.0, -1.0, 2e3):
        wrong = ones.copy()
        wrong[3, 4] = value
        with pytest.raises(InputError, match="expected positive numbers up to 1000"):
            scenario.solve({"depth": wrong})


def test_water_that_runs_dry_is_named():
    depth = np.full((16, 16), 1e-9, np.float32)
    depth[6:10, 3:5] = 1.0
    with pytest.raises(MnoError, match="ran dry or too fast before frame") as error:
        scenario_of(16, duration=10.0).solve({"depth": depth})
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)
