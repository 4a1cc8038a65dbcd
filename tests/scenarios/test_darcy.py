"""The scenario darcy: its random permeability, its solution as stored, its checks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import label

from mno.core.errors import InputError, MnoError
from mno.scenarios.base import SQUARE, Scenario, make_scenario
from mno.scenarios.check import failed_checks, solved_sample, turned
from tests.scenarios.measures import block_means, changes, draws, orders


def darcy(resolution: int = 32, **parameters: Any) -> Scenario:
    return make_scenario("darcy", resolution, parameters)


def test_the_default_permeability_is_what_it_has_always_been():
    permeability = darcy(32).sample(np.random.default_rng(7))["permeability"]
    assert hashlib.sha256(permeability.tobytes()).hexdigest() == (
        "a0411ce34d592b7d52c41155767bab5d0ec446d35f291c4eabeffef6d56fa101"
    )


def test_the_pressure_converges_under_refinement_of_one_function():
    solved = (solved_sample(darcy(n), seed=1)[1]["pressure"] for n in (32, 64, 128, 256))
    levels = [block_means(pressure, 32) for pressure in solved]
    found = changes(levels, lambda change: np.abs(change).max())
    assert found[0] < 0.1 * levels[-1].max()
    assert found[2] < 0.5 * found[0]


def test_permeability_takes_the_two_values_in_equal_shares():
    scenario = darcy(16, low_permeability=0.5, high_permeability=7.0)
    samples = draws(scenario, "permeability", 400)
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
    drawn = draws(scenario, "permeability", 2000)
    logs = np.log(drawn.astype(np.float64) / 4.0) / np.log(2.0)
    assert np.mean(logs) == pytest.approx(0.0, abs=0.03)
    assert np.mean(logs**2) == pytest.approx(1.0, abs=0.05)
    kurtosis = np.mean(logs**4, axis=0) / np.mean(logs**2, axis=0) ** 2
    assert np.mean(kurtosis) == pytest.approx(3.0, abs=0.2)


def test_the_pressure_of_a_smooth_permeability_is_of_second_order():
    def pressure(n: int) -> np.ndarray:
        scenario = darcy(n, sampling="lognormal", covariance_exponent=4.0)
        return block_means(solved_sample(scenario, seed=2)[1]["pressure"], 16)

    levels = [pressure(n) for n in (16, 32, 64, 128)]
    found = orders(changes(levels, lambda change: np.abs(change).mean()))
    assert np.all(found > 1.7) and np.all(found < 2.3), found


def test_nearby_points_share_a_material_as_the_covariance_says():
    # For a Gaussian field cut at zero, P(same material) = 1 - arccos(correlation) / pi.
    scenario = darcy(16)
    samples = draws(scenario, "permeability", 1500)
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
    measured = np.mean(samples[:, *here] == samples[:, *there])
    assert measured == pytest.approx(expected, abs=0.04)
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
