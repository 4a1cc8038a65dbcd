"""Problems near those of a scenario, and one problem on several grids."""

from __future__ import annotations

import numpy as np
import pytest

from mno.scenarios.base import make_scenario, scenario_names

OUTSIDE = [
    (name, label) for name in scenario_names() for label in make_scenario(name, 24, {}).outside()
]


def test_every_scenario_has_neighbours() -> None:
    assert {name for name, _ in OUTSIDE} == set(scenario_names())


@pytest.mark.parametrize(("name", "label"), OUTSIDE)
def test_a_neighbour_is_another_problem_that_can_be_solved(name: str, label: str) -> None:
    here = make_scenario(name, 24, {})
    there = make_scenario(name, 24, here.outside()[label])
    assert there.fields == here.fields
    for ours, theirs in zip(here.axes, there.axes, strict=True):
        assert np.array_equal(ours.points, theirs.points)
    solutions = []
    for scenario in (here, there):
        given = scenario.sample(np.random.default_rng(3))
        solved = scenario.solve(given)
        measured = scenario.check(given, solved)
        assert all(measured[check.name] <= check.tolerance for check in scenario.checks)
        solutions.append({**given, **solved})
    assert any(not np.array_equal(solutions[0][f], solutions[1][f]) for f in solutions[0])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("darcy", {}),
        ("darcy", {"sampling": "pdebench"}),
        ("burgers", {}),
        ("diffusion_reaction", {}),
        ("navier_stokes", {}),
        ("shallow_water", {"sampling": "pdebench"}),
    ],
)
def test_a_stream_draws_the_same_function_on_any_grid(name: str, parameters: dict) -> None:
    """The centres of cells are among those of cells a third as wide."""
    coarse, fine = (make_scenario(name, n, parameters) for n in (16, 48))
    assert coarse.same_on_any_grid
    draws = [scenario.sample(np.random.default_rng(1)) for scenario in (coarse, fine)]
    for field in draws[0]:
        there = draws[1][field]
        shared = there[(slice(1, None, 3),) * there.ndim]
        np.testing.assert_allclose(draws[0][field], shared, rtol=1e-5, atol=1e-5)


def test_a_number_per_cell_is_another_function_on_every_grid() -> None:
    assert not make_scenario("diffusion_reaction", 16, {"sampling": "pdebench"}).same_on_any_grid
