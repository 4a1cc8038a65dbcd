"""The solver of the FitzHugh-Nagumo equations: independent solution, orders, conservation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.ndimage import convolve

from mno.scenarios.kernels.reaction_diffusion import solve_reaction_diffusion
from tests.scenarios.measures import relative

D_U, D_V, OFFSET = 1e-3, 5e-3, 5e-3


def integrate(
    initial: np.ndarray,
    duration: float = 2.0,
    frames: int = 3,
    fineness: float = 1.0,
    mobilities: tuple[float, float] | None = None,
    offset: float = OFFSET,
    dtype: type = np.float64,
) -> np.ndarray:
    """Frames of both species, shape `(frames, species, n, n)`, on the square from -1 to 1."""
    n = initial.shape[-1]
    mobilities = mobilities or (D_U * (n / 2) ** 2, D_V * (n / 2) ** 2)
    out = np.empty((2, frames, n, n), dtype)
    u, v = np.ascontiguousarray(initial, dtype=np.float64)
    solve_reaction_diffusion(u, v, *mobilities, offset, duration / (frames - 1), fineness, *out)
    return out.swapaxes(0, 1)


def semidiscrete(initial: np.ndarray, duration: float, frames: int) -> np.ndarray:
    """The same by scipy's DOP853, to 1e-11, with scipy's own five-point stencil."""
    n = initial.shape[-1]
    stencil = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]) * (n / 2) ** 2

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        u, v = flat.reshape(2, n, n)
        spread = [d * convolve(w, stencil, mode="nearest") for d, w in ((D_U, u), (D_V, v))]
        return np.ravel([spread[0] + u - u**3 - OFFSET - v, spread[1] + u - v])

    times = np.linspace(0.0, duration, frames)
    found = solve_ivp(
        rate, (0.0, duration), initial.ravel(), "DOP853", times, rtol=1e-11, atol=1e-12
    )
    return found.y.T.reshape(frames, 2, n, n)


def smooth(n: int) -> np.ndarray:
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
    for order in np.log2(np.divide(errors[:-1], errors[1:])):
        assert 3.5 < order < 4.6


def test_it_is_of_second_order_in_space():
    def on_coarse_grid(n: int) -> np.ndarray:
        # Values between centres of a finer grid that is twice, four times ... as fine.
        field = integrate(smooth(n), 1.0, 2, 4.0)[-1]
        return field.reshape(2, 12, n // 12, 12, n // 12).mean(axis=(2, 4))

    levels = [on_coarse_grid(n) for n in (12, 24, 48, 96)]
    changes = [np.linalg.norm(b - a) for a, b in zip(levels, levels[1:], strict=False)]
    for order in np.log2(np.divide(changes[:-1], changes[1:])):
        assert 1.7 < order < 2.3


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
    n = 16
    initial = smooth(n).astype(np.float32)
    frames = integrate(initial, 2.0, 5, dtype=np.float32)
    for start in range(4):
        (_, again) = integrate(frames[start], 0.5, 2, dtype=np.float32)
        np.testing.assert_array_equal(again, frames[start + 1])
