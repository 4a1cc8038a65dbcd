"""The scenario burgers: viscosities, initial states, frames as stored, checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mno.scenarios.base import Scenario, make_scenario
from mno.scenarios.check import solved_sample


def scenario_of(resolution: int = 32, **parameters: Any) -> Scenario:
    return make_scenario("burgers", resolution, parameters)


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


def test_frames_between_change_nothing_that_is_seen():
    few = solved_sample(scenario_of(frames=3, viscosity_low=5e-3))[1]["velocity"]
    many = solved_sample(scenario_of(frames=9, viscosity_low=5e-3))[1]["velocity"]
    np.testing.assert_allclose(many[::4], few, rtol=0, atol=1e-6)
