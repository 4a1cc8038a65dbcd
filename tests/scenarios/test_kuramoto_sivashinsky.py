"""The Kuramoto-Sivashinsky equation: order, independent code, growth, balance, attractor, grids."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import root

from mno.scenarios.kernels.line_flow import LineFlow, values_on_line, waves_on_line
from mno.scenarios.kuramoto_sivashinsky import KuramotoSivashinsky, KuramotoSivashinskyParameters
from tests.scenarios.contract import digest, solved_sample
from tests.scenarios.measures import assert_orders, assert_threads_give_the_bits_of_one

LENGTH, CUTOFF = 22.0, 36
VECTORS = 2.0 * np.pi * np.arange(CUTOFF + 1) / LENGTH
RATES = VECTORS**2 - VECTORS**4
# Cvitanovic, Davidchack and Siminos (2010, doi:10.1137/070705623): energies of the equilibria, half
# the mean square each, and the leading Lyapunov exponent, for a length of 22.
EQUILIBRIA = {1: 0.2609, 2: 0.4382, 3: 1.5876}
LYAPUNOV = 0.048


def scenario_of(resolution=48, **parameters):
    return KuramotoSivashinsky(KuramotoSivashinskyParameters(**parameters), resolution)


def smooth():
    """Waves of no symmetry that lie near the attractor."""
    waves = np.zeros(CUTOFF + 1, np.complex128)
    waves[1:6] = 0.3 - 0.2j, 0.2 + 0.4j, 0.1 - 0.5j, 0.1j, -0.05
    return waves


def moved(waves, duration, steps):
    waves = waves.copy()
    LineFlow(RATES, LENGTH).advance(waves, duration, steps)
    return waves


def energy(waves):
    return 0.5 * np.abs(waves[..., 0]) ** 2 + np.sum(np.abs(waves[..., 1:]) ** 2, axis=-1)


def test_it_is_of_fourth_order_in_time():
    start = moved(smooth(), 5.0, 1000)
    expected = moved(start, 1.0, 6400)
    errors = [np.max(np.abs(moved(start, 1.0, n) - expected)) for n in (50, 100, 200, 400)]
    assert_orders(errors[1:], 3.7, 4.2)
    assert errors[0] < 1e-8  # with the scenario's steps


def test_scipy_finds_the_same_solution_of_the_same_waves():
    points = 4 * CUTOFF

    def rate(_: float, numbers: np.ndarray) -> np.ndarray:
        u = numbers.view(np.complex128)
        values = np.fft.irfft(u, points, norm="forward")
        slope = np.fft.irfft(1j * VECTORS * u, points, norm="forward")
        product = np.fft.rfft(values * slope, norm="forward")[: CUTOFF + 1]
        return (RATES * u - product).view(np.float64)

    start = smooth()
    found = solve_ivp(rate, (0.0, 4.0), start.view(np.float64), "LSODA", rtol=1e-10, atol=1e-12)
    expected = found.y[:, -1].copy().view(np.complex128)
    assert np.max(np.abs(moved(start, 4.0, 800) - expected)) < 1e-8
    assert np.max(np.abs(start - expected)) > 0.1


@pytest.mark.parametrize("viscosity", [1.0, 0.5])
@pytest.mark.parametrize("wave", range(1, 7))
def test_small_waves_grow_and_decay_at_their_rates(wave, viscosity):
    scenario = scenario_of(frames=2, duration=1.0, viscosity=viscosity)
    vector = 2.0 * np.pi * wave / LENGTH
    initial = 1e-5 * np.cos(vector * scenario.axes[1].points).astype(np.float32)
    states = scenario.solve({"velocity": initial})["velocity"].astype(np.float64)
    amplitudes = np.abs(np.fft.rfft(states, axis=1))[:, wave]
    found = np.log(amplitudes[1] / amplitudes[0])
    assert found == pytest.approx(vector**2 - viscosity * vector**4, abs=1e-4)


def test_the_mean_is_kept_and_energy_changes_by_what_slopes_give_and_curvatures_take():
    flow, waves = LineFlow(RATES, LENGTH), moved(smooth(), 5.0, 1000)
    waves[0] = 0.3
    energies, gains = [], []
    for _ in range(801):
        energies.append(energy(waves))
        gains.append(2.0 * np.sum(RATES * np.abs(waves) ** 2))
        flow.advance(waves, 0.005, 1)
    assert waves[0] == pytest.approx(0.3, abs=1e-15)
    weights = np.tile([2.0, 4.0], 400)
    weights[0] = 1.0
    gained = np.sum(np.append(weights, 1.0) * gains) * 0.005 / 3
    assert energies[-1] - energies[0] == pytest.approx(gained, rel=1e-6)
    assert abs(gained) > 0.01


def test_shifts_mirrors_and_a_mean_do_to_solutions_what_they_should():
    scenario = scenario_of(frames=5, duration=4.0)
    given = scenario.sample(np.random.default_rng(0))["velocity"]

    def solved(initial: np.ndarray) -> np.ndarray:
        return scenario.solve({"velocity": initial})["velocity"]

    found = solved(given)
    np.testing.assert_allclose(solved(np.roll(given, 11)), np.roll(found, 11, 1), atol=2e-6)
    np.testing.assert_allclose(solved(-given[::-1]), -found[:, ::-1], atol=2e-6)
    speed = np.float32(6.0 * LENGTH / 48)  # six points in a unit of time
    carried = solved(given + speed)
    for frame in range(5):
        there = np.roll(found[frame], 6 * frame)
        np.testing.assert_allclose(carried[frame] - speed, there, atol=2e-5)


@pytest.mark.parametrize("waves", EQUILIBRIA)
def test_published_equilibria_have_their_energy_and_stand_still(waves):
    vectors, points = VECTORS[1:25], np.arange(128) * LENGTH / 128
    sines, cosines = np.sin(np.outer(points, vectors)), np.cos(np.outer(points, vectors))

    def rate(a: np.ndarray) -> np.ndarray:
        product = (sines @ a) * (cosines @ (vectors * a))
        return (vectors**2 - vectors**4) * a - sines.T @ product / 64

    guess = np.zeros(24)
    guess[:6] = {
        1: (-0.8, -0.2, -0.4, -0.4, -0.1, 0.0),
        2: (0.0, 1.1, 0.0, -0.7, 0.0, 0.1),
        3: (0.0, 0.0, 2.5, 0.0, 0.0, -0.4),
    }[waves]
    found = root(rate, guess, tol=1e-13).x
    assert np.sum(found**2) / 4.0 == pytest.approx(EQUILIBRIA[waves], abs=5e-5)
    start = np.zeros(CUTOFF + 1, np.complex128)
    start[1:25] = -0.5j * found
    assert np.max(np.abs(moved(start, 2.0, 100) - start)) < 1e-8


def test_frames_lie_on_the_attractor():
    states = np.concatenate(
        [solved_sample(scenario_of(warm_up=50.0), seed)[1]["velocity"] for seed in range(24)]
    ).astype(np.float64)
    halves = 0.5 * np.mean(states**2, axis=1)
    assert EQUILIBRIA[1] < halves.min() and halves.max() < EQUILIBRIA[3]
    assert 1.3 < 2.0 * halves.mean() < 1.5  # 1.41 in 8000 units of time
    assert np.max(np.abs(states.mean(axis=1))) < 1e-6


def test_close_solutions_part_at_the_published_rate():
    rates = []
    for seed in range(8):
        here = waves_on_line(solved_sample(scenario_of(), seed)[0]["velocity"], CUTOFF)
        there, growth = here + 1e-7 * smooth(), []
        for _ in range(130):
            here, there = moved(here, 2.0, 20), moved(there, 2.0, 20)
            growth.append(np.linalg.norm(there - here) / 1e-7)
            there = here + (there - here) / growth[-1]
        rates.append(np.mean(np.log(growth[10:])) / 2.0)
    assert np.mean(rates) == pytest.approx(LYAPUNOV, abs=0.012)


@pytest.mark.parametrize(
    "parameters", [{}, {"length": 200.0}, {"viscosity": 0.1}, {"viscosity": 5.0, "length": 60.0}]
)
def test_the_waves_that_are_solved_for_fall_to_rounding(parameters):
    scenario = scenario_of(64, warm_up=10.0, coarsest=64, **parameters)
    initial = scenario.sample(np.random.default_rng(0))["velocity"]
    flow, waves = scenario._flow(), waves_on_line(initial, scenario._cutoff)
    for _ in range(20):
        flow.advance(waves, scenario.parameters.viscosity, 50)
        sizes = np.abs(waves)
        assert sizes[-3:].max() < 1e-10 * sizes.max()
        assert sizes[scenario._wave(6.0) :].max() < 1e-6 * sizes.max()


def test_a_problem_is_the_same_on_every_grid():
    coarse, middle, fine = (solved_sample(scenario_of(n), 3)[1]["velocity"] for n in (16, 48, 144))
    np.testing.assert_allclose(middle[:, 1::3], coarse, rtol=0, atol=5e-6)
    np.testing.assert_allclose(fine[:, 1::3], middle, rtol=0, atol=5e-6)


def test_the_first_frame_has_the_waves_that_the_coarsest_grid_holds():
    for coarsest, last in ((16, 7), (17, 8), (20, 9)):
        state = scenario_of(64, coarsest=coarsest).sample(np.random.default_rng(1))["velocity"]
        waves = np.abs(np.fft.rfft(state))
        assert waves[last] > 1e-3 * waves.max() and waves[last + 1 :].max() < 1e-5
    state = scenario_of(64, warm_up=0.0, initial_waves=2).sample(np.random.default_rng(1))
    waves = np.abs(np.fft.rfft(state["velocity"]))
    assert waves[1:3].min() > 1.0 and max(waves[0], *waves[3:]) < 1e-5


def test_smooth_states_have_a_mean_square_of_one():
    scenario = scenario_of(16, warm_up=0.0)
    states = [scenario.sample(np.random.default_rng(k))["velocity"] for k in range(400)]
    assert np.mean(np.square(states)) == pytest.approx(1.0, abs=0.1)


def test_consecutive_frames_differ_clearly_and_are_alike():
    found = [solved_sample(scenario_of(), seed)[1]["velocity"] for seed in range(8)]
    size = np.sqrt(np.mean(np.square(found)))
    change = np.sqrt(np.mean(np.square(np.diff(found, axis=1)))) / size
    assert 0.15 < change < 0.3


def test_threads_give_the_bits_of_one():
    scenario = scenario_of(16, warm_up=10.0, frames=5, duration=4.0)
    assert_threads_give_the_bits_of_one(lambda seed: digest(scenario, seed), range(4))


def test_values_at_points_are_those_of_the_waves():
    waves = smooth()
    waves[0] = 0.7
    for n in (5, 8, 16, 31, 90):
        angles = np.outer(np.arange(n) / n, 2.0 * np.pi * np.arange(CUTOFF + 1))
        expected = 2.0 * (np.exp(1j * angles) @ waves).real - 0.7
        np.testing.assert_allclose(values_on_line(waves, n), expected, atol=1e-13)
