"""Reaction and diffusion: independent solution, orders, conservation; states as drawn."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.ndimage import convolve

from mno.scenarios.base import make_scenario
from mno.scenarios.kernels.reaction_diffusion import solve_reaction_diffusion
from mno.scenarios.kernels.runge_kutta import ADVANCES, SHARES, STABLE, WEIGHTS
from tests.scenarios.measures import assert_orders, changes, relative

D_U, D_V, OFFSET = 1e-3, 5e-3, 5e-3


def integrate(
    initial, duration=2.0, frames=3, fineness=1.0, mobilities=None, offset=OFFSET, dtype=np.float64
):
    """Frames of both species, shape `(frames, species, n, n)`, on the square from -1 to 1."""
    n = initial.shape[-1]
    mobilities = mobilities or (D_U * (n / 2) ** 2, D_V * (n / 2) ** 2)
    out = np.empty((2, frames, n, n), dtype)
    u, v = np.ascontiguousarray(initial, dtype=np.float64)
    solve_reaction_diffusion(u, v, *mobilities, offset, duration / (frames - 1), fineness, *out)
    return out.swapaxes(0, 1)


def semidiscrete(initial, duration, frames):
    """The same by scipy's DOP853, to 1e-11, with scipy's own five-point stencil."""
    n = initial.shape[-1]
    stencil = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]) * (n / 2) ** 2

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        u, v = flat.reshape(2, n, n)
        spread = [d * convolve(w, stencil, mode="nearest") for d, w in ((D_U, u), (D_V, v))]
        return np.ravel([spread[0] + u - u**3 - OFFSET - v, spread[1] + u - v])

    times = np.linspace(0.0, duration, frames)
    return solve_ivp(
        rate, (0.0, duration), initial.ravel(), "DOP853", times, rtol=1e-11, atol=1e-12
    ).y.T.reshape(frames, 2, n, n)


def smooth(n):
    """A state of zero flux through the wall and of no symmetry, at cell centres."""
    x = (np.arange(n) + 0.5) / n
    a, b, c = (np.cos(k * np.pi * x) for k in (1, 2, 3))
    return np.stack([np.outer(a, b) + 0.5 * np.outer(c, a), np.outer(b, a) - 0.5 * np.outer(a, a)])


@pytest.mark.parametrize("kind", ["rough", "smooth"])
@pytest.mark.parametrize("n", [8, 13, 24])
def test_an_independent_code_finds_the_same_solution(kind, n):
    initial = np.random.default_rng(0).standard_normal((2, n, n)) if kind == "rough" else smooth(n)
    found = integrate(initial, duration=5.0, frames=11)
    expected = semidiscrete(initial, duration=5.0, frames=11)
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < 1e-6


def test_it_is_of_fourth_order_in_time():
    initial = smooth(16)
    expected = semidiscrete(initial, 2.0, 2)[-1]
    # So long an interval that rounding up the number of steps hardly matters.
    errors = [relative(integrate(initial, 2.0, 2, k)[-1], expected) for k in (1.0, 2.0, 4.0)]
    assert_orders(errors, 3.5, 4.6)


def test_it_is_of_second_order_in_space():
    def on_coarse_grid(n: int) -> np.ndarray:
        # Values between centres of a finer grid that is twice, four times ... as fine.
        field = integrate(smooth(n), 1.0, 2, 4.0)[-1]
        return field.reshape(2, 12, n // 12, 12, n // 12).mean(axis=(2, 4))

    assert_orders(changes([on_coarse_grid(n) for n in (12, 24, 48, 96)]), 1.7, 2.3)


def test_a_uniform_state_follows_the_reaction_alone():
    uniform = np.stack([np.full((8, 8), 1.3), np.full((8, 8), -0.4)])

    def rate(_: float, w: np.ndarray) -> list[float]:
        return [w[0] - w[0] ** 3 - OFFSET - w[1], w[0] - w[1]]

    expected = solve_ivp(rate, (0.0, 2.0), [1.3, -0.4], "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    found = integrate(uniform, fineness=4.0)[-1]
    assert np.ptp(found, axis=(1, 2)).max() == 0.0
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5)


def test_diffusion_alone_keeps_the_mass_and_decays_as_the_waves_of_the_grid_do():
    # So fast a diffusion, in so short a time, that the reaction does not count.
    n, tiny = 16, 1e-9
    x = (np.arange(n) + 0.5) / n
    wave = np.outer(np.cos(2 * np.pi * x), np.cos(np.pi * x))
    initial = np.stack([wave + 0.3, 2 * wave - 0.1])
    mobility = 0.5 / tiny
    found = integrate(initial, tiny, 2, 10.0, (mobility, mobility))[-1]
    eigenvalue = 4 * (np.sin(np.pi / n) ** 2 + np.sin(np.pi / (2 * n)) ** 2)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), [0.3, -0.1], rtol=1e-7)
    np.testing.assert_allclose(found[0] - 0.3, wave * np.exp(-0.5 * eigenvalue), rtol=0, atol=1e-6)


def test_the_mean_of_the_inhibitor_changes_by_the_reaction_alone():
    # d/dt mean v = mean u - mean v, whatever diffusion does; integrated by Simpson's rule.
    found = integrate(smooth(16), duration=0.5, frames=101, fineness=4.0)
    mean_u, mean_v = found.mean(axis=(2, 3)).T
    weights = np.tile([2.0, 4.0], 50)
    weights = np.append(weights, 1.0)
    weights[0] = 1.0
    integral = np.sum(weights * (mean_u - mean_v)) * 0.5 / 100 / 3
    assert mean_v[-1] - mean_v[0] == pytest.approx(integral, abs=1e-9)


def test_frames_between_change_nothing_but_the_steps():
    initial = smooth(16)
    few, many = integrate(initial, 2.0, 3, 4.0), integrate(initial, 2.0, 5, 4.0)
    assert relative(many[::2], few) < 1e-7


def test_stored_frames_are_those_it_goes_on_from():
    frames = integrate(smooth(16).astype(np.float32), 2.0, 5, dtype=np.float32)
    for start in range(4):
        (_, again) = integrate(frames[start], 0.5, 2, dtype=np.float32)
        np.testing.assert_array_equal(again, frames[start + 1])


STAGES = len(WEIGHTS)
A = np.diag(ADVANCES, -1)
B, C = np.array(WEIGHTS), A.sum(axis=1)


def amplification(z):
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


def scenario_of(resolution=16, **parameters):
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
