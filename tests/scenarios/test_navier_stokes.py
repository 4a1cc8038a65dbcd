"""Plane flows: exact solutions, order, budgets, symmetry, independent code; states as drawn."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mno.core.errors import InputError
from mno.scenarios.base import make_scenario
from mno.scenarios.kernels.vorticity import VorticityFlow
from mno.scenarios.navier_stokes import NavierStokes
from tests.scenarios.measures import assert_orders, relative

N = 32
X, Y = np.meshgrid(np.arange(N) / N, np.arange(N) / N, indexing="ij")


def waves(values, cutoff):
    n = len(values)
    return np.fft.rfft2(values)[np.arange(-cutoff, cutoff + 1), : cutoff + 1] / n**2


def values(coefficients, n=N):
    cutoff = coefficients.shape[1] - 1
    spectrum = np.zeros((n, n // 2 + 1), np.complex128)
    spectrum[np.arange(-cutoff, cutoff + 1), : cutoff + 1] = coefficients
    return np.fft.irfft2(spectrum, (n, n)) * n**2


def smooth(x=X, y=Y):
    """A vorticity of speeds near 1 and no symmetry."""
    a, b = 2 * np.pi * x, 2 * np.pi * y
    return 6 * np.cos(a + 0.3) * np.sin(b) + 4 * np.sin(2 * a - b) + 3 * np.cos(a + 2 * b + 1.0)


def integrate(vorticity, viscosity, duration, forcing=None, step=0.5, cutoff=15):
    force = np.zeros_like(vorticity) if forcing is None else forcing
    flow = VorticityFlow(cutoff, viscosity, waves(force, cutoff))
    omega = flow.rows(waves(vorticity, cutoff))
    flow.integrate(omega, duration, step)
    return values(flow.coefficients(omega), len(vorticity))


def advection(omega):
    """`v . grad omega` by dense matrices of derivatives, no transform and no Fourier space."""
    n = len(omega)
    k = np.arange(1, (n + 1) // 2)
    distance = np.subtract.outer(np.arange(n), np.arange(n)) / n
    first = -4 * np.pi / n * np.sum(k * np.sin(2 * np.pi * distance[..., None] * k), axis=-1)
    second = first @ first
    laplacian = np.kron(second, np.eye(n)) + np.kron(np.eye(n), second)
    psi = np.linalg.lstsq(laplacian, -omega.ravel(), rcond=None)[0].reshape(n, n)
    u, v = psi @ first.T, -first @ psi
    return u * (first @ omega) + v * (omega @ first.T)


def test_a_taylor_green_vortex_decays_as_it_should():
    vortex = np.sin(2 * np.pi * X) * np.sin(2 * np.pi * Y)
    found = integrate(5 * vortex, 0.01, 1.0)
    np.testing.assert_allclose(found, 5 * vortex * np.exp(-8 * np.pi**2 * 0.01), atol=1e-13)


def test_the_force_alone_raises_its_wave_as_it_should():
    force = 0.1 * (np.sin(2 * np.pi * (X + Y)) + np.cos(2 * np.pi * (X + Y)))
    rate = 8 * np.pi**2 * 1e-3
    found = integrate(np.zeros((N, N)), 1e-3, 7.5, force)
    np.testing.assert_allclose(found, force * (1 - np.exp(-rate * 7.5)) / rate, atol=1e-14)


def test_a_manufactured_flow_of_many_waves_stays_as_it_is():
    n, viscosity = 16, 0.02
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    a, b = 2 * np.pi * x, 2 * np.pi * y
    omega = 3 * np.sin(a) + 2 * np.cos(2 * b) + np.sin(a - b + 0.5)
    spread = -4 * np.pi**2 * (3 * np.sin(a) + 8 * np.cos(2 * b) + 2 * np.sin(a - b + 0.5))
    advected = advection(omega)
    assert np.max(np.abs(advected)) > 1.0
    found = integrate(omega, viscosity, 0.5, advected - viscosity * spread, cutoff=7)
    np.testing.assert_allclose(found, omega, atol=1e-11)


def test_it_is_of_fourth_order_in_time():
    exact = integrate(smooth(), 0.005, 0.5, step=0.05)
    # Not so long that a leg is done again, not so short that rounding counts.
    errors = [relative(integrate(smooth(), 0.005, 0.5, step=s), exact) for s in (1.6, 0.8, 0.4)]
    assert_orders(errors, 3.6, 4.5)


def test_its_error_falls_faster_than_any_power_with_the_waves():
    n = 128
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    exact = integrate(smooth(x, y), 0.005, 0.5, cutoff=48)
    errors = [
        relative(integrate(smooth(x, y), 0.005, 0.5, cutoff=cutoff), exact)
        for cutoff in (8, 16, 32)
    ]
    assert errors[0] > 30 * errors[1] > 3e4 * errors[2]


def test_scipy_finds_the_same_flow_of_the_same_waves():
    cutoff, n, viscosity = 7, 24, 0.005
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    k = np.fft.fftfreq(n, 1 / n)
    kept = np.logical_and.outer(np.abs(k) <= cutoff, np.abs(k) <= cutoff)
    force = np.cos(2 * np.pi * (x + 2 * y))
    squares = np.add.outer(k**2, k**2)
    stream = np.where(squares > 0, 1 / (4 * np.pi**2 * np.maximum(squares, 1)), 0.0)

    def derivative(w: np.ndarray, axis: int) -> np.ndarray:
        slope = 2j * np.pi * (k[:, None] if axis == 0 else k[None, :])
        return np.fft.ifft2(slope * np.fft.fft2(w)).real

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        w = flat.reshape(n, n)
        psi = np.fft.ifft2(stream * np.fft.fft2(w)).real
        moved = derivative(derivative(psi, 1) * w, 0) - derivative(derivative(psi, 0) * w, 1)
        spread = derivative(derivative(w, 0), 0) + derivative(derivative(w, 1), 1)
        change = viscosity * spread - moved + force
        return np.fft.ifft2(kept * np.fft.fft2(change)).real.ravel()

    initial = smooth(x, y)
    found = solve_ivp(rate, (0.0, 1.0), initial.ravel(), "DOP853", rtol=1e-9, atol=1e-10).y[:, -1]
    ours = integrate(initial, viscosity, 1.0, force, step=0.2, cutoff=cutoff)
    assert relative(ours, found.reshape(n, n)) < 2e-7


def test_energy_and_enstrophy_change_by_force_and_viscosity_alone():
    viscosity, cutoff, steps, dt = 0.004, 15, 100, 0.005
    force = waves(2 * np.sin(2 * np.pi * (X + Y)), cutoff)
    flow = VorticityFlow(cutoff, viscosity, force)
    omega = flow.rows(waves(smooth(), cutoff))
    k = np.arange(-cutoff, cutoff + 1)
    squares = 4 * np.pi**2 * np.add.outer(k**2, np.arange(cutoff + 1) ** 2)
    inverse = np.where(squares > 0, 1 / np.maximum(squares, 1), 0.0)
    both = np.where(np.arange(cutoff + 1) > 0, 2.0, 1.0)  # a wave and its opposite

    def product(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(both * (a * b.conj()).real))

    energies, energy_rates, enstrophies, enstrophy_rates = [], [], [], []
    for _ in range(steps + 1):
        w = flow.coefficients(omega)
        energies.append(0.5 * product(w, w * inverse))
        energy_rates.append(product(w, force * inverse) - viscosity * product(w, w))
        enstrophies.append(0.5 * product(w, w))
        enstrophy_rates.append(product(w, force) - viscosity * product(w, w * squares))
        flow.integrate(omega, dt, step=0.2)
    simpson = np.append(np.tile([2.0, 4.0], steps // 2), 1.0) * dt / 3
    simpson[0] = dt / 3
    assert np.ptp(enstrophies) > 0.1 * enstrophies[0]
    assert energies[-1] - energies[0] == pytest.approx(simpson @ energy_rates, rel=1e-6)
    assert enstrophies[-1] - enstrophies[0] == pytest.approx(simpson @ enstrophy_rates, rel=1e-6)


def test_the_mean_stays_and_moves_nothing():
    found = integrate(smooth() + 0.75, 0.005, 0.5)
    assert np.mean(found) == pytest.approx(0.75, abs=1e-14)
    np.testing.assert_allclose(found - 0.75, integrate(smooth(), 0.005, 0.5), atol=1e-12)


# Steps follow the speed at points of products, which do not turn and shift with the flow.
ALIKE = 1e-7


def test_a_shifted_flow_is_a_shifted_solution():
    found = integrate(smooth(), 0.005, 0.5)
    shifted = integrate(np.roll(smooth(), (5, 11), (0, 1)), 0.005, 0.5)
    np.testing.assert_allclose(shifted, np.roll(found, (5, 11), (0, 1)), atol=ALIKE)


def test_a_turned_flow_is_a_turned_solution_and_a_mirrored_one_changes_its_sign():
    found = integrate(smooth(), 0.005, 0.5)
    turned = integrate(np.rot90(smooth()), 0.005, 0.5)
    np.testing.assert_allclose(turned, np.rot90(found), atol=ALIKE)
    np.testing.assert_allclose(integrate(-smooth()[::-1], 0.005, 0.5), -found[::-1], atol=ALIKE)


def test_a_flow_that_speeds_up_is_followed_with_shorter_steps():
    force = 50.0 * np.sin(2 * np.pi * (X + 2 * Y))
    start = 1e-3 * smooth()
    found, exact = (integrate(start, 0.005, 1.0, force, step) for step in (1.0, 0.1))
    assert np.max(np.abs(found)) > 10.0
    assert relative(found, exact) < 1e-4


THIN = {"viscosity_low": 1e-4, "viscosity_high": 1e-4}  # not held by 24 points


def scenario_of(resolution=32, **parameters):
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
