"""The scenario shallow_water: initial depths, frames as stored, checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mno.core.errors import InputError, MnoError
from mno.scenarios.base import Scenario, make_scenario
from mno.scenarios.check import failed_checks, solved_sample


def scenario_of(resolution: int = 24, **parameters: Any) -> Scenario:
    return make_scenario("shallow_water", resolution, parameters)


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
        depth = solved_sample(scenario_of(n, frames=3), seed=1)[1]["depth"].astype(np.float64)
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
    draws = np.stack([scenario.sample(np.random.default_rng(k))["depth"] for k in range(300)])
    assert draws.min() == 1.0
    deepest = draws.max(axis=(1, 2))
    assert 2.0 <= deepest.min() < 2.1 < 2.9 < deepest.max() <= 3.0
    often = np.mean(draws > 1.0, axis=0)
    assert often[16, 16] > 0.1
    assert often[8, 8] > 0.05
    assert len({draw.tobytes() for draw in draws}) == 300


def test_checks_catch_waves_that_rise_again():
    scenario = scenario_of(spread=0.0)
    inputs, outputs = solved_sample(scenario)
    assert failed_checks(
        scenario, inputs, {"depth": outputs["depth"][[0, 1, 0, 3, *range(4, 21)]]}
    ) == (set())
    wrong = outputs["depth"].copy()
    wrong[2] = 1.0 + 1.1 * (wrong[0] - 1.0)
    assert {"energy", "mass"} <= failed_checks(scenario, inputs, {"depth": wrong})


def test_four_times_the_gravity_does_the_same_in_half_the_time():
    _, outputs = solved_sample(scenario_of())
    _, faster = solved_sample(scenario_of(gravity=4.0, duration=0.5))
    assert faster["depth"].tobytes() == outputs["depth"].tobytes()


def test_water_that_runs_dry_is_named():
    depth = np.full((16, 16), 1e-9, np.float32)
    depth[6:10, 3:5] = 1.0
    with pytest.raises(MnoError, match="ran dry or too fast before frame") as error:
        scenario_of(16, duration=10.0).solve({"depth": depth})
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)
