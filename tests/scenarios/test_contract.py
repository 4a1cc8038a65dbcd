"""What every scenario must do and refuse, its axes, and problems on several grids."""

import re
from typing import Any

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.scenarios.base import SQUARE, Scenario, make_scenario, scenario_names
from mno.scenarios.darcy import Darcy
from tests.scenarios.contract import check_scenario, failed_checks, solved_sample, turned

TRIED: dict[str, tuple[int, dict]] = {
    "batch_furnace": (8, {"steps_per_frame": 2, "rays": 16, "cells_per_point": 4.0}),
    "burgers": (24, {"frames": 5, "duration": 0.2}),
    "diffusion_reaction": (16, {"frames": 5}),
    "furnace": (20, {"frames": 4}),
    "kuramoto_sivashinsky": (48, {"frames": 4, "duration": 3.0, "warm_up": 20.0}),
    "navier_stokes": (24, {"frames": 4, "duration": 2.0}),
    "shallow_water": (18, {"frames": 5}),
}
LINES = ("burgers", "kuramoto_sivashinsky")  # of one dimension


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_keeps_the_contract(name):
    check_scenario(name, *TRIED.get(name, (16, {})))


@pytest.mark.parametrize("name", scenario_names())
def test_there_are_problems_outside_of_what_is_drawn(name):
    assert make_scenario(name, 24, {}).outside()


@pytest.mark.parametrize(
    ("name", "low", "high", "units", "time_units"),
    [
        ("burgers", 0.0, 1.0, "1", "1"),
        ("darcy", 0.0, 1.0, "1", None),
        ("diffusion_reaction", -1.0, 1.0, "1", "1"),
        ("furnace", 0.0, 2.0, "m", "s"),
        ("kuramoto_sivashinsky", 0.0, 22.0, "1", "1"),
        ("navier_stokes", 0.0, 1.0, "1", "1"),
        ("shallow_water", -2.5, 2.5, "1", "1"),
    ],
)
def test_axes_are_frames_from_zero_and_cell_centres(name, low, high, units, time_units):
    duration = 1200.0 if time_units == "s" else 2.0
    parameters = {"frames": 6, "duration": duration} if time_units else {}
    axes = make_scenario(name, 20, parameters).axes
    times, space = axes[: bool(time_units)], axes[bool(time_units) :]
    assert [axis.name for axis in space] == ["x", "y"][: 1 if name in LINES else 2]
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
        ("kuramoto_sivashinsky", {}),
        ("kuramoto_sivashinsky", {"viscosity": 0.2, "warm_up": 5.0, "coarsest": 32}),
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


NAN, INF = float("nan"), float("inf")

PARAMETERS = {
    "burgers": [
        ({"viscosity_low": 5e-2}, "viscosity_low=0.05 must be at most viscosity_high=0.02; swap"),
        ({"sampling": "sines", "highest_wave": 16}, "highest_wave=16 needs .*resolution=33"),
    ],
    "darcy": [
        (
            {"sampling": "lognormal", "high_permeability": 303.0},
            "high_permeability=303.0 is 101 times low_permeability=3.0; with sampling=lognormal",
        ),
        (
            {"inlet_pressure": 1.0, "high_permeability": 3003.0},
            "high_permeability=3003.0 is 1001 times low_permeability=3.0; with an inlet_pressure",
        ),
        ({"low_permeability": 12.0}, "low_permeability=12.0 must be less than"),
        ({"low_permeability": 5.0, "high_permeability": 4.0}, "swap the two"),
    ],
    "darcy_ring": [
        ({"smallest_hole": 0.5}, "must be at most largest_hole"),
        ({"waviness": 0.3}, "leave .* between hole and wall"),
    ],
    "furnace": [
        ({"thinnest_wall": 0.4}, "thinnest_wall=0.4 must be at most thickest_wall=0.35; swap"),
        ({"thickest_wall": 0.7}, "thickest_wall=0.7 must be at most 0.3 of side=2.0; choose 0.6"),
        ({"side": 20.0, "thinnest_wall": 0.01}, "thinnest_wall=0.01 needs 4000 .* choose 0.0782"),
        ({"lowest_lining_conductivity": 2.0}, "must be at most highest_lining_conductivity=1.5"),
        ({"coolest_peak": 1700.0}, "coolest_peak=1700.0 must be at most hottest_peak=1650.0"),
    ],
    "kuramoto_sivashinsky": [
        ({"coarsest": 48}, "coarsest=48 must be at most generate.resolution=32; lower it"),
        ({"frames": 4}, "frames=4 are 13.3333 apart; .* expected 10 at most, choose 5 or shorten"),
    ],
    "navier_stokes": [
        ({"viscosity_low": 5e-3}, "viscosity_low=0.005 must be at most viscosity_high=0.001; swap")
    ],
    "shallow_water": [
        ({"dam_depth": 1.0}, "dam_depth=1.0 must be more than outer_depth=1.0 and at most 10"),
        ({"outer_depth": 0.1}, "dam_depth=2.0 must be more than outer_depth=0.1 and at most 10"),
        ({"min_radius": 0.8}, "min_radius=0.8 must be at most max_radius=0.7; swap"),
    ],
}


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [(name, *case) for name, cases in PARAMETERS.items() for case in cases],
    ids=str,
)
def test_impossible_parameters_are_refused_in_one_line(name, parameters, words):
    with pytest.raises(InputError) as error:
        make_scenario(name, 32, parameters)
    said = str(error.value)
    assert f"scenarios.{name}" in said and "\n" not in said
    assert re.search(words, said)


@pytest.mark.parametrize(
    ("name", "parameters", "resolution", "remedy"),
    [
        *(("burgers", {}, n, "at least 8; choose more") for n in (7, 0, -4)),
        *(("diffusion_reaction", {}, n, "at least 8; choose more") for n in (7, 0, -4)),
        *(("kuramoto_sivashinsky", {}, n, "even and at least 16; choose 16") for n in (15, 0, -4)),
        ("kuramoto_sivashinsky", {}, 33, "even and at least 16; choose 32 or 34"),
        *(("navier_stokes", {}, n, "from 8 to 512; choose 8") for n in (7, 0, -4)),
        ("navier_stokes", {}, 513, "from 8 to 512; choose 512"),
        ("aristoff_bangerth", {}, 20, "a multiple of 8 and at least 8; choose 16 or 24"),
        ("darcy", {}, 33, "a multiple of 4 and at least 8; choose 32 or 36"),
        ("darcy", {}, 30, "choose 28 or 32"),
        ("darcy", {}, 9, "choose 8 or 12"),
        *(("darcy", {}, n, "a multiple of 4 and at least 8; choose 8") for n in (7, 4, 0, -12)),
        ("darcy_ring", {}, 6, "even and at least 8; choose 8"),
        ("darcy_ring", {}, 9, "even and at least 8; choose 8 or 10"),
        ("furnace", {}, 33, "two cells in a wall of 0.25 m.*choose 32 or 36"),
        *(("furnace", {}, n, "from 16 .*to 512; choose 16") for n in (12, 0, -4)),
        *(("furnace", {}, n, "from 16 .*to 512; choose 512") for n in (514, 1024)),
        *(("shallow_water", {}, n, "at least 9, .*min_radius=0.3.*; choose more") for n in (8, 0)),
        ("shallow_water", {"min_radius": 0.7}, 7, "at least 8, .*min_radius=0.7.*; choose more"),
        (
            "shallow_water",
            {"min_radius": 0.05},
            49,
            "at least 50, .*min_radius=0.05.*; choose more",
        ),
    ],
)
def test_an_impossible_resolution_is_refused_with_the_nearest_possible(
    name, parameters, resolution, remedy
):
    with pytest.raises(InputError) as error:
        make_scenario(name, resolution, parameters)
    said = str(error.value)
    assert re.search(rf"generate.resolution={resolution} must be {'.*'}{remedy}$", said)
    assert "\n" not in said
    nearest = re.search(r"choose .*?(\d+)$|at least (\d+)", said)
    assert nearest and make_scenario(name, int(nearest[1] or nearest[2]), parameters)


VALUES = [
    ("burgers", "viscosity", [NAN, 0.0, 1.0], "numbers from 0.001 to 0.1"),
    ("burgers", "velocity", [NAN, INF, -11.0], "numbers from -10 to 10"),
    ("darcy", "permeability", [0.0, -1.0, NAN], "positive numbers"),
    ("darcy_ring", "permeability", [0.0], "positive numbers"),
    ("diffusion_reaction", "activator", [NAN, INF, -30.0], "numbers from -20 to 20"),
    ("furnace", "conductivity", [0.0], "finite positive numbers"),
    ("furnace", "heat_capacity", [-1.0], "finite positive numbers"),
    ("furnace", "temperature", [NAN], "finite positive numbers"),
    ("furnace", "power", [INF], "finite numbers"),
    ("kuramoto_sivashinsky", "velocity", [NAN, INF, -11.0], "numbers from -10 to 10"),
    ("navier_stokes", "viscosity", [NAN, 1e-4, 1.0], "numbers from 0.001 to 0.01"),
    ("navier_stokes", "vorticity", [NAN, INF, -70.0], "numbers from .* to"),
    ("shallow_water", "depth", [NAN, INF, 0.0, -1.0, 2e3], "positive numbers to 1000"),
]


@pytest.mark.parametrize(("name", "field", "values", "expected"), VALUES)
def test_inputs_with_values_that_cannot_be_solved_are_refused(name, field, values, expected):
    scenario = make_scenario(name, 20, {})
    given = scenario.sample(np.random.default_rng(0))
    for value in values:
        wrong = given[field].copy()
        wrong[(3,) * wrong.ndim] = value
        words = f"{field} reaches from .*{float(np.float32(value))}.*; expected .*{expected}"
        with pytest.raises(InputError, match=words):
            scenario.solve({**given, field: wrong})


def test_points_that_are_no_ring_are_refused():
    scenario = make_scenario("darcy_ring", 16, {})
    given = scenario.sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="x and y are not the points of a ring"):
        scenario.solve({**given, "x": np.zeros(256, np.float32)})


def closes(stored, supplied, lost):
    return abs(stored - supplied + lost) <= 1e-7 * max(abs(supplied), abs(lost), abs(stored))


THIN = {"viscosity_low": 1e-4, "viscosity_high": 1e-4}  # not held by 24 points
SHORT = {"duration": 2.0, "frames": 4}
SEVEN = {"frames": 7}
# Resolutions, number of seeds, and parameters.
SOLVED: dict[str, tuple[list[int], int, list[dict[str, Any]]]] = {
    "burgers": ([8, 15, 64], 2, [
        {}, {"viscosity_low": 1e-3, "viscosity_high": 1e-3, "frames": 3, "duration": 0.1},
        {"viscosity_low": 1e-1, "viscosity_high": 1e-1, "frames": 41, "duration": 10.0},
        {"sampling": "sines", "highest_wave": 3, "frames": 11, "viscosity_low": 5e-3},
        {"duration": 1e-2, "frames": 1001},
    ]),
    "darcy": ([8, 12, 32, 36, 100, 256], 3, [
        {}, {"low_permeability": 1e-6, "high_permeability": 1e6},
        {"inverse_length": 50.0, "covariance_exponent": 1.01},
        {"sampling": "pdebench", "low_permeability": 0.1, "high_permeability": 1.0},
        {"sampling": "pdebench", "low_permeability": 1e-6, "high_permeability": 1e6},
        {"sampling": "lognormal"},
        {"sampling": "lognormal", "low_permeability": 1e4, "high_permeability": 1e6,
         "inverse_length": 50.0, "covariance_exponent": 1.01},
        {"inlet_pressure": 0.0}, {"inlet_pressure": 1.0},
        {"inlet_pressure": 1e3, "low_permeability": 1e3, "high_permeability": 1e6},
        {"inlet_pressure": 1e-3, "low_permeability": 1e-6, "high_permeability": 1e-3},
        {"sampling": "lognormal", "inlet_pressure": 10.0, "low_permeability": 0.1,
         "high_permeability": 10.0},
    ]),
    "darcy_ring": ([8, 16, 30], 3, [
        {}, {"waviness": 0.0, "contrast": 0.0},
        {"contrast": 3.0, "inverse_length": 20.0, "covariance_exponent": 1.01},
        {"smallest_hole": 0.05, "largest_hole": 0.05},
        {"smallest_hole": 0.75, "largest_hole": 0.75, "waviness": 0.0},
        {"waviness": 0.3, "smallest_hole": 0.1, "largest_hole": 0.15},
    ]),
    "diffusion_reaction": ([8, 15, 32], 3, [
        {}, {"sampling": "pdebench"}, {"sampling": "pdebench", "frames": 2},
        {"frames": 60, "offset": 1.0, "activator_diffusivity": 0.0},
        {"inhibitor_diffusivity": 0.1, "activator_diffusivity": 0.1, "frames": 3, "duration": 1.0},
        {"inverse_length": 50.0, "covariance_exponent": 1.01, "offset": -1.0},
    ]),
    "furnace": ([20, 36], 3, [
        {}, {"frames": 2, "steps_per_frame": 1}, {"duration": 600.0, "frames": 5},
        {"duration": 1e7, "frames": 5},
        {"thinnest_wall": 0.6, "thickest_wall": 0.6, "most_pieces": 6, "frames": 5},
        {"lowest_lining_conductivity": 0.02, "highest_lining_conductivity": 0.02,
         "heat_transfer_coefficient": 0.1, "gas_conductivity": 1000.0, **SEVEN},
        {"lowest_lining_conductivity": 20.0, "highest_lining_conductivity": 20.0,
         "heat_transfer_coefficient": 1000.0, "gas_conductivity": 1.0, **SEVEN},
        {"side": 20.0, "thinnest_wall": 3.0, "thickest_wall": 5.0, "duration": 600.0, **SEVEN},
        {"side": 0.2, "thinnest_wall": 0.04, "thickest_wall": 0.06, **SEVEN},
        {"coolest_peak": 500.0, "hottest_peak": 500.0, "warm_share": 1.0, **SEVEN},
        {"coolest_peak": 2500.0, "hottest_peak": 2500.0, **SEVEN},
    ]),
    "kuramoto_sivashinsky": ([16, 50], 2, [
        {}, {"frames": 5, "viscosity": 10.0, "length": 60.0, "warm_up": 1000.0},
        {"viscosity": 0.05, "warm_up": 1.0, "duration": 0.5, "frames": 2},
        {"length": 8.0, "warm_up": 0.0, "initial_waves": 7},
        {"viscosity": 10.0, "warm_up": 0.0, "initial_waves": 7},
        {"length": 400.0, "warm_up": 10.0, "duration": 20.0, "frames": 3},
        {"duration": 1e-2, "frames": 1001},
    ]),
    "navier_stokes": ([8, 15, 32], 2, [
        SHORT, {"frames": 2, "duration": 12.0, "forcing": 0.5, "viscosity_high": 1e-2},
        {"frames": 41, "duration": 0.1, "vorticity_scale": 10.0}, {**SHORT, **THIN, "frames": 3},
        {"forcing": 0.0, "viscosity_low": 1e-2, "viscosity_high": 1e-2, "duration": 50.0, "frames":
         4},
    ]),
    "shallow_water": ([9, 15, 32], 3, [
        {}, {"sampling": "pdebench"}, {"sampling": "pdebench", "frames": 101},
        {"dams": 20, "spread": 2.5, "max_radius": 2.5, "frames": 2},
        {"outer_depth": 0.01, "dam_depth": 0.1, "duration": 10.0, "gravity": 10.0},
        {"outer_depth": 1.0, "dam_depth": 10.0, "dams": 20, "spread": 1.0},
        {"dam_depth": 1.0001, "frames": 41, "spread": 0.0},
        {"gravity": 0.01, "duration": 1e-3, "frames": 1001},
    ]),
}  # fmt: skip
ALSO = {
    "darcy_ring": lambda _, __, solved: solved["pressure"].min() == 0.0,
    "furnace": lambda scenario, given, _: closes(*scenario.balance(given).sum(axis=0)),
    "shallow_water": lambda _, __, solved: solved["depth"].min() > 0.0,
}


@pytest.mark.parametrize(
    ("name", "resolution", "seeds", "parameters"),
    [
        pytest.param(name, n, seeds, parameters, id=f"{name} {n} {parameters}")
        for name, (resolutions, seeds, tried) in SOLVED.items()
        for n in resolutions
        for parameters in tried
    ],
)
def test_solved_samples_pass_their_checks(name, resolution, seeds, parameters):
    scenario = make_scenario(name, resolution, parameters)
    for seed in range(seeds):
        given, solved = solved_sample(scenario, seed)
        assert failed_checks(scenario, given, solved) == set()
        assert name not in ALSO or ALSO[name](scenario, given, solved)


@pytest.mark.parametrize("seed", range(25))
def test_solved_samples_of_any_parameters_pass_their_checks(seed):
    rng = np.random.default_rng(seed)
    outer = 10.0 ** rng.uniform(-2.0, 0.0)
    radii = np.sort(rng.uniform(0.1, 1.5, 2))
    resolution = int(rng.integers(25, 40))
    parameters = {
        "sampling": str(rng.choice(["dams", "pdebench"])),
        "dams": int(rng.integers(1, 21)),
        "outer_depth": outer,
        "dam_depth": outer * rng.uniform(1.001, 9.999),
        "min_radius": float(radii[0]),
        "max_radius": float(radii[1]),
        "spread": rng.uniform(0.0, 2.5),
        "gravity": 10.0 ** rng.uniform(-2.0, 1.0),
        "duration": 10.0 ** rng.uniform(-3.0, 0.5),
        "frames": int(rng.integers(2, 50)),
    }
    scenario = make_scenario("shallow_water", resolution, parameters)
    assert failed_checks(scenario, *solved_sample(scenario, seed)) == set()


@pytest.mark.parametrize(
    ("name", "resolution", "parameters", "field"),
    [
        ("burgers", 32, {"frames": 3}, "velocity"),
        ("kuramoto_sivashinsky", 48, {"warm_up": 0.0}, "velocity"),
        ("navier_stokes", 16, {**SHORT, "forcing": 0.0}, "vorticity"),
    ],
)
def test_a_state_at_rest_stays_and_passes(name, resolution, parameters, field):
    scenario = make_scenario(name, resolution, parameters)
    given = scenario.sample(np.random.default_rng(0))
    given[field] = np.zeros_like(given[field])
    solved = scenario.solve(given)
    assert not solved[field].any()
    assert failed_checks(scenario, given, solved) == set()


FURNACE = ("furnace", 20, {"frames": 5})
REACTION, FLOW = ("diffusion_reaction", 16, {}), ("navier_stokes", 32, SHORT)
WATER, CALM = ("shallow_water", 24, {}), ("shallow_water", 24, {"spread": 0.0})
BURGERS = ("burgers", 32, SEVEN)
FRONT = ("kuramoto_sivashinsky", 48, {"warm_up": 20.0, "duration": 3.0, "frames": 4})
# Scenario, field, place and what is added; what must fail, and whether nothing else may.
WRONG = [
    (BURGERS, "given velocity", (3,), 1e-6, "initial", False),
    *((BURGERS, "velocity", (frame, 5), 1e-5, "exact", True) for frame in (1, 3, 6)),
    (FRONT, "given velocity", (3,), 1e-6, "initial", True),
    *((FRONT, "velocity", (frame, 5), 1e-4, "defect", False) for frame in range(4)),
    (FRONT, "velocity", (2, 5), 1e-3, "momentum", False),
    (("darcy", 32, {}), "pressure", (10, 20), "1e-5", "residual", True),
    (("darcy_ring", 16, {}), "pressure", (-1,), 1e-6, "wall", False),
    *(
        (("darcy_ring", 16, {}), field, (100,), change, "residual", False)
        for field in ("given x", "given permeability", "pressure")
        for change in ("1e-3", np.nan)
    ),
    (REACTION, "given activator", (3, 4), 1e-6, "initial", True),
    *((REACTION, "inhibitor", (k, 3, 4), 1e-4, "defect", False) for k in (0, 1, 10, 11, 20)),
    (FLOW, "given vorticity", (3, 4), 1e-6, "initial", True),
    *((FLOW, "vorticity", (frame, 3, 4), 1e-4, "defect", False) for frame in range(4)),
    (WATER, "given depth", (3, 4), 1e-6, "initial", True),
    *((WATER, "depth", (frame, 12, 13), 1e-5, "defect", False) for frame in (0, 1)),
    *((CALM, "depth", (frame, 12, 13), 1e-3, "mass", False) for frame in (1, 2, 3)),
    *((FURNACE, "temperature", (frame, 10, 7), 0.01, "defect", False) for frame in range(1, 5)),
    (FURNACE, "temperature", (0, 10, 7), 0.01, "initial", False),
]


@pytest.mark.parametrize(("case", "field", "at", "change", "check", "alone"), WRONG, ids=str)
def test_checks_catch_one_wrong_number(case, field, at, change, check, alone):
    scenario = make_scenario(*case)
    given, solved = solved_sample(scenario)
    field, arrays = field.removeprefix("given "), given if "given" in field else solved
    arrays[field][at] += float(change) * arrays[field][at] if isinstance(change, str) else change
    found = failed_checks(scenario, given, solved)
    assert found == {check} if alone else check in found


# Scenario, and the other parameters; what must fail, and whether nothing else may.
STRANGE = [
    (BURGERS, {"viscosity_low": 2.001e-2, "viscosity_high": 2.001e-2}, "exact", True),
    (BURGERS, {"duration": 1.0001}, "exact", True),
    *(
        (REACTION, other, "defect", True)
        for other in (
            {"activator_diffusivity": 1.001e-3}, {"inhibitor_diffusivity": 5.005e-3},
            {"offset": 5.01e-3}, {"duration": 5.001},
        )
    ),
    *(
        (("navier_stokes", n, SHORT), other, "defect", False)
        for n in (12, 32)
        for other in (
            {"viscosity_low": 1.0005e-3, "viscosity_high": 1.0005e-3}, {"forcing": 0.10001},
            {"duration": 2.0001},
        )
    ),
    *((FRONT, o, "defect", True) for o in ({"viscosity": 1.001}, {"duration": 3.003})),
    *((WATER, o, "defect", False) for o in ({"gravity": 1.001}, {"duration": 1.001})),
    (WATER, {"duration": 0.999}, "defect", False),
    *(
        (FURNACE, other, "defect", False)
        for other in (
            {"heat_transfer_coefficient": 10.1}, {"duration": 43300.0}, {"steps_per_frame": 5},
        )
    ),
    (("darcy", 32, {"inlet_pressure": 1.0}), {"inlet_pressure": 1.0001}, "residual", False),
    (("darcy", 32, {"inlet_pressure": 1.0}), {"inlet_pressure": None}, "residual", False),
    (("darcy", 32, {}), {"inlet_pressure": 1.0}, "residual", False),
]  # fmt: skip


@pytest.mark.parametrize(("case", "other", "check", "alone"), STRANGE, ids=str)
def test_checks_catch_frames_of_slightly_other_parameters(case, other, check, alone):
    name, resolution, parameters = case
    scenario: Scenario = make_scenario(*case)
    stranger = make_scenario(name, resolution, {**parameters, **other})
    given = scenario.sample(np.random.default_rng(1))
    drawn = stranger.sample(np.random.default_rng(1))  # whose viscosity is another
    solved = stranger.solve({**given, **{k: drawn[k] for k in given if k == "viscosity"}})
    found = failed_checks(scenario, given, solved)
    assert found == {check} if alone else check in found


@pytest.mark.parametrize("field", ["conductivity", "heat_capacity", "power"])
def test_checks_of_furnaces_catch_slightly_other_inputs(field):
    scenario = make_scenario(*FURNACE)
    given, solved = solved_sample(scenario, seed=1)
    other = {**given, field: (given[field] * 1.001).astype(np.float32)}
    assert {"defect", "energy"} <= failed_checks(scenario, other, solved)


def test_checks_of_furnaces_catch_what_another_one_does():
    scenario = make_scenario(*FURNACE)
    others = solved_sample(scenario, seed=1)[1]
    found = failed_checks(scenario, solved_sample(scenario)[0], others)
    assert {"initial", "defect", "energy"} <= found


# Scenario, field, place and what it is set to, some in units of the largest value that is given;
# what must fail, and whether nothing else may.
LONG = ("navier_stokes", 32, {**SHORT, "frames": 9})
BEYOND = [
    (("burgers", 32, {"frames": 101}), "velocity", (37, 5), "-1.1", ("range",), False),
    (REACTION, "activator", (7, 3, 4), "1.001", ("range",), True),
    (REACTION, "activator", (7, 3, 4), -1e30, ("range", "defect"), True),
    (LONG, "vorticity", (4, 3, 4), -2.0, ("range", "mean"), False),
    (LONG, "vorticity", (4, 3, 4), 1e30, ("range", "defect"), False),
    (FRONT, "velocity", (2, 5), 1e30, ("defect", "momentum"), True),
    *((WATER, "depth", (15, 3, 4), value, ("range",), True) for value in (-1e-3, 30.0, -1e30)),
    *((FURNACE, "temperature", (2, 3, 4), kelvin, ("range",), False) for kelvin in (280.0, 5000.0)),
]


@pytest.mark.parametrize(("case", "field", "at", "value", "checks", "alone"), BEYOND, ids=str)
def test_checks_catch_values_that_the_equation_does_not_reach(
    case, field, at, value, checks, alone
):
    scenario = make_scenario(*case)
    given, solved = solved_sample(scenario)
    if isinstance(value, str):
        value = float(value) * max(np.abs(array).max() for array in given.values())
    solved[field][at] = value
    found = failed_checks(scenario, given, solved)
    assert found == set(checks) if alone else set(checks) <= found
