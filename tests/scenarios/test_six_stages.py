"""The Runge-Kutta method of six stages: conditions of order, stability."""

from __future__ import annotations

import numpy as np
import pytest

from mno.scenarios.kernels.runge_kutta import ADVANCES, SHARES, STABLE, WEIGHTS

STAGES = len(WEIGHTS)
A = np.diag(ADVANCES, -1)
B, C = np.array(WEIGHTS), A.sum(axis=1)


def amplification(z: np.ndarray) -> np.ndarray:
    """What a step makes of `y' = z y / dt`."""
    powers = [float(B @ np.linalg.matrix_power(A, k) @ np.ones(STAGES)) for k in range(STAGES)]
    return np.polyval(np.array([*reversed(powers), 1.0]), z)


@pytest.mark.parametrize(
    ("sum_", "value"),
    [
        (B.sum(), 1),
        (B @ C, 1 / 2),
        (B @ C**2, 1 / 3),
        (B @ A @ C, 1 / 6),
        (B @ C**3, 1 / 4),
        (B @ (C * (A @ C)), 1 / 8),
        (B @ A @ C**2, 1 / 12),
        (B @ A @ A @ C, 1 / 24),
    ],
)
def test_the_conditions_of_fourth_order_hold(sum_, value):
    assert sum_ == pytest.approx(value, abs=1e-15)


def test_it_evaluates_within_the_step_and_adds_with_positive_weights():
    assert np.all((C >= 0.0) & (C < 1.0))
    assert np.all(B > 0.0)


def test_shares_of_the_stages_make_the_same_end_as_weights():
    rates = np.random.default_rng(0).standard_normal(STAGES)
    stages = 0.7 + A @ rates
    assert np.array(SHARES) @ stages + B[-1] * rates[-1] == pytest.approx(
        0.7 + B @ rates, abs=1e-14
    )


def test_waves_that_decay_are_damped_up_to_the_limit_and_not_much_beyond():
    decay = np.linspace(1.0, STABLE, 2000)
    assert np.abs(amplification(-decay)).max() < 0.901
    assert abs(amplification(np.array(-STABLE - 0.3))) > 1.0
    for turning in (0.1, 0.2, 0.3):
        assert np.abs(amplification(-decay + 1j * turning)).max() < 1.0
