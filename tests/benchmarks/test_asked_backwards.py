"""Benchmarks of what is asked backwards, and of cookies, at a small size."""

import numpy as np
import pytest

from benchmarks import bench_cookies as cookies
from benchmarks import bench_heat_1d as heat
from benchmarks import bench_lining_wear as linings
from benchmarks.cookies_server import Plate
from mno.core.config import validate
from mno.scenarios.external import External, ExternalParameters


@pytest.mark.parametrize("number", [0, 1])
def test_chains_draw_the_posterior_of_heat(number):
    case = heat.cases()[number]
    _, read = case.read(np.random.default_rng(0))
    draws = heat.drawn(case, read, 20, 200, 0)
    of_mean, of_covariance, share = heat.apart(draws, *case.posterior(read))
    assert of_mean < 0.2 and of_covariance < 0.2 and share > 0.8


def test_what_is_inferred_of_heat_holds_the_truth_as_often_as_it_says():
    share, error, _ = heat.coverage(heat.cases()[1], 6, 16, 200)
    assert abs(share - 0.9) < 4 * error


def test_a_sparse_grid_is_exact_for_polynomials():
    grid = cookies.sparse_grid(2)
    points, weights = np.array([*grid]), np.array([*grid.values()])
    assert len(grid) == 145 and weights.sum() == pytest.approx(1.0)
    y = np.linspace(cookies.LEAST, cookies.MOST, 100_001)
    square, middle = np.mean(y**2), np.mean(y)
    assert weights @ (points[:, 0] ** 2 * points[:, 3]) == pytest.approx(square * middle, rel=1e-4)
    assert weights @ points[:, 5] ** 4 == pytest.approx(np.mean(y**4), rel=1e-4)


def test_cookies_are_solved_as_published_and_alike_however_they_are_turned():
    plate, y = Plate(100), np.array([-0.24, -0.87, -0.21, -0.93, -0.60, -0.56, -0.78, -0.77])
    found = plate(y)
    assert len({tuple(image) for image in cookies.images()}) == 8
    assert [plate(y[image]) for image in cookies.images()] == pytest.approx([found] * 8)
    assert cookies.mean(plate, 1, {}) == pytest.approx(cookies.PUBLISHED, rel=1e-3)


def test_cookies_behind_a_server_are_what_the_plate_says():
    with cookies.server(20) as address:
        told = cookies.preset(address)["scenarios"]["external"]
        scenario = External(validate(ExternalParameters, told), 8)
        scenario.compile()
        given = scenario.sample(np.random.default_rng(0))
        answer = scenario.solve(given)["integral"]
    assert answer == pytest.approx(Plate(20)(given["conductivity"].astype(float)), rel=1e-6)


def test_the_table_of_linings_counts_what_is_held():
    def row(wear, mean):
        told = {"mean": mean, "deviation": 1e-3, "low": mean - 2e-3, "high": mean + 2e-3}
        told |= {"effective": 1000.0, "rhat": 1.0, "accepted": 0.8, "solves": 0, "seconds": 5.0}
        return {"wear": wear, "model": told, "exact": told, "quadrature": told}

    runs = {"0": row(0.01, 0.011), "1": row(0.02, 0.03), "2": row(0.0, 0.0015)}
    asked, counted, words, compared, machine = linings.parts({"runs": runs, "machine": "here"})
    assert "there are 3, and 3 by the solver" in asked
    assert [row[1] for row in counted.rows] == ["3", "2"]
    assert [row[2].split()[0] for row in counted.rows] == ["66.7%", "50.0%"]
    assert len(compared.rows) == 3 and "here" in machine
    assert linings.binomial(90, 100) == pytest.approx((0.824, 0.951), abs=1e-3)
