"""Chains and the smoother against posteriors that are known exactly."""

import math

import numpy as np
import pytest
import torch

from mno.inverse.chains import follow, follow_exactly, smooth, warm_up

UNKNOWNS, READINGS, NOISE = 4, 6, 0.3


def quiet(done, total):
    pass


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def linear():
    """A linear problem: its matrix, what was read, and the posterior's mean and covariance."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((READINGS, UNKNOWNS)) * np.array([2.0, 1.0, 0.3, 0.05])
    read = matrix @ rng.standard_normal(UNKNOWNS) + NOISE * rng.standard_normal(READINGS)
    covariance = np.linalg.inv(matrix.T @ matrix / NOISE**2 + np.eye(UNKNOWNS))
    return (
        torch.from_numpy(matrix),
        torch.from_numpy(read),
        covariance @ (matrix.T @ read / NOISE**2),
        covariance,
    )


def likelihood_of(matrix, read, bias=0.0, factor=1.0):
    def likelihood(z):
        return -0.5 * factor * (((z @ matrix.mT + bias - read) / NOISE) ** 2).sum(1)

    return likelihood


def assert_same_posterior(draws, mean, covariance, errors=4.5):
    """Of draws `(chains, draws, unknowns)`; chains, being independent, say how sure they are."""
    chains = len(draws)
    means = draws.mean(axis=1)
    error = means.std(axis=0, ddof=1) / math.sqrt(chains)
    assert (abs(means.mean(axis=0) - mean) < errors * error).all()
    squares = ((draws - mean) ** 2).mean(axis=1)
    error = squares.std(axis=0, ddof=1) / math.sqrt(chains)
    assert (abs(squares.mean(axis=0) - covariance.diagonal()) < errors * error).all()


def start(chains, seed=0):
    return torch.randn(chains, UNKNOWNS, generator=generator(seed), dtype=torch.float64)


def test_chains_draw_the_posterior_of_a_linear_problem(linear):
    matrix, read, mean, covariance = linear
    rng = generator()
    kernel, place = warm_up(likelihood_of(matrix, read), start(40), 40, 200, rng, quiet)
    chains = follow(kernel, place, 300, rng, quiet)
    assert 0.6 < chains.accepted < 0.95
    assert_same_posterior(chains.z, mean, covariance)
    assert np.allclose(
        chains.likelihood[:, -1],
        likelihood_of(matrix, read)(torch.from_numpy(chains.z[:, -1])).numpy(),
    )


@pytest.mark.parametrize(("bias", "factor"), [(0.0, 1.0), (0.4, 0.5), (-0.2, 0.02)])
def test_a_wrong_surrogate_costs_time_and_never_truth(linear, bias, factor):
    matrix, read, mean, covariance = linear
    rng, true = generator(2), likelihood_of(matrix, read)

    def exact(z):
        return true(torch.from_numpy(z)).numpy()

    kernel, place = warm_up(
        likelihood_of(matrix, read, bias, factor), start(40), 40, 150, rng, quiet
    )
    chains = follow_exactly(kernel, place, exact, 400, rng, quiet, inner=3)
    assert_same_posterior(chains.z[:, 100:], mean, covariance)
    assert chains.solves <= 40 * 401
    assert np.isclose(chains.likelihood[3, -1], exact(chains.z[3, -1:])[0])
    if not bias:
        assert chains.accepted > (0.95 if factor == 1.0 else 0.0)


def test_a_bent_posterior_is_that_of_a_quadrature():
    """z^2 was read: two hills, and the surrogate sees |z| in place of it."""
    read, noise = 1.5, 0.6

    def log_of(square):
        return -0.5 * ((square - read) / noise) ** 2

    grid = np.linspace(-6.0, 6.0, 20001)
    weights = np.exp(log_of(grid**2) - 0.5 * grid**2)
    expected = np.average(grid**2, weights=weights)
    rng = generator(5)
    first = torch.randn(60, 1, generator=rng, dtype=torch.float64)
    kernel, place = warm_up(lambda z: log_of(z.abs()[:, 0]), first, 60, 100, rng, quiet)
    chains = follow_exactly(kernel, place, lambda z: log_of(z[:, 0] ** 2), 400, rng, quiet)
    squares = (chains.z[:, 100:, 0] ** 2).mean(axis=1)
    assert abs(squares.mean() - expected) < 4 * squares.std(ddof=1) / math.sqrt(60)


def test_what_cannot_be_solved_is_never_drawn(linear):
    matrix, read, *_ = linear
    rng = generator(3)
    likelihood = likelihood_of(matrix, read, factor=0.1)
    kernel, place = warm_up(likelihood, start(20), 20, 60, rng, quiet)

    def exact(z):
        return np.where(z[:, 3] > 0.5, -math.inf, likelihood(torch.from_numpy(z)).numpy())

    chains = follow_exactly(kernel, place, exact, 60, rng, quiet)
    assert (chains.z[:, 30:, 3] <= 0.5).all() and chains.z[:, 30:, 3].max() > 0.3


def test_chains_find_what_is_known_ten_thousand_times_better_than_the_rest():
    """A prior of deviation 1, and readings that are within 1e-4 of the sum of two unknowns."""
    row = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    rng, noise = generator(7), torch.tensor([1e-4], dtype=torch.float64)

    def likelihood(z):
        return -0.5 * ((z @ row.mT)[:, 0] / noise) ** 2

    first = smooth(lambda z: z @ row.mT, torch.zeros(1).double(), noise, UNKNOWNS, 200, rng)
    chains = follow(*warm_up(likelihood, first, 40, 150, rng, quiet), 300, rng, quiet)
    covariance = np.linalg.inv(1e8 * (row.mT @ row).numpy() + np.eye(UNKNOWNS))
    white = np.linalg.solve(np.linalg.cholesky(covariance), chains.z[..., None])[..., 0]
    assert_same_posterior(white, np.zeros(UNKNOWNS), np.eye(UNKNOWNS))
    assert np.allclose(white.std(axis=(0, 1)), 1.0, atol=0.05)


def test_the_smoother_is_exact_where_all_is_linear(linear):
    matrix, read, mean, covariance = linear
    noise = torch.full((READINGS,), NOISE, dtype=torch.float64)
    found = smooth(lambda z: z @ matrix.mT, read, noise, UNKNOWNS, 20000, generator(4)).numpy()
    assert np.allclose(found.mean(axis=0), mean, atol=0.03)
    assert np.allclose(np.cov(found.T), covariance, atol=0.03)


def test_chains_are_the_same_by_the_same_seed(linear):
    matrix, read, *_ = linear

    def drawn():
        rng = generator(6)
        return follow(
            *warm_up(likelihood_of(matrix, read), start(5), 5, 20, rng, quiet), 20, rng, quiet
        )

    assert np.array_equal(drawn().z, drawn().z)
