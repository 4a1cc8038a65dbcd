"""Burgers' equation: exact solution, order, invariants, independent code; states as drawn."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from mno.scenarios.base import make_scenario
from mno.scenarios.kernels import transforms, vorticity
from mno.scenarios.kernels.burgers import BurgersFlow, cole_hopf
from mno.scenarios.kernels.runge_kutta import etdrk4
from mno.scenarios.kernels.transforms import (
    line_points,
    line_square,
    square_on_line,
    square_on_torus,
    torus_points,
    torus_square,
)
from tests.scenarios.contract import solved_sample
from tests.scenarios.measures import assert_orders

N = 64
POINTS = np.arange(N) / N


def smooth(points):
    """A state of mean 0.3 and no symmetry."""
    angle = 2.0 * np.pi * points
    return 0.3 + np.sin(angle) + 0.4 * np.cos(2.0 * angle) - 0.3 * np.sin(3.0 * angle + 1.0)


def integrate(initial, viscosity, duration, step=0.25, cutoff=256):
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


@pytest.mark.parametrize("viscosity", [1e-3, 2e-2, 1e-1])
@pytest.mark.parametrize("points", [65, 600])  # at once, and in parts
def test_rates_are_those_of_the_exact_solution(points, viscosity):
    given = {"viscosity_low": viscosity, "viscosity_high": viscosity, "frames": 3}
    scenario = make_scenario("burgers", points, given)
    here, there = (scenario.sample(np.random.default_rng(k)) for k in (0, 1))
    u = here["velocity"].astype(np.float64)
    along = there["velocity"] - u + 0.3, np.float64(0.5 * viscosity)
    directions = {"velocity": along[0][None], "viscosity": along[1][None]}
    _, rates = scenario.solve_along(here, directions)
    np.testing.assert_array_equal(rates["velocity"][0, 0], along[0])
    nu, step = float(here["viscosity"]), 1e-4
    for frame, time in ((1, 0.5), (2, 1.0)):
        ends = [cole_hopf(u + s * along[0], nu + s * along[1], time) for s in (step, -step)]
        found = (ends[0] - ends[1]) / (2 * step)
        off = np.linalg.norm(rates["velocity"][0, frame] - found)
        assert off < 1e-4 * np.linalg.norm(found)


def test_it_is_of_fourth_order_in_time():
    initial, viscosity, time = smooth(POINTS), 0.02, 0.25
    expected = cole_hopf(initial, viscosity, time)
    steps = (1.6, 0.8, 0.4, 0.2)
    errors = [np.max(np.abs(integrate(initial, viscosity, time, s) - expected)) for s in steps]
    assert_orders(errors, 3.6, 4.6)


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


def scenario_of(resolution=32, **parameters):
    return make_scenario("burgers", resolution, parameters)


def test_a_solution_at_fewer_points_is_that_of_more_where_the_initial_state_is_smooth():
    coarse, fine = (
        solved_sample(scenario_of(n, sampling="sines", viscosity_low=2e-3, viscosity_high=2e-3))[1]
        for n in (16, 48)
    )
    np.testing.assert_allclose(fine["velocity"][:, 1::3], coarse["velocity"], rtol=0, atol=2e-6)


def test_viscosities_are_spread_evenly_over_their_logarithms():
    scenario = scenario_of(16, viscosity_low=1e-3, viscosity_high=1e-1)
    drawn = [float(scenario.sample(np.random.default_rng(k))["viscosity"]) for k in range(400)]
    assert 1e-3 <= min(drawn) < 1.1e-3
    assert 0.9e-1 < max(drawn) <= np.float32(1e-1)
    assert np.mean(np.log10(drawn)) == pytest.approx(-2.0, abs=0.1)
    alike = scenario_of(16)
    assert {float(alike.sample(np.random.default_rng(k))["viscosity"]) for k in range(9)} == {
        float(np.float32(2e-2))
    }


def test_random_fields_have_the_covariance_they_say():
    scenario = scenario_of(32)
    u = np.stack([scenario.sample(np.random.default_rng(k))["velocity"] for k in range(600)])
    waves = np.fft.rfft(u, axis=1) / 32
    assert np.max(np.abs(waves[:, 0])) < 5e-3  # what waves of one point and shorter look like
    expected = [625.0 / ((2 * np.pi * k) ** 2 + 25.0) ** 2 for k in (1, 2, 3)]
    np.testing.assert_allclose(np.mean(np.abs(waves[:, 1:4]) ** 2, axis=0), expected, rtol=0.15)


def test_sums_of_sines_have_waves_up_to_the_highest_and_amplitudes_up_to_their_number():
    scenario = scenario_of(32, sampling="sines", num_sines=3, highest_wave=5)
    u = np.stack([scenario.sample(np.random.default_rng(k))["velocity"] for k in range(200)])
    assert 1.5 < np.max(np.abs(u)) <= 3.0
    waves = np.max(np.abs(np.fft.rfft(u, axis=1)), axis=0) / 16
    assert np.all(waves[1:6] > 0.5)
    assert max(waves[0], *waves[6:]) < 1e-6


def test_frames_between_change_nothing_that_is_seen():
    few = solved_sample(scenario_of(frames=3, viscosity_low=5e-3))[1]["velocity"]
    many = solved_sample(scenario_of(frames=9, viscosity_low=5e-3))[1]["velocity"]
    np.testing.assert_allclose(many[::4], few, rtol=0, atol=1e-6)


def squared_on_line(u, points):
    out = np.empty_like(u)
    square_on_line(u, line_square(len(u) - 1, points), out)
    return out / points


def squared_on_torus(z, points):
    """The square of a function whose waves `z` run from minus the cutoff on along both axes."""
    waves, cutoff = len(z), len(z) // 2
    shape, squaring = torus_square(cutoff, points)
    rows, out = np.zeros((2, *shape))
    up, down = rows[:, : shape[1] // 2], rows[:, shape[1] // 2 :]
    for half, part in ((up, z[:, cutoff:]), (down, z[:, cutoff::-1])):
        lanes = np.zeros((waves, half.shape[1] * 8), np.complex128)
        lanes[:, : cutoff + 1] = part
        lanes = lanes.reshape(waves, -1, 8)
        half[:, :, 0], half[:, :, 1] = lanes.real, lanes.imag
    largest = square_on_torus(rows, squaring, out)
    square = (out[:, :, 0] + 1j * out[:, :, 1]).reshape(waves, 2, -1)[:, :, : cutoff + 1]
    np.testing.assert_array_equal(square[:, 0, 0], square[:, 1, 0])
    return np.concatenate([square[:, 1, :0:-1], square[:, 0]], axis=1) / points**2, largest


def random_waves(shape):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("points", [128, 256, 384, 512, 640, 768, 1152, 1280, 1920, 2048, 3200])
def test_the_square_on_a_circle_is_that_of_numpys_transforms(points):
    u = random_waves(((points - 1) // 3 + 1,))
    u[0] = u[0].real
    expected = np.fft.rfft((np.fft.irfft(u, points) * points) ** 2)[: len(u)] / points
    assert np.max(np.abs(squared_on_line(u, points) - expected)) < 1e-14 * np.max(np.abs(expected))


@pytest.mark.parametrize("points", [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 120, 128, 160, 200, 240])
def test_the_square_on_a_torus_is_that_of_numpys_transforms(points):
    cutoff = (points - 1) // 3
    z = random_waves((2 * cutoff + 1, 2 * cutoff + 1))
    index = np.arange(-cutoff, cutoff + 1)
    full = np.zeros((points, points), np.complex128)
    full[np.ix_(index, index)] = z
    values = np.fft.ifft2(full) * points**2
    expected = np.fft.fft2(values**2)[np.ix_(index, index)] / points**2
    found, largest = squared_on_torus(z, points)
    assert np.max(np.abs(found - expected)) < 1e-14 * np.max(np.abs(expected))
    assert largest == pytest.approx(np.max(np.abs(values)) ** 2, rel=1e-13)


@pytest.mark.parametrize("cutoff", [1, 5, 31, 42, 43, 63, 100, 170])
def test_products_are_free_of_aliasing_on_the_fewest_points(cutoff):
    u = random_waves((cutoff + 1,))
    u[0] = u[0].real
    points = line_points(cutoff)
    assert 3 * cutoff < points < 3 * cutoff + 128 + 0.4 * points
    both = np.concatenate([u[:0:-1].conj(), u])
    exact = np.convolve(both, both)[2 * cutoff : 3 * cutoff + 1]
    assert np.max(np.abs(squared_on_line(u, points) - exact)) < 1e-13 * np.max(np.abs(exact))
    assert 3 * cutoff < torus_points(cutoff) < 3 * cutoff + 8 + 0.4 * cutoff


def test_one_wave_along_each_axis_ends_where_it_should():
    z = np.zeros((7, 7), np.complex128)
    z[3 + 1, 3 - 2] = 2.0  # exp(2 pi i (x - 2 y)), whose square is beyond the cutoff along y
    z[3, 3 + 1] = 1j
    found, _ = squared_on_torus(z, torus_points(3))
    expected = np.zeros_like(z)
    expected[3 + 1, 3 - 1], expected[3, 3 + 2] = 4j, -1.0
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_the_coefficients_of_etdrk4_are_those_of_contour_integrals():
    rates = -np.concatenate([[0.0], np.geomspace(1e-8, 1e4, 60), [3.99, 4.0, 4.01]])
    step = 0.5
    z = step * rates[:, None] + np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    e = np.exp(z)
    formulas = (
        np.expm1(z / 2) / z,
        (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
        2 * (2 + z + e * (z - 2)) / z**3,
        (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
    )
    expected = [step * np.mean(formula, axis=1).real for formula in formulas]
    found = etdrk4(rates, step)
    np.testing.assert_allclose(found[0], np.exp(step * rates), rtol=1e-14)
    np.testing.assert_allclose(found[1], np.exp(step * rates / 2), rtol=1e-14)
    np.testing.assert_allclose(found[2:], expected, rtol=1e-8, atol=1e-15)


def test_kernels_that_functions_have_made_have_names_of_their_own():
    stages = [vars(vorticity)[f"_stage_{kind}"] for kind in ("a", "b", "c", "end")]
    kernels = [*stages, *transforms._STAGES.values(), transforms.to_points, transforms.to_waves]
    assert len({kernel.py_func.__qualname__ for kernel in kernels}) == len(kernels) == 16
