"""Figures at sensors recover what is planted, and their intervals hold it as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mno.sensors.scores import SensorErrors, estimate

SENSORS, READINGS = 20, 50


def planted(
    rng: np.random.Generator, bias: float, spread: float, noise: float, sensors: int = SENSORS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors with a bias of all, one of each sensor, and noise; readings; and sensors."""
    sensor = np.repeat(np.arange(sensors), READINGS)
    own = spread * rng.normal(size=sensors)
    error = bias + own[sensor] + noise * rng.normal(size=len(sensor))
    return error, 300 + 10 * rng.normal(size=len(sensor)), sensor


def test_planted_bias_and_noise_are_recovered() -> None:
    error, reading, sensor = planted(np.random.default_rng(0), bias=2.0, spread=0.1, noise=0.5)
    found, *_ = estimate(SensorErrors(error, reading, np.full_like(error, 0.5), sensor), None)
    bias, rmse = found["bias"], found["rmse"]
    assert bias.low is not None and bias.high is not None
    assert bias.low < 2.0 < bias.high and bias.high - bias.low < 0.2
    assert rmse.value == pytest.approx(math.hypot(2.0, 0.1, 0.5), rel=0.03)


def test_figures_are_what_they_are_called() -> None:
    error = np.array([1.0, -3.0, 2.0, 0.0])
    reading = np.array([1.0, 2.0, 3.0, 4.0])
    sigma = np.array([1.0, 1.0, np.nan, 2.0])
    errors = SensorErrors(error, reading, sigma, np.array([0, 0, 1, 1]))
    found = {name: float(values[0]) for name, values in errors.figures().items()}
    assert found == pytest.approx(
        {
            "bias": 0.0,
            "rmse": math.sqrt(14 / 4),
            "mae": 1.5,
            "max": 3.0,
            "relative_l2": math.sqrt(14 / 30),
            "within_two_uncertainties": 2 / 3,
            "rmse_in_uncertainties": math.sqrt(10 / 6),
            "reduced_chi_square": 10 / 3,
        }
    )


def test_draws_of_sensors_take_all_readings_of_a_sensor_together() -> None:
    rng = np.random.default_rng(1)
    error, reading, sensor = planted(rng, 0.3, 1.0, 0.2, sensors=4)
    sigma = np.where(sensor == 2, np.nan, 0.5)
    times = np.array([0, 2, 1, 1])
    rows = np.concatenate(
        [np.flatnonzero(sensor == s) for s, n in enumerate(times) for _ in range(n)]
    )
    drawn = SensorErrors(error, reading, sigma, sensor).figures(times[None].astype(float))
    _, again = np.unique(sensor[rows], return_inverse=True)
    whole = SensorErrors(error[rows], reading[rows], sigma[rows], again).figures()
    for name, values in drawn.items():
        assert values[0] == pytest.approx(whole[name][0], rel=1e-12), name


def test_uncertainties_that_are_right_give_a_chi_square_of_one() -> None:
    rng = np.random.default_rng(2)
    sensor = np.repeat(np.arange(SENSORS), READINGS)
    sigma = rng.uniform(0.1, 3.0, size=len(sensor))
    error = sigma * rng.normal(size=len(sensor))
    found, *_ = estimate(SensorErrors(error, np.ones_like(error), sigma, sensor), None)
    assert found["reduced_chi_square"].value == pytest.approx(1.0, abs=0.15)
    assert found["within_two_uncertainties"].value == pytest.approx(0.954, abs=0.03)
    assert found["rmse_in_uncertainties"].value == pytest.approx(1.0, abs=0.15)


def test_without_uncertainties_nothing_is_said_of_them() -> None:
    error, reading, sensor = planted(np.random.default_rng(3), 1.0, 0.1, 0.1)
    found, *_ = estimate(SensorErrors(error, reading, np.full_like(error, np.nan), sensor), None)
    assert math.isnan(found["reduced_chi_square"].value)
    assert math.isnan(found["within_two_uncertainties"].value)
    assert math.isfinite(found["rmse"].value)


@pytest.mark.parametrize("sensors", [6, 20])
def test_intervals_hold_what_is_planted_as_often_as_they_say(sensors: int) -> None:
    held = 0
    for trial in range(150):
        error, reading, sensor = planted(
            np.random.default_rng([5, trial]), bias=0.7, spread=1.0, noise=0.3, sensors=sensors
        )
        found, *_ = estimate(SensorErrors(error, reading, np.ones_like(error), sensor), None)
        bias = found["bias"]
        assert bias.low is not None and bias.high is not None
        held += bias.low <= 0.7 <= bias.high
    # Intervals that took readings for independent would hold it in less than a third.
    assert 0.88 <= held / 150 <= 0.995


def test_one_sensor_gives_no_interval() -> None:
    error = np.array([1.0, 2.0, 3.0])
    found, _, difference = estimate(*[SensorErrors(error, error, error, np.zeros(3, int))] * 2)
    assert found["rmse"].low is None
    assert difference is not None and difference["rmse"].differs_from_zero is None


def test_errors_that_model_and_solver_share_are_in_no_difference() -> None:
    rng = np.random.default_rng(6)
    shared, reading, sensor = planted(rng, bias=0.0, spread=5.0, noise=1.0)
    sigma = np.ones_like(shared)
    solver = SensorErrors(shared, reading, sigma, sensor)
    alike = SensorErrors(shared + 0.05 * rng.normal(size=len(shared)), reading, sigma, sensor)
    worse = SensorErrors(1.2 * shared, reading, sigma, sensor)
    ours, theirs, difference = estimate(alike, solver)
    assert theirs is not None and difference is not None
    assert difference["rmse"].differs_from_zero is False
    _, _, difference = estimate(worse, solver)
    assert difference is not None
    told = difference["rmse"]
    assert told.differs_from_zero is True and told.value > 0
    assert told.high is not None and ours["rmse"].high is not None and ours["rmse"].low is not None
    assert told.high - told.low < 0.4 * (ours["rmse"].high - ours["rmse"].low)  # type: ignore[operator]


def test_the_same_errors_give_the_same_intervals() -> None:
    error, reading, sensor = planted(np.random.default_rng(7), 1.0, 1.0, 1.0)
    once, again = (
        estimate(SensorErrors(error, reading, np.ones_like(error), sensor), None) for _ in "ab"
    )
    assert once == again
