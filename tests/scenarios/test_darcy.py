"""Darcy flow: order, direct solution, conservation, symmetry, bits; permeabilities as drawn."""

import hashlib

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve

from mno.core.errors import InputError, MnoError
from mno.scenarios.base import SQUARE, make_scenario
from mno.scenarios.kernels.multigrid import solve_diffusion
from tests.scenarios.contract import failed_checks, solved_sample, turned
from tests.scenarios.measures import (
    assert_orders,
    assert_threads_give_the_bits_of_one,
    block_means,
    changes,
    draws,
    five_points,
)


def two_materials(n, seed, contrast=4.0):
    """Random cells of two materials, in clumps of a few cells."""
    noise = np.random.default_rng(seed).standard_normal((n + 4, n + 4))
    smooth = sum(noise[i : i + n, j : j + n] for i in range(5) for j in range(5))
    return np.where(smooth >= 0.0, contrast, 1.0)


def tight(permeability, source=None):
    source = np.ones_like(permeability) if source is None else source
    solution, _, residual = solve_diffusion(permeability, source, 1e-13, 500)
    assert residual <= 1e-13
    return solution


def matrix(permeability):
    return len(permeability) ** 2 * five_points(permeability, lambda here: 2.0 * here)


def manufactured_error(n):
    """Root mean square error for a smooth permeability and a known solution without symmetry."""
    points = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(points, points, indexing="ij")
    pi = np.pi
    a = np.exp(np.sin(2.0 * x + y))
    slope = a * np.cos(2.0 * x + y)
    u = np.sin(pi * x) * np.sin(2.0 * pi * y)
    u_x = pi * np.cos(pi * x) * np.sin(2.0 * pi * y)
    u_y = 2.0 * pi * np.sin(pi * x) * np.cos(2.0 * pi * y)
    source = -(2.0 * slope * u_x + slope * u_y - 5.0 * pi**2 * a * u)
    return float(np.sqrt(np.mean((tight(a, source) - u) ** 2)))


def test_the_order_is_two_for_smooth_permeability():
    errors = [manufactured_error(n) for n in (16, 32, 64, 128)]
    assert_orders(errors, 1.9, 2.1)
    assert errors[-1] < 5e-4


@pytest.mark.parametrize("n", [8, 12, 20, 36, 64])
@pytest.mark.parametrize("contrast", [4.0, 1000.0])
def test_it_equals_a_sparse_direct_solution(n, contrast):
    permeability = two_materials(n, seed=n, contrast=contrast)
    source = np.random.default_rng(n).random((n, n))
    direct = spsolve(matrix(permeability), source.ravel()).reshape(n, n)
    assert np.abs(tight(permeability, source) - direct).max() < 1e-11 * np.abs(direct).max()


def test_the_reported_residual_is_the_true_one():
    permeability = two_materials(32, seed=3)
    source = np.ones_like(permeability)
    solution, _, reported = solve_diffusion(permeability, source, 1e-8, 500)
    residual = source.ravel() - matrix(permeability) @ solution.ravel()
    true = np.linalg.norm(residual) / np.linalg.norm(source)
    assert 1e-10 < reported <= 1e-8
    assert true == pytest.approx(reported, rel=1e-3)


@pytest.mark.parametrize("n", [8, 20, 36])
def test_a_channel_equals_a_sparse_direct_solution(n):
    permeability = two_materials(n, seed=n)
    source = np.random.default_rng(n).random((n, n))
    walls = np.zeros((n, n))
    walls[:, 0] = 2.0 * permeability[:, 0] * n * n
    walls[:, -1] += 2.0 * permeability[:, -1] * n * n
    closed = csr_array(matrix(permeability) - diags_array(walls.ravel()))
    right = source.copy()
    right[0] += 2.0 * permeability[0] * n * n * 1.5
    direct = spsolve(closed, right.ravel()).reshape(n, n)
    found, _, residual = solve_diffusion(permeability, source, 1e-13, 500, 1.5)
    assert residual <= 1e-13
    assert np.abs(found - direct).max() < 1e-11 * np.abs(direct).max()


@pytest.mark.parametrize("n", [16, 44, 128])
def test_what_enters_leaves_through_the_wall(n):
    permeability = two_materials(n, seed=n)
    flux = 2.0 * permeability * tight(permeability)
    through_wall = flux[0].sum() + flux[-1].sum() + flux[:, 0].sum() + flux[:, -1].sum()
    assert abs(through_wall - 1.0) < 1e-12


@pytest.mark.parametrize(
    "turn",
    [np.transpose, np.flipud, np.fliplr, np.rot90],
    ids=["transpose", "flip x", "flip y", "rotate"],
)
def test_a_turned_permeability_gives_the_turned_solution(turn):
    permeability = two_materials(36, seed=1)
    turned = np.ascontiguousarray(turn(permeability))
    assert not np.array_equal(turned, permeability)
    solution = tight(permeability)
    np.testing.assert_allclose(tight(turned), turn(solution), atol=1e-12 * solution.max())


def test_scaling_the_permeability_scales_the_solution():
    permeability = two_materials(20, seed=5)
    np.testing.assert_allclose(tight(8.0 * permeability) * 8.0, tight(permeability), rtol=1e-14)


@pytest.mark.parametrize("n", [32, 64, 100, 128])
def test_the_number_of_iterations_hardly_depends_on_the_resolution(n):
    assert solve_diffusion(two_materials(n, seed=n), np.ones((n, n)), 1e-8, 100)[1] <= 26


def test_too_few_iterations_are_reported_as_such():
    _, iterations, residual = solve_diffusion(two_materials(32, 0), np.ones((32, 32)), 1e-8, 3)
    assert iterations == 3
    assert residual > 1e-8


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_impossible_permeability_gives_no_residual_that_passes(value):
    permeability = two_materials(16, seed=2)
    permeability[3, 4] = value
    assert not solve_diffusion(permeability, np.ones((16, 16)), 1e-8, 100)[2] <= 1e-8


def test_threads_that_solve_at_once_give_the_bits_of_one():
    assert_threads_give_the_bits_of_one(
        lambda case: solve_diffusion(case, np.ones((64, 64)), 1e-8, 100)[0].tobytes(),
        [two_materials(64, seed) for seed in range(8)],
    )


def darcy(resolution=32, **parameters):
    return make_scenario("darcy", resolution, parameters)


def test_the_default_permeability_is_what_it_has_always_been():
    assert hashlib.sha256(
        darcy(32).sample(np.random.default_rng(7))["permeability"].tobytes()
    ).hexdigest() == ("a0411ce34d592b7d52c41155767bab5d0ec446d35f291c4eabeffef6d56fa101")


def test_the_pressure_converges_under_refinement_of_one_function():
    solved = (solved_sample(darcy(n), seed=1)[1]["pressure"] for n in (32, 64, 128, 256))
    levels = [block_means(pressure, 32) for pressure in solved]
    found = changes(levels, lambda change: np.abs(change).max())
    assert found[0] < 0.1 * levels[-1].max()
    assert found[2] < 0.5 * found[0]


def test_permeability_takes_the_two_values_in_equal_shares():
    samples = draws(darcy(16, low_permeability=0.5, high_permeability=7.0), "permeability", 400)
    assert set(np.unique(samples)) == {0.5, 7.0}
    assert np.mean(samples == 7.0) == pytest.approx(0.5, abs=0.02)


def test_bumps_lie_anywhere_and_take_the_two_values():
    scenario = darcy(32, sampling="pdebench", low_permeability=0.1, high_permeability=1.0)
    drawn = draws(scenario, "permeability", 400)
    assert set(np.unique(drawn)) == {np.float32(0.1), np.float32(1.0)}
    inside = drawn > 0.5
    shares = inside.mean(axis=(1, 2))
    assert 0.0 < shares.min() < 0.15 < 0.4 < shares.max()
    assert all(1 <= label(one)[1] <= 5 for one in inside)
    often = inside.mean(axis=0)
    assert 0.05 < often.min() < often.max() < 0.6
    for other in (often.T, often[::-1], often[:, ::-1]):
        assert np.abs(often - other).mean() < 0.04


def test_the_logarithm_of_a_lognormal_permeability_is_normal():
    scenario = darcy(16, sampling="lognormal", low_permeability=2.0, high_permeability=8.0)
    logs = np.log(draws(scenario, "permeability", 2000).astype(np.float64) / 4.0) / np.log(2.0)
    assert np.mean(logs) == pytest.approx(0.0, abs=0.03)
    assert np.mean(logs**2) == pytest.approx(1.0, abs=0.05)
    kurtosis = np.mean(logs**4, axis=0) / np.mean(logs**2, axis=0) ** 2
    assert np.mean(kurtosis) == pytest.approx(3.0, abs=0.2)


def test_the_pressure_of_a_smooth_permeability_is_of_second_order():
    def pressure(n: int) -> np.ndarray:
        scenario = darcy(n, sampling="lognormal", covariance_exponent=4.0)
        return block_means(solved_sample(scenario, seed=2)[1]["pressure"], 16)

    levels = [pressure(n) for n in (16, 32, 64, 128)]
    assert_orders(changes(levels, lambda change: np.abs(change).mean()), 1.7, 2.3)


def test_nearby_points_share_a_material_as_the_covariance_says():
    # For a Gaussian field cut at zero, P(same material) = 1 - arccos(correlation) / pi.
    samples = draws(darcy(16), "permeability", 1500)
    here, there = (3, 5), (9, 12)
    waves = np.arange(200)
    weights = np.where(waves == 0, 1.0, 2.0)
    variances = (
        np.multiply.outer(weights, weights)
        / (np.pi**2 * np.add.outer(waves**2, waves**2) + 9.0) ** 2
    )
    variances[0, 0] = 0.0

    def covariance(p, q):
        def basis(k):
            return np.cos(np.pi * waves * (p[k] + 0.5) / 16) * np.cos(
                np.pi * waves * (q[k] + 0.5) / 16
            )

        return basis(0) @ variances @ basis(1)

    correlation = covariance(here, there) / np.sqrt(
        covariance(here, here) * covariance(there, there)
    )
    expected = 1.0 - np.arccos(correlation) / np.pi
    assert np.mean(samples[:, *here] == samples[:, *there]) == pytest.approx(expected, abs=0.04)
    assert abs(expected - 0.5) > 0.1


def test_smoothness_and_length_change_the_field_the_way_they_say():
    def patches(**parameters: float) -> int:
        scenario = darcy(64, **parameters)
        total = 0
        for seed in range(20):
            high = scenario.sample(np.random.default_rng(seed))["permeability"] == 12.0
            total += label(high)[1]
        return total

    assert patches(covariance_exponent=1.5) > patches() > patches(covariance_exponent=4.0)
    assert patches(inverse_length=20.0) > patches()


def test_pressure_falls_along_a_uniform_channel_as_the_exact_solution_does():
    # -a u'' = 1 with u(0) = 2, u(1) = 0: the scheme is exact but at the walls, where the source
    # of half a cell counts twice.
    scenario = darcy(64, inlet_pressure=2.0)
    x = scenario.axes[0].points
    pressure = scenario.solve({"permeability": np.full((64, 64), 5.0)})["pressure"]
    expected = 2.0 * (1.0 - x) + x * (1.0 - x) / 10.0
    np.testing.assert_allclose(pressure, np.repeat(expected[:, None], 64, axis=1), atol=1e-5)


def test_a_channel_of_two_layers_carries_what_both_in_line_do():
    # Far more than the source drives: permeabilities in line add up as resistances.
    scenario = darcy(32, inlet_pressure=1e3)
    permeability = np.where(np.arange(32) < 8, 3.0, 12.0)[:, None] * np.ones(32)
    pressure = scenario.solve({"permeability": permeability})["pressure"]
    flux = 2.0 * 32 * 12.0 * pressure[-1].astype(np.float64).mean()
    assert flux == pytest.approx(1e3 / (0.25 / 3.0 + 0.75 / 12.0), rel=1e-3)


@pytest.mark.parametrize("inlet", [None, 1.0])
def test_declared_symmetries_are_those_that_the_solver_has(inlet):
    scenario = darcy(16, inlet_pressure=inlet)
    inputs, outputs = solved_sample(scenario, seed=3)
    held = set()
    for turn in SQUARE:
        again = scenario.solve({"permeability": turned(inputs["permeability"], turn)})["pressure"]
        if np.allclose(again, turned(outputs["pressure"], turn), rtol=1e-5):
            held.add(turn)
    assert held == set(scenario.symmetries)


def test_checks_catch_a_solution_that_is_slightly_too_large():
    scenario = darcy(64)
    inputs, outputs = solved_sample(scenario, seed=0)
    outputs["pressure"] *= np.float32(1.0 + 1e-5)
    assert "flux_balance" in failed_checks(scenario, inputs, outputs)


def test_checks_catch_pressure_out_of_range():
    scenario = darcy(32)
    inputs, outputs = solved_sample(scenario, seed=0)
    zero = {"pressure": np.zeros_like(outputs["pressure"])}
    assert "range" in failed_checks(scenario, inputs, zero)
    assert "range" in failed_checks(scenario, inputs, {"pressure": outputs["pressure"] * 3.0})


def test_whole_numbers_are_taken_as_parameters():
    whole = solved_sample(darcy(16, low_permeability=3, high_permeability=12), seed=0)
    default = solved_sample(darcy(16), seed=0)
    assert whole[1]["pressure"].tobytes() == default[1]["pressure"].tobytes()


def test_an_iteration_that_does_not_converge_is_named():
    # Single cells that differ twelve orders of magnitude are beyond the preconditioner.
    cells = np.random.default_rng(0).random((64, 64)) < 0.5
    permeability = np.where(cells, 1e-6, 1e6).astype(np.float32)
    with pytest.raises(MnoError, match="conjugate gradients for darcy did not converge") as error:
        darcy(64).solve({"permeability": permeability})
    assert not isinstance(error.value, InputError)
