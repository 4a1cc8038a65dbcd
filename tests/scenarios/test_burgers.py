"""The scenario burgers: viscosities, initial states, frames as stored, checks."""

from __future__ import annotations

import numpy as np
import pytest

from mno.scenarios.base import make_scenario
from mno.scenarios.burgers import Burgers
from mno.scenarios.check import failed_checks, solved_sample


def scenario_of(resolution: int = 32, **parameters: float | str) -> Burgers:
    scenario = make_scenario("burgers", resolution, parameters)
    assert isinstance(scenario, Burgers)
    return scenario


def test_a_solution_at_fewer_points_is_that_of_more_where_the_initial_state_is_smooth():
    coarse, fine = (
        solved_sample(scenario_of(n, sampling="sines", viscosity_low=2e-3, viscosity_high=2e-3))[1]
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
        assert failed_checks(scenario, *solved_sample(scenario, seed)) == set()


def test_frames_between_change_nothing_that_is_seen():
    few = solved_sample(scenario_of(frames=3, viscosity_low=5e-3))[1]["velocity"]
    many = solved_sample(scenario_of(frames=9, viscosity_low=5e-3))[1]["velocity"]
    np.testing.assert_allclose(many[::4], few, rtol=0, atol=1e-6)


def test_a_state_at_rest_stays_and_passes():
    scenario = scenario_of(frames=3)
    inputs = {"viscosity": np.float32(0.02), "velocity": np.zeros(32, np.float32)}
    outputs = scenario.solve(inputs)
    assert not outputs["velocity"].any()
    assert failed_checks(scenario, inputs, outputs) == set()


def test_checks_catch_another_initial_state():
    scenario = scenario_of()
    inputs, outputs = solved_sample(scenario)
    inputs["velocity"][3] += 1e-6
    assert "initial" in failed_checks(scenario, inputs, outputs)


@pytest.mark.parametrize("frame", [1, 3, 6])
def test_checks_catch_one_wrong_point(frame):
    scenario = scenario_of(frames=7)
    inputs, outputs = solved_sample(scenario)
    outputs["velocity"][frame, 5] += 1e-5
    assert failed_checks(scenario, inputs, outputs) == {"exact"}


@pytest.mark.parametrize(
    "other",
    [{"viscosity_low": 2.001e-2, "viscosity_high": 2.001e-2}, {"duration": 1.0001}],
    ids=str,
)
def test_checks_catch_frames_of_slightly_other_parameters(other):
    scenario = scenario_of()
    inputs, _ = solved_sample(scenario)
    _, outputs = solved_sample(scenario_of(**other))
    assert failed_checks(scenario, inputs, outputs) == {"exact"}


def test_checks_catch_values_beyond_the_initial_ones_in_any_frame():
    scenario = scenario_of(frames=101)
    inputs, outputs = solved_sample(scenario)
    outputs["velocity"][37, 5] = -1.1 * np.abs(inputs["velocity"]).max()
    assert "range" in failed_checks(scenario, inputs, outputs)
