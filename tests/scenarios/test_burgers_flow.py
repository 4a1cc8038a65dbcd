"""The solver of Burgers' equation: exact solution, order, invariants, independent code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from mno.scenarios.kernels.burgers import BurgersFlow, cole_hopf

N = 64
POINTS = np.arange(N) / N


def smooth(points: np.ndarray) -> np.ndarray:
    """A state of mean 0.3 and no symmetry."""
    angle = 2.0 * np.pi * points
    return 0.3 + np.sin(angle) + 0.4 * np.cos(2.0 * angle) - 0.3 * np.sin(3.0 * angle + 1.0)


def integrate(
    initial: np.ndarray, viscosity: float, duration: float, step: float = 0.25, cutoff: int = 256
) -> np.ndarray:
    """The state at the same points, up to half as many as the cutoff is."""
    waves = np.zeros(cutoff + 1, np.complex128)
    waves[: len(initial) // 2] = np.fft.rfft(initial)[:-1] / len(initial)
    BurgersFlow(cutoff, viscosity).advance(waves, duration, step)
    spread = np.exp(2j * np.pi * np.outer(np.arange(len(initial)) / len(initial), np.arange(257)))
    return 2.0 * (spread[:, : cutoff + 1] @ waves).real - waves[0].real


@pytest.mark.parametrize("time", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("viscosity", [0.1, 0.01, 0.002])
def test_quadrature_of_the_exact_solution_is_that_of_another_rule(time, viscosity):
    # Adaptive quadrature of the textbook form, at some points, without any transform.
    def potential(y: float) -> float:
        return (1 - np.cos(2 * np.pi * y)) / (2 * np.pi)

    def action(y: float, x: float) -> float:
        return (potential(y) + (x - y) ** 2 / (2 * time)) / (2 * viscosity)

    found = cole_hopf(np.sin(2 * np.pi * POINTS), viscosity, time)
    for k in (3, 20, 30, 45):
        x = POINTS[k]
        y = np.linspace(x - 4, x + 4, 200_001)
        best = y[np.argmin(action(y, x))]
        least = action(best, x)
        width = 30 * np.sqrt(viscosity * time) + time
        moments = [
            quad(
                lambda y, x=x, power=power, least=least: (
                    ((x - y) / time) ** power * np.exp(least - action(y, x))
                ),
                best - width, best + width, points=[best], limit=500, epsabs=1e-13, epsrel=1e-12,
            )[0]
            for power in (0, 1)
        ]  # fmt: skip
        assert found[k] == pytest.approx(moments[1] / moments[0], abs=1e-8)


def test_a_mean_carries_the_exact_solution_along():
    still = cole_hopf(np.sin(2 * np.pi * POINTS), 0.02, 0.5)
    moving = cole_hopf(np.sin(2 * np.pi * POINTS) + 0.25, 0.02, 0.5)  # by 8 points
    np.testing.assert_allclose(np.roll(moving, -8) - 0.25, still, atol=1e-12)


@pytest.mark.parametrize("viscosity", [0.1, 0.01, 0.003])
@pytest.mark.parametrize("time", [0.05, 0.5])
def test_it_finds_the_exact_solution(viscosity, time):
    initial = smooth(POINTS)
    found = integrate(initial, viscosity, time, step=0.1)
    assert np.max(np.abs(found - cole_hopf(initial, viscosity, time))) < 1e-8


def test_it_is_of_fourth_order_in_time():
    initial, viscosity, time = smooth(POINTS), 0.02, 0.25
    expected = cole_hopf(initial, viscosity, time)
    steps = (1.6, 0.8, 0.4, 0.2)
    errors = [np.max(np.abs(integrate(initial, viscosity, time, s) - expected)) for s in steps]
    for order in np.log2(np.divide(errors[:-1], errors[1:])):
        assert 3.6 < order < 4.6


def test_its_error_falls_faster_than_any_power_with_the_waves():
    initial, viscosity, time = smooth(POINTS), 0.006, 0.25
    expected = cole_hopf(initial, viscosity, time)
    errors = [
        np.max(np.abs(integrate(initial, viscosity, time, 0.1, cutoff) - expected))
        for cutoff in (32, 64, 128)
    ]
    assert errors[0] > 30 * errors[1] > 3e4 * errors[2]


def test_scipy_finds_the_same_solution_of_the_same_waves():
    cutoff, points, viscosity = 31, 128, 0.01
    k = np.arange(cutoff + 1)

    def rate(_: float, values: np.ndarray) -> np.ndarray:
        u = np.fft.rfft(values)[: cutoff + 1]
        flux = np.fft.rfft(values**2)[: cutoff + 1]
        return np.fft.irfft(-1j * np.pi * k * flux - viscosity * (2 * np.pi * k) ** 2 * u, points)

    initial = smooth(POINTS)
    fine = smooth(np.arange(points) / points)
    found = solve_ivp(rate, (0.0, 0.4), fine, "LSODA", rtol=1e-10, atol=1e-11).y[::2, -1]
    # So few waves leave an error of the layer that both must share.
    ours = integrate(initial, viscosity, 0.4, 0.05, cutoff)
    assert np.max(np.abs(ours - found)) < 1e-7
    assert np.max(np.abs(ours - cole_hopf(initial, viscosity, 0.4))) > 1e-6


def test_the_mean_is_kept_and_energy_falls_by_what_viscosity_takes():
    viscosity, cutoff = 0.01, 128
    waves = np.zeros(cutoff + 1, np.complex128)
    waves[: N // 2] = np.fft.rfft(smooth(POINTS))[:-1] / N
    flow = BurgersFlow(cutoff, viscosity)
    energies, losses = [], []
    for _ in range(201):
        energy = np.abs(waves) ** 2
        energies.append(0.5 * energy[0] + np.sum(energy[1:]))
        losses.append(2.0 * viscosity * np.sum((2 * np.pi * np.arange(cutoff + 1)) ** 2 * energy))
        flow.advance(waves, 0.002)
    assert waves[0] == pytest.approx(0.3, abs=1e-15)
    weights = np.tile([2.0, 4.0], 100)
    weights[0] = 1.0
    taken = np.sum(np.append(weights, 1.0) * losses) * 0.002 / 3
    assert energies[0] - energies[-1] == pytest.approx(taken, rel=1e-7)
    assert np.max(np.diff(energies)) < 0


def test_a_shifted_state_is_a_shifted_solution():
    initial = smooth(POINTS)
    found = integrate(initial, 0.02, 0.3)
    np.testing.assert_allclose(
        integrate(np.roll(initial, 11), 0.02, 0.3), np.roll(found, 11), atol=1e-13
    )


def test_a_mirrored_state_of_the_other_sign_is_a_mirrored_solution():
    initial = smooth(POINTS + 0.5 / N)
    found = integrate(initial, 0.02, 0.3)
    np.testing.assert_allclose(integrate(-initial[::-1], 0.02, 0.3), -found[::-1], atol=1e-13)
