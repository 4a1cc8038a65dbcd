"""What every scenario must do, the fields and axes it has, and problems on several grids."""

from __future__ import annotations

import numpy as np
import pytest

from mno.scenarios.base import SQUARE, make_scenario, scenario_class, scenario_names
from mno.scenarios.check import check_scenario, solved_sample, turned
from mno.scenarios.darcy import Darcy

TRIED: dict[str, tuple[int, dict]] = {
    "burgers": (24, {"frames": 5, "duration": 0.2}),
    "diffusion_reaction": (16, {"frames": 5}),
    "furnace": (20, {"frames": 4}),
    "furnace_ring": (16, {"frames": 4}),
    "navier_stokes": (24, {"frames": 4, "duration": 2.0}),
    "shallow_water": (18, {"frames": 5}),
}
FIELDS = {
    "burgers": ["viscosity input 1", "velocity state 1 time x"],
    "darcy": ["permeability input 1 x y", "pressure output 1 x y"],
    "darcy_ring": [
        "x coordinate 1 point",
        "y coordinate 1 point",
        "permeability input 1 point",
        "pressure output 1 point",
    ],
    "diffusion_reaction": ["activator state 1 time x y", "inhibitor state 1 time x y"],
    "furnace": [
        "conductivity input W m-1 K-1 x y",
        "heat_capacity input J m-3 K-1 x y",
        "power input W m-3 time x y",
        "ambient_temperature input K",
        "temperature state K time x y",
    ],
    "furnace_ring": [
        "x coordinate m point",
        "y coordinate m point",
        "conductivity input W m-1 K-1 point",
        "heat_capacity input J m-3 K-1 point",
        "power input W m-3 time point",
        "ambient_temperature input K",
        "temperature state K time point",
    ],
    "navier_stokes": ["viscosity input 1", "vorticity state 1 time x y"],
    "shallow_water": ["depth state 1 time x y"],
}


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_keeps_the_contract(name):
    check_scenario(name, *TRIED.get(name, (16, {})))


def test_a_switch_that_adds_a_state_keeps_the_contract():
    check_scenario("furnace", 48, {"frames": 3, "thermal_stress": True})


@pytest.mark.parametrize("name", FIELDS)
def test_there_are_problems_outside_of_what_is_drawn(name):
    assert make_scenario(name, 24, {}).outside()


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_names_roles_units_and_axes(name):
    fields = scenario_class(name).fields
    assert [" ".join([f.name, f.role, f.units, *f.dims]) for f in fields] == FIELDS[name]


@pytest.mark.parametrize(
    ("name", "low", "high", "units", "time_units"),
    [
        ("burgers", 0.0, 1.0, "1", "1"),
        ("darcy", 0.0, 1.0, "1", None),
        ("diffusion_reaction", -1.0, 1.0, "1", "1"),
        ("furnace", 0.0, 2.0, "m", "s"),
        ("navier_stokes", 0.0, 1.0, "1", "1"),
        ("shallow_water", -2.5, 2.5, "1", "1"),
    ],
)
def test_axes_are_frames_from_zero_and_cell_centres(name, low, high, units, time_units):
    duration = 1200.0 if time_units == "s" else 2.0
    parameters = {"frames": 6, "duration": duration} if time_units else {}
    axes = make_scenario(name, 20, parameters).axes
    times, space = axes[: bool(time_units)], axes[bool(time_units) :]
    assert [axis.name for axis in space] == ["x", "y"][: 1 if name == "burgers" else 2]
    for axis in space:
        assert (axis.units, axis.extent) == (units, (low, high))
        half = (high - low) / 40
        np.testing.assert_allclose(axis.points, np.linspace(low + half, high - half, 20))
    for axis in times:
        assert (axis.name, axis.units, axis.extent) == ("time", time_units, (0.0, duration))
        np.testing.assert_allclose(axis.points, np.arange(6) * duration / 5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("darcy", {}),
        ("darcy", {"sampling": "pdebench"}),
        ("darcy", {"sampling": "lognormal"}),
        ("burgers", {"viscosity_low": 1e-3}),
        ("burgers", {"sampling": "sines"}),
        ("diffusion_reaction", {}),
        ("navier_stokes", {"viscosity_low": 1e-4}),
        ("shallow_water", {"sampling": "pdebench"}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_draws_the_same_function_on_any_grid(name, parameters, seed):
    """The centres of cells are among those of cells a third as wide."""
    coarse, fine = (make_scenario(name, n, parameters) for n in (32, 96))
    assert coarse.same_on_any_grid
    draws = [scenario.sample(np.random.default_rng(seed)) for scenario in (coarse, fine)]
    for field in draws[0]:
        there = draws[1][field]
        shared = there[(slice(1, None, 3),) * there.ndim]
        np.testing.assert_allclose(draws[0][field], shared, rtol=1e-5, atol=2e-6)


def test_a_number_per_cell_is_another_function_on_every_grid():
    assert not make_scenario("diffusion_reaction", 16, {"sampling": "pdebench"}).same_on_any_grid


@pytest.mark.parametrize(
    ("name", "resolution", "parameters", "tolerance"),
    [
        ("diffusion_reaction", 12, {"frames": 4, "sampling": "pdebench"}, 0.0),
        ("shallow_water", 18, {"frames": 4}, 0.0),
        ("furnace", 20, {"frames": 5}, 2e-7),
    ],
)
def test_all_symmetries_of_the_square_hold_to_the_last_bits(
    name, resolution, parameters, tolerance
):
    scenario = make_scenario(name, resolution, parameters)
    assert scenario.symmetries == SQUARE
    given, solved = solved_sample(scenario, 3)
    for turn in SQUARE:
        again = scenario.solve({key: turned(field, turn) for key, field in given.items()})
        for key, field in solved.items():
            np.testing.assert_allclose(again[key], turned(field, turn), rtol=tolerance)


class Forgiving(Darcy):
    """A scenario whose checks pass on anything."""

    def check(self, inputs, outputs):
        return {check.name: 0.0 for check in self.checks}


class Moody(Darcy):
    """A scenario whose samples depend on how many were drawn before."""

    drawn = 0

    def sample(self, rng):
        Moody.drawn += 1
        return {"permeability": super().sample(rng)["permeability"] * np.float32(Moody.drawn)}


class Lopsided(Darcy):
    """A scenario that declares symmetries which a channel does not have."""

    def __init__(self, parameters, resolution):
        super().__init__(parameters, resolution)
        self.symmetries = SQUARE


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Forgiving, "passes all checks"),
        (Moody, "changes a sample"),
        (Lopsided, "'-x y' does not hold"),
    ],
)
def test_the_contract_finds_a_scenario_that_breaks_it(broken, words, monkeypatch):
    monkeypatch.setattr("mno.scenarios.darcy.SCENARIO", broken)
    with pytest.raises(AssertionError, match=words):
        check_scenario("darcy", 16, {"inlet_pressure": 1.0})
