"""The solver of the shallow water equations: exact and other solutions, orders, invariants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from mno.scenarios.base import SQUARE
from mno.scenarios.check import turned
from mno.scenarios.kernels.shallow_water import STEP, later_depth, solve_shallow_water
from tests.scenarios.measures import assert_threads_give_the_bits_of_one, block_means

SIDE = 5.0


def integrate(
    depth: np.ndarray, duration: float, frames: int = 2, step: float = STEP, dtype: type = float
) -> np.ndarray:
    """Frames of the depth, shape `(frames, n, n)`, on the square from -2.5 to 2.5."""
    n = len(depth)
    out = np.empty((frames, n, n), dtype)
    interval = duration / (frames - 1) * n / SIDE
    assert solve_shallow_water(np.ascontiguousarray(depth), interval, step, out) == frames
    return out


def centres(n: int) -> np.ndarray:
    return SIDE * ((np.arange(n) + 0.5) / n - 0.5)


def disc(n: int, radius: float = 0.5, ratio: float = 2.0) -> np.ndarray:
    x = centres(n)
    return np.where(np.hypot.outer(x, x) < radius, ratio, 1.0)


def rough(n: int, seed: int = 0) -> np.ndarray:
    """Depths from 0.5 to 1.5 without any symmetry, alike in blocks of a few cells."""
    blocks = np.random.default_rng(seed).uniform(0.5, 1.5, (-(-n // 3), -(-n // 3)))
    return np.kron(blocks, np.ones((3, 3)))[:n, :n]


def stoker(x: np.ndarray, time: float, deep: float, shallow: float) -> np.ndarray:
    """Depth after a straight dam at 0 has broken (Stoker 1957, Water waves, section 10.8)."""
    fast, slow = np.sqrt(deep), np.sqrt(shallow)

    def jump(c: float) -> float:
        h = c * c
        return 2.0 * (fast - c) - (h - shallow) * np.sqrt((h + shallow) / (2.0 * h * shallow))

    c = root_scalar(jump, bracket=(slow, fast)).root
    h, u = c * c, 2.0 * (fast - c)
    bore = h * u / (h - shallow)
    fan = (2.0 * fast - x / time) ** 2 / 9.0
    return np.select(
        [x < -fast * time, x < (u - c) * time, x < bore * time], [deep, fan, h], shallow
    )


def spectral(depth: np.ndarray, duration: float) -> np.ndarray:
    """Depth of a smooth periodic wave along one axis: Fourier derivatives and scipy's DOP853."""
    n = len(depth)
    waves = 2.0j * np.pi * np.fft.rfftfreq(n, SIDE / n)

    def slope(field: np.ndarray) -> np.ndarray:
        return np.fft.irfft(waves * np.fft.rfft(field), n)

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        h, u = state.reshape(2, n)
        return -np.concatenate([slope(h * u), slope(0.5 * u * u + h)])

    start = np.concatenate([depth, np.zeros(n)])
    found = solve_ivp(rate, (0.0, duration), start, "DOP853", rtol=1e-10, atol=1e-11)
    return found.y[:n, -1]


def radial(radius: float, ratio: float, duration: float, cells: int) -> tuple[np.ndarray, ...]:
    """Radii and depths after a round dam has broken: the equations of circles, Rusanov's flux."""
    width = 0.5 * SIDE / cells
    r = (np.arange(cells) + 0.5) * width
    state = np.array([np.where(r < radius, ratio, 1.0), np.zeros(cells)])
    faces = np.arange(cells + 1) * width
    time = 0.0
    while time < duration:
        h, m = np.pad(state, ((0, 0), (1, 1)), mode="edge")
        m[0] = -m[1]
        speed = np.abs(m / h) + np.sqrt(h)
        dt = min(0.8 * width / speed.max(), duration - time)
        largest = np.maximum(speed[:-1], speed[1:])
        flux = np.stack(
            [
                0.5 * (f[:-1] + f[1:]) - 0.5 * largest * (w[1:] - w[:-1])
                for f, w in ((m, h), (m * m / h + 0.5 * h * h, m))
            ]
        )
        state -= dt / width * np.diff(faces * flux) / r
        state[1] += dt * 0.5 * h[1:-1] ** 2 / r
        time += dt
    return r, state[0]


@pytest.mark.parametrize("ratio", [1.2, 2.0, 8.0])
def test_a_straight_dam_breaks_as_the_exact_solution_does(ratio):
    times = np.linspace(0.0, 0.6, 13) / np.sqrt(ratio)
    errors = []
    for n in (32, 64, 128, 256):
        x = centres(n)
        depth = np.repeat(np.where(x < 0.0, ratio, 1.0)[:, None], n, axis=1)
        along_x = integrate(depth, times[-1], len(times))
        np.testing.assert_array_equal(integrate(depth.T, times[-1], len(times)).mT, along_x)
        assert np.ptp(along_x, axis=2).max() == 0.0
        points = x[:, None] + SIDE / n * ((np.arange(32) + 0.5) / 32 - 0.5)
        # Where the bore stands in its cell matters at any one time.
        exact = [stoker(points, time, ratio, 1.0).mean(axis=1) for time in times[6:]]
        errors.append(np.mean(np.abs(along_x[6:, :, 0] - exact)) / (ratio - 1.0))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 0.6) and np.all(orders < 1.25), orders
    assert errors[-1] < 3e-3


def test_a_smooth_wave_is_of_second_order():
    def wave(x: np.ndarray) -> np.ndarray:
        return 1.0 + 0.2 * np.exp(-8.0 * x * x)

    fine = spectral(wave(centres(2048)), 0.6)
    errors = []
    for n in (32, 64, 128, 256):
        depth = np.repeat(wave(centres(2048)).reshape(n, -1).mean(axis=1)[:, None], n, axis=1)
        found = integrate(depth, 0.6)[-1][:, 0]
        errors.append(np.mean(np.abs(found - fine.reshape(n, -1).mean(axis=1))))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.8) and np.all(orders < 2.4), orders
    assert errors[-1] < 3e-5


def test_a_smooth_wave_across_both_axes_is_of_second_order():
    x = centres(512)
    hump = 0.2 * np.exp(-6.0 * np.add.outer((x - 0.2) ** 2, 2.0 * (x + 0.1) ** 2))
    fine = integrate(1.0 + hump, 0.3)[-1]
    errors = []
    for n in (32, 64, 128):
        found = integrate(block_means(1.0 + hump, n), 0.3)[-1]
        errors.append(np.mean(np.abs(found - block_means(fine, n))))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.75) and np.all(orders < 2.6), orders
    assert errors[-1] < 2e-5


def test_the_equations_of_circles_give_the_same_round_dam_break():
    r, reference = radial(0.5, 2.0, 0.6, cells=4000)
    errors = []
    for n in (64, 128, 256):
        depth = block_means(disc(1024), n)
        x = centres(n)
        expected = np.interp(np.hypot.outer(x, x), r, reference)
        errors.append(np.mean(np.abs(integrate(depth, 0.6)[-1] - expected)))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[-1] < 1.5e-3
    assert np.all(orders > 0.6) and np.all(orders < 1.4), orders


def test_clawpack_finds_the_same_round_dam_break():
    reason = "clawpack is not installed (extra pyclaw)"
    pytest.importorskip("clawpack", reason=reason)
    from benchmarks.clawpack_peer import solve_with_pyclaw

    differences = []
    for n in (32, 64, 128):
        depth = block_means(disc(1024), n)
        theirs = solve_with_pyclaw(depth, SIDE, np.linspace(0.0, 0.6, 3))[-1]
        differences.append(np.mean(np.abs(integrate(depth, 0.6)[-1] - theirs)))
    assert differences[-1] < 1e-3
    assert differences[2] < 0.7 * differences[1] < 0.5 * differences[0], differences


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_water_at_rest_stays_at_rest(dtype):
    frames = integrate(np.full((12, 12), 0.7), 10.0, 4, dtype=dtype)
    np.testing.assert_array_equal(frames, np.full_like(frames, 0.7))


@pytest.mark.parametrize("depth", [disc(64), disc(50, 0.3, 10.0)], ids=["shallow", "deep"])
def test_the_volume_stays_until_a_wave_reaches_the_wall(depth):
    frames = integrate(depth, 0.6, 7)
    volume = frames.sum(axis=(1, 2))
    assert np.abs(volume / volume[0] - 1.0).max() < 1e-14
    assert np.abs(np.diff(frames, axis=0)).max(axis=(1, 2)).min() > 0.05


def test_waves_leave_through_the_wall():
    depth = np.ones((40, 40))
    depth[5:12, 20:30] = 2.0
    frames = integrate(depth, 10.0, 11)
    assert np.ptp(frames[1]) > 0.1
    assert np.abs(frames[-1] - 1.0).max() < 0.03


def test_all_symmetries_of_the_square_hold_to_the_last_bit():
    depth = rough(20)
    frames = integrate(depth, 1.0, 3)
    for turn in SQUARE:
        np.testing.assert_array_equal(integrate(turned(depth, turn), 1.0, 3), turned(frames, turn))


def test_deeper_water_does_the_same_faster():
    # Four times the depth, half the time: powers of two, so to the last bit.
    depth = rough(20, seed=1)
    np.testing.assert_array_equal(integrate(4.0 * depth, 0.5, 3), 4.0 * integrate(depth, 1.0, 3))


def test_potential_energy_is_never_more_than_at_the_beginning():
    for radius in (0.3, 1.0):
        energy = np.sum(integrate(disc(64, radius, 5.0), 0.4, 9) ** 2, axis=(1, 2))
        assert np.all(np.diff(energy[:3]) < 0.0)
        assert np.all(energy[1:] < energy[0])


def test_a_plain_statement_of_the_scheme_agrees():
    for depth in (rough(20, seed=2), disc(25, ratio=10.0)):
        found = integrate(depth, 1.0)[-1]
        again = later_depth(depth, len(depth) / SIDE, STEP)
        np.testing.assert_allclose(again, found, rtol=1e-11)


def test_steps_of_another_length_hardly_matter():
    depth = disc(64)
    found, fine = integrate(depth, 0.6)[-1], integrate(depth, 0.6, step=0.1)[-1]
    assert np.mean(np.abs(found - fine)) < 0.02 * np.mean(np.abs(found - depth))


@pytest.mark.parametrize("ratio", [2.0, 10.0])
def test_water_stays_where_it_runs_apart_and_bounded_where_it_meets(ratio):
    for seed in range(10):
        high = np.random.default_rng(seed).random((7, 7)) < 0.5
        depth = np.kron(np.where(high, ratio, 1.0), np.ones((7, 7)))
        frames = integrate(depth, 4.0, 41)
        assert frames.min() > 0.01
        assert frames.max() < 2.0 * ratio


def test_water_that_would_run_dry_is_reported():
    depth = np.full((16, 16), 1e-9)
    depth[6:10, 3:5] = 1.0
    frames = np.empty((50, 16, 16))
    reached = solve_shallow_water(depth, 1.0, STEP, frames)
    assert 1 <= reached < 50
    assert np.all(frames[:reached] > 0.0)


def test_threads_that_solve_at_once_give_the_bits_of_one():
    assert_threads_give_the_bits_of_one(
        lambda depth: integrate(depth, 1.0, 5, dtype=np.float32).tobytes(),
        [rough(32, seed) for seed in range(6)],
    )
