"""Filters: exact where the posterior is known, and right within chance where it is drawn."""

import numpy as np
import pytest
from scipy.linalg import block_diag

from mno.core.errors import InputError, MnoError
from mno.evaluation.filters import EnsembleModel, ensemble_filter, kalman_filter
from mno.evaluation.linear_state_space import (
    Dynamics,
    Gaussian,
    LinearStateSpace,
    Sensors,
    States,
)

SIZE, READINGS, CONTROLS, FRAMES, SAMPLES = 3, 4, 2, 7, 3


def spd(rng, size, scale=1.0):
    root = rng.normal(size=(size, size))
    return scale * (root @ root.T + 0.1 * np.eye(size))


def made(seed=0):
    """A linear plant, and readings of it with gaps; one frame has none at all."""
    rng = np.random.default_rng(seed)
    dynamics = Dynamics(
        0.6 * rng.normal(size=(SIZE, SIZE)),
        rng.normal(size=(SIZE, CONTROLS)),
        rng.normal(size=SIZE),
        spd(rng, SIZE, 0.1),
    )
    states = States(np.zeros(SIZE), np.eye(SIZE), np.eye(SIZE), np.zeros(SIZE))
    sensors = Sensors(
        rng.normal(size=READINGS), rng.normal(size=(READINGS, SIZE)), spd(rng, READINGS, 0.2)
    )
    first = Gaussian(rng.normal(size=SIZE), spd(rng, SIZE))
    model = LinearStateSpace(dynamics, states, sensors, first)
    controls = rng.normal(size=(SAMPLES, FRAMES, CONTROLS))
    z, readings = rng.multivariate_normal(*first, SAMPLES), []
    for frame in range(FRAMES):
        errors = rng.multivariate_normal(np.zeros(READINGS), sensors.noise, SAMPLES)
        readings.append(z @ sensors.matrix.T + sensors.level + errors)
        unknown = rng.multivariate_normal(np.zeros(SIZE), dynamics.noise, SAMPLES)
        z = dynamics.after(z, controls[:, frame]) + unknown
    readings = np.stack(readings, axis=1)
    readings[rng.random(readings.shape) < 0.3] = np.nan
    readings[1, 2] = np.nan
    return model, readings, controls


def posterior(model, readings, controls):
    """Return mean and covariance of the last frame given all readings of one sample, by algebra."""
    a, b, constant, process = model.dynamics
    frames = len(readings)
    # z of all frames, one after the other: M z = what drives it, with the covariance N.
    m, drive = np.eye(frames * SIZE), [model.first.mean]
    for k in range(1, frames):
        m[k * SIZE : (k + 1) * SIZE, (k - 1) * SIZE : k * SIZE] = -a
        drive.append(b @ controls[k - 1] + constant)
    inverse = np.linalg.inv(m)
    mean = inverse @ np.concatenate(drive)
    covariance = inverse @ block_diag(model.first.covariance, *[process] * (frames - 1)) @ inverse.T
    there = ~np.isnan(readings.ravel())
    c = np.kron(np.eye(frames), model.sensors.matrix)[there]
    errors = np.kron(np.eye(frames), model.sensors.noise)[np.ix_(there, there)]
    news = (readings - model.sensors.level).ravel()[there] - c @ mean
    gain = covariance @ c.T @ np.linalg.inv(c @ covariance @ c.T + errors)
    return (mean + gain @ news)[-SIZE:], (covariance - gain @ c @ covariance)[-SIZE:, -SIZE:]


def test_the_kalman_filter_is_the_posterior():
    model, readings, controls = made()
    beliefs = list(kalman_filter(model, readings, controls))
    assert len(beliefs) == FRAMES
    for frame, belief in enumerate(beliefs, 1):
        for sample in range(SAMPLES):
            mean, covariance = posterior(model, readings[sample, :frame], controls[sample])
            np.testing.assert_allclose(belief.mean[sample], mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(belief.covariance[sample], covariance, rtol=1e-9, atol=1e-12)


def test_a_filter_goes_on_from_what_it_believed():
    model, readings, controls = made()
    *_, whole = kalman_filter(model, readings, controls)
    *_, half = kalman_filter(model, readings[:, :4], controls[:, :4])
    half = model.after(half, controls[:, 3])
    *_, rest = kalman_filter(model, readings[:, 4:], controls[:, 4:], first=half)
    np.testing.assert_allclose(rest.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(rest.covariance, whole.covariance, rtol=1e-12)


def test_covariances_stay_symmetric_and_positive():
    model, _, _ = made()
    sharp = LinearStateSpace(
        model.dynamics._replace(transition=np.diag([1.0, 0.999, 0.2]), noise=1e-14 * np.eye(SIZE)),
        model.states,
        model.sensors._replace(noise=1e-10 * np.eye(READINGS)),
        Gaussian(np.zeros(SIZE), 1e8 * np.eye(SIZE)),
    )
    readings = np.random.default_rng(0).normal(size=(1, 2000, READINGS))
    for belief in kalman_filter(sharp, readings, np.zeros((1, 2000, CONTROLS))):
        covariance = belief.covariance[0]
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0.0


def linear_ensemble(model):
    return EnsembleModel(
        step=model.dynamics.after,
        observe=lambda z: z @ model.sensors.matrix.T + model.sensors.level,
        noise=model.sensors.noise,
        process=np.linalg.cholesky(model.dynamics.noise),
    )


def pool_of(model, states, seed=0):
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(model.first.mean, model.first.covariance, states)


def test_an_ensemble_is_the_kalman_filter_within_chance():
    model, readings, controls = made()
    members = 20_000
    ensemble = ensemble_filter(
        linear_ensemble(model), pool_of(model, members), readings, controls, members=members
    )
    for belief, states in zip(kalman_filter(model, readings, controls), ensemble, strict=True):
        spread = np.sqrt(np.diagonal(belief.covariance, axis1=1, axis2=2))
        mean = states.mean(axis=1)
        assert np.abs((mean - belief.mean) / spread).max() < 6.0 / np.sqrt(members)
        found = np.stack([np.cov(one, rowvar=False) for one in states])
        units = spread[:, :, None] * spread[:, None, :]
        assert np.abs((found - belief.covariance) / units).max() < 6.0 / np.sqrt(members)


def test_fewer_members_than_readings_are_transformed_alike():
    """One reading after the other, or all at once: what is believed is the same."""
    model, readings, _ = made()
    ensemble = linear_ensemble(model)
    independent = np.diag(np.diagonal(model.sensors.noise))
    known = np.nan_to_num(readings[:, :1])
    pool = pool_of(model, 3)
    at_once = EnsembleModel(ensemble.step, ensemble.observe, independent)
    (whole,) = ensemble_filter(at_once, pool, known, members=3)
    states = np.broadcast_to(pool, (SAMPLES, 3, SIZE))
    for number in range(READINGS):
        alone = np.full_like(known, np.nan)
        alone[..., number] = known[..., number]
        (states,) = ensemble_filter(at_once, states, alone, members=3)
    np.testing.assert_allclose(states.mean(axis=1), whole.mean(axis=1), rtol=1e-9)
    for one, other in zip(states, whole, strict=True):
        np.testing.assert_allclose(np.cov(one.T), np.cov(other.T), atol=1e-9)


def test_members_of_a_sample_are_its_own():
    model, readings, controls = made()
    pool = pool_of(model, 50)

    def last(samples, **options):
        *_, states = ensemble_filter(
            linear_ensemble(model), pool, readings[:samples], controls[:samples], members=20,
            **options,
        )  # fmt: skip
        return states

    np.testing.assert_allclose(last(1), last(3)[:1], rtol=1e-9)
    assert not np.allclose(last(1), last(1, seed=1))
    assert last(3).shape == (SAMPLES, 20, SIZE)


def test_inflation_widens_what_nothing_is_read_of():
    model, readings, _ = made()
    pool = pool_of(model, 20)
    none = np.full_like(readings[:, :1], np.nan)
    plain, wide = (
        next(ensemble_filter(linear_ensemble(model), pool, none, members=20, inflation=f))
        for f in (1.0, 1.5)
    )
    np.testing.assert_allclose(wide.mean(axis=1), plain.mean(axis=1))
    np.testing.assert_allclose(wide.std(axis=1), 1.5 * plain.std(axis=1))


def test_what_cannot_be_filtered_is_said():
    model, readings, controls = made()
    with pytest.raises(
        InputError, match=r"readings have shape \(3, 7, 3\); expected .*, 4\): give"
    ):
        kalman_filter(model, readings[..., :3], controls)
    with pytest.raises(InputError, match=r"controls have shape \(3, 7, 0\); expected \(3, 7, 2\)"):
        kalman_filter(model, readings)
    with pytest.raises(InputError, match=r"readings have shape \(7, 4\); expected \(samples, fram"):
        kalman_filter(model, readings[0], controls)
    with pytest.raises(InputError, match="1 of 84 values of readings are not finite; expected NaN"):
        kalman_filter(model, np.where(readings == np.nanmax(readings), np.inf, readings), controls)
    ensemble, pool = linear_ensemble(model), pool_of(model, 30)
    with pytest.raises(InputError, match="members=100 of 30 first states; expected 2 or more"):
        ensemble_filter(ensemble, pool, readings, controls)
    with pytest.raises(InputError, match="inflation=0 must be positive"):
        ensemble_filter(ensemble, pool, readings, controls, members=30, inflation=0.0)
    broken = EnsembleModel(lambda z, u: z[:1], ensemble.observe, ensemble.noise)
    with pytest.raises(MnoError, match=r"returned shape \(1, 3\).* for frame 1; expected \(90, 3"):
        list(ensemble_filter(broken, pool, readings, controls, members=30))
