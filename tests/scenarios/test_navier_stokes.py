"""The scenario navier_stokes: viscosities, initial states, frames as stored, checks."""

from __future__ import annotations

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.scenarios.base import make_scenario
from mno.scenarios.navier_stokes import NavierStokes

THIN = {"viscosity_low": 1e-4, "viscosity_high": 1e-4}  # not held by 24 points


def scenario_of(resolution: int = 32, **parameters: float) -> NavierStokes:
    parameters = {"duration": 2.0, "frames": 4, **parameters}
    scenario = make_scenario("navier_stokes", resolution, parameters)
    assert isinstance(scenario, NavierStokes)
    return scenario


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


def test_the_public_data_can_be_made_and_what_needs_finer_points_yet_is_refused():
    for viscosity, duration in ((1e-3, 50.0), (1e-4, 30.0), (1e-5, 20.0)):
        scenario_of(64, viscosity_low=viscosity, duration=duration)
    with pytest.raises(InputError, match=r"viscosity_low=1e-05 needs waves up to \d+ .* raise it"):
        scenario_of(64, viscosity_low=1e-5, duration=20.0, forcing=1.0)
