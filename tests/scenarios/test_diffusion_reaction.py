"""The scenario diffusion_reaction: initial states, frames as stored, checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mno.scenarios.base import Scenario, make_scenario


def scenario_of(resolution: int = 16, **parameters: Any) -> Scenario:
    return make_scenario("diffusion_reaction", resolution, parameters)


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
