"""Thermal stress in a furnace's charge: exact solutions, a second statement, the state `stress`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import make_scenario
from mno.scenarios.check import failed_checks, solved_sample
from mno.scenarios.furnace import Furnace, FurnaceParameters
from mno.scenarios.kernels.thermal_stress import (
    Solid,
    charge_cells,
    stress_by_displacements,
    thermal_stress,
)

E, NU, ALPHA = 2e11, 0.3, 1.2e-5
HELD, FREE = Solid(E, NU, ALPHA, ends_held=True), Solid(E, NU, ALPHA, ends_held=False)


def piece(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rectangle of charge with some cells around it; centres of cells, from its corner."""
    charge = np.zeros((columns + 5, rows + 4), bool)
    charge[2 : columns + 2, 1 : rows + 1] = True
    x, y = np.arange(columns + 5) - 1.5, np.arange(rows + 4) - 0.5
    return charge, x[:, None], y[None, :]


def two_pieces() -> np.ndarray:
    charge = np.zeros((40, 32), bool)
    charge[3:20, 4:16], charge[8:14, 16:25] = True, True  # not a rectangle
    charge[24:37, 4:9] = True
    return charge


def von_mises(xx, yy, zz, xy):
    return np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * xy**2)


def furnace(resolution: int = 48, **parameters) -> Furnace:
    scenario = make_scenario("furnace", resolution, {"thermal_stress": True, **parameters})
    assert isinstance(scenario, Furnace)
    return scenario


def test_a_uniform_temperature_makes_no_stress_but_along_ends_that_are_held():
    charge, x, y = piece(12, 9)
    rise = np.stack([0.0 * x * y, 200.0 + 0.0 * x * y])
    free = thermal_stress(charge, rise, FREE)
    assert free.max() < 1e-5
    held = thermal_stress(charge, rise, HELD)
    assert not held[0].any()
    np.testing.assert_allclose(held[1], np.where(charge, E * ALPHA * 200.0, 0.0), rtol=1e-12)


def test_a_linear_temperature_makes_no_stress_but_along_ends_that_are_held():
    charge, x, y = piece(14, 9)
    rise = (50.0 + 7.0 * x - 11.0 * y)[None]
    assert thermal_stress(charge, rise, FREE).max() < 1e-5
    expected = np.where(charge, E * ALPHA * np.abs(rise), 0.0)
    np.testing.assert_allclose(thermal_stress(charge, rise, HELD), expected, rtol=1e-10, atol=1e-3)


@pytest.mark.parametrize("solid", [HELD, FREE], ids=["held", "free"])
def test_a_long_bar_with_a_parabolic_temperature_has_the_stress_of_the_textbook(solid):
    # s_xx = E alpha / (1 - nu) (mean T - T), and s_yy = s_xy = 0, away from the ends.
    errors = []
    for rows in (10, 20, 40):
        charge, _, y = piece(6 * rows, rows)
        rise = 100.0 * (1.0 - (2.0 * y / rows - 1.0) ** 2)
        stress = thermal_stress(charge, np.broadcast_to(rise, (1, *charge.shape)), solid)
        middle = stress[0, 3 * rows + 2, 1 : rows + 1]
        along = E * ALPHA / (1.0 - NU) * (200.0 / 3.0 - rise[0, 1 : rows + 1])
        zz = NU * along - E * ALPHA * rise[0, 1 : rows + 1]
        zz = zz if solid.ends_held else along
        errors.append(np.abs(middle - von_mises(along, 0.0, zz, 0.0)).max() / (E * ALPHA * 100.0))
    assert errors[-1] < 2e-3
    assert all(3.6 < a / b < 4.4 for a, b in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("solid", [HELD, FREE], ids=["held", "free"])
def test_the_error_against_a_manufactured_solution_is_of_second_order(solid):
    # phi = p(x) q(y) with double roots at the surface; a harmonic part of T makes no stress in the
    # plane, and one that is not linear does along z.
    p = np.polynomial.Polynomial([0, 1, -1]) ** 2 * np.polynomial.Polynomial([1, 2])
    q = np.polynomial.Polynomial([0, 0.5, -1]) ** 2 * np.polynomial.Polynomial([2, -3])
    size, errors = 1e12, []
    for rows in (10, 20, 40):
        charge, x, y = piece(2 * rows, rows)
        x, y = x / (2 * rows), y / (2 * rows)
        xx, yy = size * p(x) * q.deriv(2)(y), size * p.deriv(2)(x) * q(y)
        xy = -size * p.deriv()(x) * q.deriv()(y)
        rise = 60.0 * (x**2 - y**2) + 40.0 * x - (1.0 - NU) / (E * ALPHA) * (xx + yy)
        zz = NU * (xx + yy) - E * ALPHA * rise
        if not solid.ends_held:
            points = np.argwhere(charge)
            basis = np.column_stack([np.ones(len(points)), points])
            zz[charge] -= basis @ np.linalg.lstsq(basis, zz[charge], rcond=None)[0]
        exact = np.where(charge, von_mises(xx, yy, zz, xy), 0.0)
        errors.append(np.abs(thermal_stress(charge, rise[None], solid)[0] - exact).max())
        assert np.abs(xx).max() > 0.2 * exact.max()
    assert errors[-1] < 0.02 * exact.max()
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all((orders > 1.7) & (orders < 2.3)), orders


@pytest.mark.parametrize("nu", [0.0, 0.45])
@pytest.mark.parametrize("held", [True, False])
def test_displacements_and_airys_function_give_the_same_stress(nu, held):
    charge, solid = two_pieces(), Solid(E, nu, ALPHA, held)
    charge[30, 15], charge[1:3, 20] = True, True  # too thin to have a stress within the plane
    rise = np.random.default_rng(0).normal(200.0, 100.0, (3, *charge.shape))
    stress = thermal_stress(charge, rise, solid)
    again = stress_by_displacements(charge, rise, solid)
    np.testing.assert_allclose(again, stress, rtol=0.0, atol=1e-10 * stress.max())
    assert stress[:, charge].min() >= 0.0 and not stress[:, ~charge].any()


def test_pieces_are_stressed_each_by_itself_wherever_they_are():
    charge = two_pieces()
    rise = np.random.default_rng(1).normal(200.0, 100.0, (1, *charge.shape))
    both = thermal_stress(charge, rise, FREE)
    left, right = charge.copy(), charge.copy()
    left[22:], right[:22] = False, False
    apart = thermal_stress(left, rise, FREE) + thermal_stress(right, rise, FREE)
    np.testing.assert_allclose(both, apart, rtol=1e-9)
    moved = thermal_stress(np.roll(right, 1, 0), np.roll(rise, 1, 1), FREE)
    np.testing.assert_allclose(np.roll(moved, -1, 1), thermal_stress(right, rise, FREE), rtol=1e-9)


@pytest.mark.parametrize("solid", [HELD, FREE], ids=["held", "free"])
def test_it_has_the_symmetries_of_the_square(solid):
    charge = two_pieces()
    rise = np.random.default_rng(2).normal(200.0, 100.0, (1, *charge.shape))
    stress = thermal_stress(charge, rise, solid)
    for turn in (lambda f: f[..., ::-1, :], lambda f: f[..., ::-1], lambda f: f.swapaxes(-1, -2)):
        np.testing.assert_allclose(
            thermal_stress(turn(charge), turn(rise), solid), turn(stress), rtol=1e-9
        )


def test_the_switch_adds_a_state_and_a_check_and_changes_nothing_else():
    plain, stressed = make_scenario("furnace", 48, {"frames": 3}), furnace(frames=3)
    assert [field.name for field in stressed.fields if field not in plain.fields] == ["stress"]
    assert [check.name for check in stressed.checks if check not in plain.checks] == ["equilibrium"]
    field = stressed.fields[-1]
    assert (field.role, field.dims, field.units) == ("state", ("time", "x", "y"), "Pa")
    for ours, theirs in zip(solved_sample(stressed, 3), solved_sample(plain, 3), strict=True):
        assert ours.keys() - theirs.keys() == {"stress"}
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
    assert Furnace.fields == plain.fields


@pytest.mark.parametrize(
    "parameters",
    [{}, {"piece_ends": "free"}, {"duration": 600.0, "frames": 2, "piece_ends": "free"},
     {"poisson_ratio": 0.45, "youngs_modulus": 1e9, "thermal_expansion": 1e-7, "frames": 4}],
    ids=str,
)  # fmt: skip
def test_solved_samples_pass_their_checks_and_begin_without_stress(parameters):
    scenario = furnace(**parameters)
    for seed in range(3):
        inputs, outputs = solved_sample(scenario, seed)
        assert failed_checks(scenario, inputs, outputs) == set()
        assert inputs["stress"].dtype == outputs["stress"].dtype == np.float32
        assert not inputs["stress"].any()
        charge = charge_cells(inputs["heat_capacity"])
        assert not outputs["stress"][:, ~charge].any()
        assert outputs["stress"][1:, charge].max() > 0.0


def test_an_initial_temperature_with_stress_is_stressed_in_the_first_frame():
    scenario = furnace(frames=2)
    inputs = scenario.sample(np.random.default_rng(0))
    inputs["temperature"] += np.linspace(0.0, 90.0, 48, dtype=np.float32) ** 2 / 90.0
    first = scenario.solve(inputs)["stress"][0]
    assert first.max() > 1e7
    given = {**inputs, "stress": first}
    assert "equilibrium" not in failed_checks(scenario, given, scenario.solve(given))
    assert "equilibrium" in failed_checks(scenario, inputs, scenario.solve(inputs))


def test_checks_catch_wrong_stresses():
    scenario = furnace(frames=4, piece_ends="free")
    inputs, outputs = solved_sample(scenario, 0)
    cell = tuple(np.argwhere(outputs["stress"][-1])[0])
    for at, change in (((1, *cell), 2e3), ((2, 0, 0), 2e3), ((3, *cell), -2e3)):
        wrong = outputs["stress"].copy()
        wrong[at] += change
        assert failed_checks(scenario, inputs, {**outputs, "stress": wrong}) == {"equilibrium"}
    wrong = np.zeros_like(inputs["stress"])
    wrong[cell] = 2e3
    assert failed_checks(scenario, {**inputs, "stress": wrong}, outputs) == {"equilibrium"}
    wrong = outputs["stress"].copy()
    wrong[1, 2, 3] = np.nan
    assert "equilibrium" in failed_checks(scenario, inputs, {**outputs, "stress": wrong})
    for other in ({"youngs_modulus": 2.001e11}, {"poisson_ratio": 0.301}, {"piece_ends": "held"},
                  {"thermal_expansion": 1.201e-5}):  # fmt: skip
        stranger = furnace(**{"frames": 4, "piece_ends": "free", **other})
        assert failed_checks(stranger, inputs, outputs) == {"equilibrium"}


def test_pieces_with_holes_are_refused():
    scenario = furnace(frames=2)
    inputs = scenario.sample(np.random.default_rng(0))
    capacity = inputs["heat_capacity"].copy()
    capacity[20:25, 20:25], capacity[22, 22] = 6e6, 1e6
    with pytest.raises(InputError, match="a hole in it; .* fill the hole"):
        scenario.solve({**inputs, "heat_capacity": capacity})


def test_datasets_have_it(tmp_path: Path):
    split = SplitConfig(train=0.5, validation=0.25, test=0.25)
    config = GenerateConfig(samples=8, resolution=48, shard_size=4, seed=1, split=split)
    parameters = FurnaceParameters(thermal_stress=True, frames=3)
    plan = DatasetPlan(Furnace, parameters, config, code="code")
    report = generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    assert report.fields["stress"].min == 0.0 and report.fields["stress"].max > 1e8
    assert report.checks["equilibrium"].max <= report.checks["equilibrium"].tolerance
