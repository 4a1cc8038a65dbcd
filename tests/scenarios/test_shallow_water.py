"""Shallow water: exact and other solutions, orders, invariants; random dams."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from mno.core.errors import InputError, MnoError
from mno.scenarios.base import SQUARE, make_scenario
from mno.scenarios.kernels.shallow_water import STEP, later_depth, solve_shallow_water
from mno.scenarios.shallow_water import Dam, ShallowWaterParameters, depth_at, draw_dams, mean_depth
from tests.scenarios.contract import failed_checks, solved_sample, turned
from tests.scenarios.measures import assert_orders, assert_threads_give_the_bits_of_one, block_means

SIDE = 5.0


def integrate(depth, duration, frames=2, step=STEP, dtype=float):
    """Frames of the depth, shape `(frames, n, n)`, on the square from -2.5 to 2.5."""
    n = len(depth)
    out = np.empty((frames, n, n), dtype)
    interval = duration / (frames - 1) * n / SIDE
    assert solve_shallow_water(np.ascontiguousarray(depth), interval, step, out) == frames
    return out


def centres(n):
    return SIDE * ((np.arange(n) + 0.5) / n - 0.5)


def disc(n, radius=0.5, ratio=2.0):
    x = centres(n)
    return np.where(np.hypot.outer(x, x) < radius, ratio, 1.0)


def rough(n, seed=0):
    """Depths from 0.5 to 1.5 without any symmetry, alike in blocks of a few cells."""
    blocks = np.random.default_rng(seed).uniform(0.5, 1.5, (-(-n // 3), -(-n // 3)))
    return np.kron(blocks, np.ones((3, 3)))[:n, :n]


def stoker(x, time, deep, shallow):
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


def spectral(depth, duration):
    """Depth of a smooth periodic wave along one axis: Fourier derivatives and scipy's DOP853."""
    n = len(depth)
    waves = 2.0j * np.pi * np.fft.rfftfreq(n, SIDE / n)

    def slope(field: np.ndarray) -> np.ndarray:
        return np.fft.irfft(waves * np.fft.rfft(field), n)

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        h, u = state.reshape(2, n)
        return -np.concatenate([slope(h * u), slope(0.5 * u * u + h)])

    start = np.concatenate([depth, np.zeros(n)])
    return solve_ivp(rate, (0.0, duration), start, "DOP853", rtol=1e-10, atol=1e-11).y[:n, -1]


def radial(radius, ratio, duration, cells):
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


@pytest.mark.parametrize("ratio", [pytest.param(1.2, marks=pytest.mark.slow), 2.0, 8.0])
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
    assert_orders(errors, 0.6, 1.25)
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
    assert_orders(errors, 1.8, 2.4)
    assert errors[-1] < 3e-5


def test_a_smooth_wave_across_both_axes_is_of_second_order():
    x = centres(512)
    hump = 0.2 * np.exp(-6.0 * np.add.outer((x - 0.2) ** 2, 2.0 * (x + 0.1) ** 2))
    fine = integrate(1.0 + hump, 0.3)[-1]
    errors = []
    for n in (32, 64, 128):
        found = integrate(block_means(1.0 + hump, n), 0.3)[-1]
        errors.append(np.mean(np.abs(found - block_means(fine, n))))
    assert_orders(errors, 1.75, 2.6)
    assert errors[-1] < 2e-5


def test_the_equations_of_circles_give_the_same_round_dam_break():
    r, reference = radial(0.5, 2.0, 0.6, cells=4000)
    errors = []
    for n in (64, 128, 256):
        depth = block_means(disc(1024), n)
        x = centres(n)
        expected = np.interp(np.hypot.outer(x, x), r, reference)
        errors.append(np.mean(np.abs(integrate(depth, 0.6)[-1] - expected)))
    assert_orders(errors, 0.6, 1.4)
    assert errors[-1] < 1.5e-3


def test_clawpack_finds_the_same_round_dam_break():
    pytest.importorskip("clawpack", reason="clawpack is not installed (extra pyclaw)")
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
        np.testing.assert_allclose(later_depth(depth, len(depth) / SIDE, STEP), found, rtol=1e-11)


def test_steps_of_another_length_hardly_matter():
    depth = disc(64)
    found, fine = integrate(depth, 0.6)[-1], integrate(depth, 0.6, step=0.1)[-1]
    assert np.mean(np.abs(found - fine)) < 0.02 * np.mean(np.abs(found - depth))


@pytest.mark.parametrize("ratio", [2.0, 10.0])
def test_water_stays_where_it_runs_apart_and_bounded_where_it_meets(ratio):
    for seed in range(10):
        high = np.random.default_rng(seed).random((7, 7)) < 0.5
        frames = integrate(np.kron(np.where(high, ratio, 1.0), np.ones((7, 7))), 4.0, 41)
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


def grid(n):
    points = 5.0 * ((np.arange(n) + 0.5) / n - 0.5)
    x, y = np.meshgrid(points, points, indexing="ij")
    return x, y, 5.0 / n


def drawn(seed, dams=4):
    return draw_dams(ShallowWaterParameters(dams=dams), np.random.default_rng(seed))


@pytest.mark.parametrize("is_rectangle", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_the_volume_behind_a_dam_is_its_area_times_what_it_is_deeper(is_rectangle, angle):
    dam = Dam(1.75, (0.3, -0.4), (0.8, 0.5), angle, is_rectangle)
    x, y, width = grid(40)
    means = mean_depth([dam], 1.0, x, y, width)
    area = 4.0 * 0.8 * 0.5 if is_rectangle else np.pi * 0.8 * 0.5
    assert np.sum(means - 1.0) * width**2 == pytest.approx(0.75 * area, rel=0.03)
    assert np.sum((means - 1.0) * x) / np.sum(means - 1.0) == pytest.approx(0.3, abs=0.02)
    assert np.sum((means - 1.0) * y) / np.sum(means - 1.0) == pytest.approx(-0.4, abs=0.02)


def test_a_rotated_dam_lies_along_its_angle():
    x, y, _ = grid(60)
    for is_rectangle in (False, True):
        raised = depth_at([Dam(2.0, (0.0, 0.0), (1.0, 0.3), np.pi / 6, is_rectangle)], 1.0, x, y)
        _, axes = np.linalg.eigh(np.cov(np.stack([x, y])[:, raised > 1.0]))
        assert abs(axes[:, 1] @ [np.cos(np.pi / 6), np.sin(np.pi / 6)]) > 0.999


def test_where_dams_overlap_the_deepest_counts():
    dams = [Dam(2.0, (0.0, 0.0), (1.0, 1.0)), Dam(3.0, (0.5, 0.0), (1.0, 1.0))]
    places = np.array([-0.9, 0.0, 1.4, 2.0])
    np.testing.assert_array_equal(
        depth_at(dams, 1.0, places, np.zeros(4)), np.array([2.0, 3.0, 3.0, 1.0])
    )


@pytest.mark.parametrize("seed", range(4))
def test_means_over_cells_are_those_of_finer_points(seed):
    dams = drawn(seed)
    x, y, width = grid(20)
    x_fine, y_fine, _ = grid(20 * 64)
    fine = depth_at(dams, 1.0, x_fine, y_fine).reshape(20, 64, 20, 64).mean(axis=(1, 3))
    means = mean_depth(dams, 1.0, x, y, width)
    assert np.abs(means - fine).max() < 0.05
    assert np.abs(means - fine).mean() < 2e-3
    whole = np.isin(means, [1.0, *(dam.depth for dam in dams)])
    assert 0.4 < whole.mean() < 1.0
    np.testing.assert_allclose(means[whole], fine[whole], atol=0.05)


def test_numbers_depths_and_shapes_spread_over_what_is_asked_for():
    draws = [drawn(seed) for seed in range(400)]
    counts = np.bincount([len(dams) for dams in draws], minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 70
    dams = [dam for draw in draws for dam in draw]
    for values, low, high in (
        ([dam.depth for dam in dams], 1.5, 2.0),
        ([radius for dam in dams for radius in dam.radii], 0.3, 0.7),
        ([place for dam in dams for place in dam.centre], -1.5, 1.5),
        ([dam.angle for dam in dams], 0.0, np.pi),
    ):
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert np.mean([dam.is_rectangle for dam in dams]) == pytest.approx(0.5, abs=0.06)
    assert {len(drawn(seed, dams=1)) for seed in range(20)} == {1}


def scenario_of(resolution=24, **parameters):
    return make_scenario("shallow_water", resolution, parameters)


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_function_at_every_resolution(seed):
    # Means of dams: a share of 1 / 64 of a cell is what its points can tell.
    coarse = scenario_of(16).sample(np.random.default_rng(seed))["depth"]
    fine = scenario_of(48).sample(np.random.default_rng(seed))["depth"]
    means = fine.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(means, coarse, atol=0.05)
    assert np.abs(means - coarse).mean() < 1e-3


def test_the_solution_converges_under_refinement_of_one_function():
    frames = []
    for n in (24, 48, 96, 192):
        depth = solved_sample(scenario_of(n, frames=3), seed=1)[1]["depth"].astype(np.float64)
        frames.append(depth.reshape(3, 24, n // 24, 24, n // 24).mean(axis=(2, 4)))
    changes = [np.abs(b - a).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert changes[2] < 0.6 * changes[1] < 0.4 * changes[0]


def test_pdebench_draws_a_disc_in_the_middle_of_random_radius():
    scenario = scenario_of(64, sampling="pdebench")
    draws = [scenario.sample(np.random.default_rng(k))["depth"] for k in range(300)]
    assert all(set(np.unique(draw)) == {1.0, 2.0} for draw in draws)
    assert all(np.array_equal(draw, np.rot90(draw)) for draw in draws)
    radii = [np.sqrt(np.sum(draw > 1.5) / np.pi) * 5.0 / 64 for draw in draws]
    assert 0.27 < min(radii) < 0.33 < 0.67 < max(radii) < 0.73
    assert np.mean(radii) == pytest.approx(0.5, abs=0.03)


def test_dams_lie_anywhere_and_their_depth_differs():
    scenario = scenario_of(32, dam_depth=3.0)
    draws = np.stack([scenario.sample(np.random.default_rng(k))["depth"] for k in range(300)])
    assert draws.min() == 1.0
    deepest = draws.max(axis=(1, 2))
    assert 2.0 <= deepest.min() < 2.1 < 2.9 < deepest.max() <= 3.0
    often = np.mean(draws > 1.0, axis=0)
    assert often[16, 16] > 0.1
    assert often[8, 8] > 0.05
    assert len({draw.tobytes() for draw in draws}) == 300


def test_checks_catch_waves_that_rise_again():
    scenario = scenario_of(spread=0.0)
    inputs, outputs = solved_sample(scenario)
    assert failed_checks(
        scenario, inputs, {"depth": outputs["depth"][[0, 1, 0, 3, *range(4, 21)]]}
    ) == (set())
    wrong = outputs["depth"].copy()
    wrong[2] = 1.0 + 1.1 * (wrong[0] - 1.0)
    assert {"energy", "mass"} <= failed_checks(scenario, inputs, {"depth": wrong})


def test_four_times_the_gravity_does_the_same_in_half_the_time():
    _, outputs = solved_sample(scenario_of())
    _, faster = solved_sample(scenario_of(gravity=4.0, duration=0.5))
    assert faster["depth"].tobytes() == outputs["depth"].tobytes()


def test_water_that_runs_dry_is_named():
    depth = np.full((16, 16), 1e-9, np.float32)
    depth[6:10, 3:5] = 1.0
    with pytest.raises(MnoError, match="ran dry or too fast before frame") as error:
        scenario_of(16, duration=10.0).solve({"depth": depth})
    assert not isinstance(error.value, InputError)
    assert "\n" not in str(error.value)
