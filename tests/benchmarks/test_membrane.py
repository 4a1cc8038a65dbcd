"""The benchmark that asks backwards: its gradients, what stands in for the solver, its draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import solveh_banded

from benchmarks import bench_aristoff_bangerth as benchmark
from benchmarks.bench_aristoff_bangerth import (
    BLOCKS,
    NOISE,
    READ,
    coarser,
    coefficients,
    likelihood_of,
    polynomial,
    solved,
)
from benchmarks.membrane_batch import Membrane
from mno.inverse.chains import Chains


def drawn(rows, seed):
    rng = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(rows, BLOCKS, generator=rng, dtype=torch.float64)


def test_gradients_through_the_solver_are_those_of_differences():
    likelihood = likelihood_of(solved, torch.full_like(READ, NOISE))
    z = drawn(1, 0).requires_grad_()
    assert torch.autograd.gradcheck(likelihood, z, eps=1e-5, rtol=1e-4, atol=1e-4)
    (one,) = benchmark.exact(z.detach().numpy())
    assert abs(one - float(likelihood(z.detach())[0])) < 1e-9 * abs(one)


@pytest.mark.parametrize("by_lapack", [False, True])
def test_many_coefficients_at_once_are_solved_as_the_scenario_solves_one(by_lapack):
    given, scenario = coefficients(drawn(3, 4)).numpy(), benchmark.SCENARIO
    wide = scenario.sample(np.random.default_rng(4))["coefficient"]
    given = np.concatenate([given, wide[None]]).astype(np.float64)
    readings, *known = (membrane := Membrane(32, by_lapack)).solve(given)
    weights = np.random.default_rng(0).standard_normal(readings.shape)
    slopes = membrane.slopes(weights, *known)
    for number, one in enumerate(given):
        nodes = solveh_banded(scenario.bands(one), scenario.load, lower=True).reshape(31, 31)
        assert np.allclose(readings[number], scenario.read(nodes), rtol=1e-9)
    for block in (0, 27, 63):
        steps = 1e-4 * given * (np.arange(BLOCKS) == block)
        after, before = (membrane.solve(given + h)[0] for h in (steps, -steps))
        difference = np.sum(weights * (after - before), axis=(1, 2)) / 2e-4
        assert slopes[:, block] * given[:, block] == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_two_coarser_meshes_tell_what_the_first_lacks():
    z = drawn(700, 5)
    with torch.no_grad():
        y = solved(z)
        told = coarser(z[100:], y[100:], Path())(z[:100])
        missed = [float((f - y[:100]).norm()) for f in (solved(z[:100], Membrane(16)), told)]
    assert missed[1] < 0.25 * missed[0]


def test_a_polynomial_of_the_second_degree_is_found_again():
    z, way = drawn(4500, 1), drawn(BLOCKS, 2)[:, :5]
    y = (1.0 + 0.3 * z @ way + 0.1 * (z @ way) ** 2).exp()
    told = polynomial(2)(z[500:], y[500:], Path())(z[:500])
    linear = polynomial(1)(z[500:], y[500:], Path())(z[:500])
    missed = [float((found - y[:500]).norm() / y[:500].norm()) for found in (linear, told)]
    assert missed[1] < 0.01 and missed[0] > 10 * missed[1]


def test_means_are_compared_in_standard_errors():
    z = np.random.default_rng(0).standard_normal((4, 500, BLOCKS))
    found = benchmark.Found(Chains(z, z[..., 0], 1.0), 7, fitted=1.0, drawn=2.0)
    same = {"means": np.zeros(BLOCKS), "standard_errors": np.full(BLOCKS, 0.05)}
    row = dict(zip(benchmark.COLUMNS, found.row("a side", same), strict=True))
    assert row["means within 3 errors"] == "64 of 64" and row["solves"] == "7"
    other = {"means": np.full(BLOCKS, 1.0), "standard_errors": np.full(BLOCKS, 0.05)}
    assert found.row("a side", other)[-1] == "0 of 64"
    assert found.rhat < 1.01 and found.effective.min() > 1500
