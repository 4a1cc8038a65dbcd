"""A linear state space finds a linear plant, and says how sure it is."""

from itertools import accumulate

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.evaluation.linear_state_space import (
    Gaussian,
    Runs,
    fit_state_space,
)

VALUES, UNITS = 6, np.array([1.0, 1e-6, 1e5, 3.0, 0.1, 20.0])
STATES = np.random.default_rng(0).normal(size=(VALUES, 3))  # of which three numbers are all
A = np.array([[0.9, 0.2, 0.0], [-0.2, 0.9, 0.0], [0.0, 0.1, 0.7]])
B, CONSTANT = np.array([[0.5, 0.0], [0.0, 0.3], [1.0, -1.0]]), np.array([0.1, 0.0, -0.2])
READ = np.array([[1.0, 0.0, 0.0], [0.3, 0.4, 1.0]])


def linear_runs(samples, frames, seed, noise=0.0, sensor=0.0, gaps=0.0):
    rng = np.random.default_rng(seed)
    z, controls = [rng.normal(size=(samples, 3))], rng.normal(size=(samples, frames, 2))
    for k in range(frames - 1):
        z.append(
            z[-1] @ A.T + controls[:, k] @ B.T + CONSTANT + noise * rng.normal(size=z[0].shape)
        )
    z = np.stack(z, axis=1)
    readings = z @ READ.T + 5.0 + sensor * rng.normal(size=(samples, frames, 2))
    readings[rng.random(readings.shape) < gaps] = np.nan
    return Runs.of((z @ STATES.T + 2.0) * UNITS, readings, controls), z


def ahead(model, belief, controls):
    """Return what is to be expected of each later frame, under controls from now on."""
    return list(accumulate(np.swapaxes(controls, 0, 1), model.after, initial=belief))[1:]


def test_a_linear_plant_is_found():
    model = fit_state_space(linear_runs(20, 30, 1)[0], 10, 1e-12)
    assert model.states.matrix.shape == (VALUES, 3)
    runs, z = linear_runs(5, 40, 2)
    first = Gaussian(model.states.components(runs.states[:, 0]), np.zeros((3, 3)))
    later = [model.state(belief)[0] for belief in ahead(model, first, runs.controls[:, :-1])]
    missed = (np.stack(later, axis=1) - runs.states[:, 1:]) / UNITS
    np.testing.assert_allclose(missed, 0.0, atol=2e-5)
    read = model.states.components(runs.states) @ model.sensors.matrix.T + model.sensors.level
    np.testing.assert_allclose(read, z @ READ.T + 5.0, atol=1e-6)


def test_the_errors_are_what_the_plant_and_its_sensors_have():
    noise, sensor = 0.05, 0.2
    model = fit_state_space(linear_runs(300, 40, 1, noise, sensor, gaps=0.3)[0], 10, 1e-9)
    process = STATES * UNITS[:, None] * noise
    found = model.states.matrix @ model.dynamics.noise @ model.states.matrix.T
    np.testing.assert_allclose(found / np.outer(UNITS, UNITS),
                               process @ process.T / np.outer(UNITS, UNITS), atol=5e-4)  # fmt: skip
    np.testing.assert_allclose(model.sensors.noise, sensor**2 * np.eye(2), atol=2e-3)


def test_bands_ahead_cover_what_comes():
    model = fit_state_space(linear_runs(100, 40, 1, 0.2)[0], 10, 1e-9)
    runs, _ = linear_runs(2000, 12, 3, 0.2)
    known = Gaussian(model.states.components(runs.states[:, 0]), np.zeros((3, 3)))
    for frame, belief in enumerate(ahead(model, known, runs.controls[:, :-1]), 1):
        mean, variance = model.state(belief)
        inside = np.abs(runs.states[:, frame] - mean) < 1.645 * np.sqrt(variance)
        assert 0.86 < inside.mean() < 0.94


def test_what_components_leave_out_is_in_the_variance():
    runs, _ = linear_runs(50, 40, 1)
    model = fit_state_space(runs, 2, 1e-9)
    z = model.states.components(runs.states)
    mean, variance = model.state(Gaussian(z, np.zeros((2, 2))))
    np.testing.assert_allclose(np.square(runs.states - mean).mean(axis=(0, 1)), variance, rtol=1e-6)


def test_what_is_certain_has_no_variance_below_zero():
    runs, _ = linear_runs(30, 20, 1, 0.1)
    model = fit_state_space(runs, 10, 1e-9)
    _, variance = model.state(Gaussian(np.zeros(3), -1e-16 * np.eye(3)))  # as rounding leaves it
    assert (variance >= 0.0).all()


def test_values_that_never_vary_and_one_run_are_taken():
    runs, _ = linear_runs(1, 60, 1, 0.1)
    states = np.concatenate([runs.states, np.full((1, 60, 2), 7.0)], axis=2)
    model = fit_state_space(Runs.of(states), 10, 1e-6)
    *_, belief = ahead(model, model.first, np.empty((1, 5, 0)))
    mean, variance = model.state(belief)
    np.testing.assert_allclose(mean[..., -2:], 7.0, rtol=1e-9)
    assert np.isfinite(variance).all()
    np.testing.assert_allclose(model.first.mean, 0.0, atol=1e-9)  # of all frames
    scale = np.sqrt(model.sensors.noise.diagonal())  # readings differ by ten orders of magnitude
    assert np.linalg.eigvalsh(model.sensors.noise / np.outer(scale, scale)).min() > 0.0


def test_what_cannot_be_fitted_is_said():
    runs, _ = linear_runs(4, 5, 1)
    with pytest.raises(InputError, match=r"states have shape \(5, 6\); expected \(samples, frames"):
        Runs.of(runs.states[0])
    with pytest.raises(InputError, match=r"controls have shape \(4, 3, 2\); expected \(4, 5, numb"):
        Runs.of(runs.states, None, runs.controls[:, :3])
    with pytest.raises(InputError, match=r"1 of 120 values of states are not finite; expected num"):
        Runs.of(np.where(runs.states == runs.states.max(), np.nan, runs.states))
    with pytest.raises(InputError, match="runs have 1 frame; expected 2 or more"):
        Runs.of(runs.states[:, :1])
    short = Runs.of(runs.states[:1], None, runs.controls[:1])
    with pytest.raises(InputError, match="4 steps for 3 components and 2 controls; expected more"):
        fit_state_space(short, 3, 1e-6)
    dead = Runs.of(runs.states, np.full((4, 5, 1), np.nan))
    with pytest.raises(InputError, match="reading 0 has 0 values for 3 components; expected more"):
        fit_state_space(dead, 3, 1e-6)
