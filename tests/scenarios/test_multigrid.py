"""The solver of -div(a grad u) = f: order, direct solution, conservation, symmetry, bits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from mno.scenarios.kernels.multigrid import solve_diffusion
from tests.scenarios.measures import assert_threads_give_the_bits_of_one


def two_materials(n: int, seed: int, contrast: float = 4.0) -> np.ndarray:
    """Random cells of two materials, in clumps of a few cells."""
    noise = np.random.default_rng(seed).standard_normal((n + 4, n + 4))
    smooth = sum(noise[i : i + n, j : j + n] for i in range(5) for j in range(5))
    return np.where(smooth >= 0.0, contrast, 1.0)


def tight(permeability: np.ndarray, source: np.ndarray | None = None) -> np.ndarray:
    source = np.ones_like(permeability) if source is None else source
    solution, _, residual = solve_diffusion(permeability, source, 1e-13, 500)
    assert residual <= 1e-13
    return solution


def matrix(permeability: np.ndarray) -> csc_array:
    """The scheme written cell by cell, as one would on paper."""
    n = len(permeability)
    rows, columns, values = [], [], []
    for i, j in np.ndindex(n, n):
        here = permeability[i, j]
        diagonal = 0.0
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= k < n and 0 <= m < n:
                there = permeability[k, m]
                transmissibility = 2.0 / (1.0 / here + 1.0 / there)
                rows.append(i * n + j)
                columns.append(k * n + m)
                values.append(-transmissibility)
            else:
                transmissibility = 2.0 * here
            diagonal += transmissibility
        rows.append(i * n + j)
        columns.append(i * n + j)
        values.append(diagonal)
    return csc_array((np.array(values) * n * n, (rows, columns)))


def manufactured_error(n: int) -> float:
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
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(orders > 1.9) and np.all(orders < 2.1), orders
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
    closed = csc_array(matrix(permeability) - diags_array(walls.ravel()))
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
    permeability = two_materials(n, seed=n)
    assert solve_diffusion(permeability, np.ones((n, n)), 1e-8, 100)[1] <= 26


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
