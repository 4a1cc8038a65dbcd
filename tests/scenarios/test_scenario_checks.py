"""Checks pass on solutions at the edges of the parameters, and catch what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mno.scenarios.base import Scenario, make_scenario
from mno.scenarios.check import failed_checks, solved_sample

THIN = {"viscosity_low": 1e-4, "viscosity_high": 1e-4}  # not held by 24 points
SHORT = {"duration": 2.0, "frames": 4}
SEVEN = {"frames": 7}
# Resolutions, number of seeds, and parameters.
SOLVED: dict[str, tuple[list[int], int, list[dict[str, Any]]]] = {
    "burgers": (
        [8, 15, 64],
        2,
        [
            {},
            {"viscosity_low": 1e-3, "viscosity_high": 1e-3, "frames": 3, "duration": 0.1},
            {"viscosity_low": 1e-1, "viscosity_high": 1e-1, "frames": 41, "duration": 10.0},
            {"sampling": "sines", "highest_wave": 3, "frames": 11, "viscosity_low": 5e-3},
            {"duration": 1e-2, "frames": 1001},
        ],
    ),
    "darcy": (
        [8, 12, 32, 36, 100, 256],
        3,
        [
            {},
            {"low_permeability": 1e-6, "high_permeability": 1e6},
            {"inverse_length": 50.0, "covariance_exponent": 1.01},
            {"sampling": "pdebench", "low_permeability": 0.1, "high_permeability": 1.0},
            {"sampling": "pdebench", "low_permeability": 1e-6, "high_permeability": 1e6},
            {"sampling": "lognormal"},
            {
                "sampling": "lognormal", "low_permeability": 1e4, "high_permeability": 1e6,
                "inverse_length": 50.0, "covariance_exponent": 1.01,
            },
            {"inlet_pressure": 0.0},
            {"inlet_pressure": 1.0},
            {"inlet_pressure": 1e3, "low_permeability": 1e3, "high_permeability": 1e6},
            {"inlet_pressure": 1e-3, "low_permeability": 1e-6, "high_permeability": 1e-3},
            {
                "sampling": "lognormal", "inlet_pressure": 10.0,
                "low_permeability": 0.1, "high_permeability": 10.0,
            },
        ],
    ),
    "darcy_ring": (
        [8, 16, 30],
        3,
        [
            {},
            {"waviness": 0.0, "contrast": 0.0},
            {"contrast": 3.0, "inverse_length": 20.0, "covariance_exponent": 1.01},
            {"smallest_hole": 0.05, "largest_hole": 0.05},
            {"smallest_hole": 0.75, "largest_hole": 0.75, "waviness": 0.0},
            {"waviness": 0.3, "smallest_hole": 0.1, "largest_hole": 0.15},
        ],
    ),
    "diffusion_reaction": (
        [8, 15, 32],
        3,
        [
            {},
            {"sampling": "pdebench"},
            {"sampling": "pdebench", "frames": 2},
            {"frames": 60, "offset": 1.0, "activator_diffusivity": 0.0},
            {
                "inhibitor_diffusivity": 0.1, "activator_diffusivity": 0.1,
                "frames": 3, "duration": 1.0,
            },
            {"inverse_length": 50.0, "covariance_exponent": 1.01, "offset": -1.0},
        ],
    ),
    "furnace": (
        [20, 36],
        3,
        [
            {},
            {"frames": 2, "steps_per_frame": 1},
            {"duration": 600.0, "frames": 5},
            {"duration": 1e7, "frames": 5},
            {"thinnest_wall": 0.6, "thickest_wall": 0.6, "most_pieces": 6, "frames": 5},
            {
                "lowest_lining_conductivity": 0.02, "highest_lining_conductivity": 0.02,
                "heat_transfer_coefficient": 0.1, "gas_conductivity": 1000.0, **SEVEN,
            },
            {
                "lowest_lining_conductivity": 20.0, "highest_lining_conductivity": 20.0,
                "heat_transfer_coefficient": 1000.0, "gas_conductivity": 1.0, **SEVEN,
            },
            {
                "side": 20.0, "thinnest_wall": 3.0, "thickest_wall": 5.0, "duration": 600.0,
                **SEVEN,
            },
            {"side": 0.2, "thinnest_wall": 0.04, "thickest_wall": 0.06, **SEVEN},
            {"coolest_peak": 500.0, "hottest_peak": 500.0, "warm_share": 1.0, **SEVEN},
            {"coolest_peak": 2500.0, "hottest_peak": 2500.0, **SEVEN},
        ],
    ),
    "furnace_ring": (
        [16, 30],
        2,
        [
            {},
            {"frames": 2, "steps_per_frame": 1},
            {"duration": 60.0, "frames": 5, "warm_share": 1.0, "variation": 1.0},
            {"duration": 1e7, "frames": 5, "steps_per_frame": 1},
            {
                "crucible_transfer_coefficient": 0.0, "shell_transfer_coefficient": 0.1,
                "duration": 1e6,
            },
            {
                "crucible_transfer_coefficient": 1000.0, "shell_transfer_coefficient": 1000.0,
                **SEVEN,
            },
            {
                "wear": 0.3, "smallest_crucible": 0.05, "largest_crucible": 0.05,
                "shell_waviness": 0.1, "variation": 1.0, "element_width": 0.05, **SEVEN,
            },
            {"transition": 1.0, "element_width": 1.0, **SEVEN},
            {
                "radius": 10.0, "smallest_crucible": 4.0, "largest_crucible": 5.0,
                "element_width": 0.7, **SEVEN,
            },
            {
                "radius": 0.05, "smallest_crucible": 0.02, "largest_crucible": 0.025,
                "element_width": 0.005, **SEVEN,
            },
            {"coolest_peak": 500.0, "hottest_peak": 500.0, "warm_share": 1.0, **SEVEN},
            {"coolest_peak": 2500.0, "hottest_peak": 2500.0, **SEVEN},
        ],
    ),
    "navier_stokes": (
        [8, 15, 32],
        2,
        [
            SHORT,
            {"frames": 2, "duration": 12.0, "forcing": 0.5, "viscosity_high": 1e-2},
            {"frames": 41, "duration": 0.1, "vorticity_scale": 10.0},
            {**SHORT, **THIN, "frames": 3},
            {
                "forcing": 0.0, "viscosity_low": 1e-2, "viscosity_high": 1e-2, "duration": 50.0,
                "frames": 4,
            },
        ],
    ),
    "shallow_water": (
        [9, 15, 32],
        3,
        [
            {},
            {"sampling": "pdebench"},
            {"sampling": "pdebench", "frames": 101},
            {"dams": 20, "spread": 2.5, "max_radius": 2.5, "frames": 2},
            {"outer_depth": 0.01, "dam_depth": 0.1, "duration": 10.0, "gravity": 10.0},
            {"outer_depth": 1.0, "dam_depth": 10.0, "dams": 20, "spread": 1.0},
            {"dam_depth": 1.0001, "frames": 41, "spread": 0.0},
            {"gravity": 0.01, "duration": 1e-3, "frames": 1001},
        ],
    ),
}  # fmt: skip
ALSO = {
    "darcy_ring": lambda _, __, solved: solved["pressure"].min() == 0.0,
    "furnace": lambda scenario, given, _: scenario.balance(given).error < 1e-7,
    "furnace_ring": lambda scenario, given, _: scenario.balance(given).error < 1e-12,
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


FURNACE, RING = ("furnace", 20, {"frames": 5}), ("furnace_ring", 16, {"frames": 5})
REACTION, FLOW = ("diffusion_reaction", 16, {}), ("navier_stokes", 32, SHORT)
WATER, CALM = ("shallow_water", 24, {}), ("shallow_water", 24, {"spread": 0.0})
BURGERS = ("burgers", 32, SEVEN)
# Scenario, field, place and what is added; what must fail, and whether nothing else may.
WRONG = [
    (BURGERS, "given velocity", (3,), 1e-6, "initial", False),
    *((BURGERS, "velocity", (frame, 5), 1e-5, "exact", True) for frame in (1, 3, 6)),
    (("darcy", 32, {}), "pressure", (10, 20), "1e-5 of it", "residual", True),
    (("darcy_ring", 16, {}), "pressure", (-1,), 1e-6, "wall", False),
    (REACTION, "given activator", (3, 4), 1e-6, "initial", True),
    *((REACTION, "inhibitor", (k, 3, 4), 1e-4, "defect", False) for k in (0, 1, 10, 11, 20)),
    (FLOW, "given vorticity", (3, 4), 1e-6, "initial", True),
    *((FLOW, "vorticity", (frame, 3, 4), 1e-4, "defect", False) for frame in range(4)),
    (WATER, "given depth", (3, 4), 1e-6, "initial", True),
    *((WATER, "depth", (frame, 12, 13), 1e-5, "defect", False) for frame in (0, 1)),
    *((CALM, "depth", (frame, 12, 13), 1e-3, "mass", False) for frame in (1, 2, 3)),
    *((FURNACE, "temperature", (frame, 10, 7), 0.01, "defect", False) for frame in range(1, 5)),
    *((RING, "temperature", (frame, 100), 0.01, "defect", False) for frame in range(1, 5)),
    (FURNACE, "temperature", (0, 10, 7), 0.01, "initial", False),
    (RING, "temperature", (0, 100), 0.01, "initial", False),
]


@pytest.mark.parametrize(("case", "field", "at", "change", "check", "alone"), WRONG, ids=str)
def test_checks_catch_one_wrong_number(case, field, at, change, check, alone):
    scenario = make_scenario(*case)
    given, solved = solved_sample(scenario)
    field, arrays = field.removeprefix("given "), given if "given" in field else solved
    arrays[field][at] += 1e-5 * arrays[field][at] if isinstance(change, str) else change
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
    *((WATER, o, "defect", False) for o in ({"gravity": 1.001}, {"duration": 1.001})),
    (WATER, {"duration": 0.999}, "defect", False),
    *(
        (FURNACE, other, "defect", False)
        for other in (
            {"heat_transfer_coefficient": 10.1}, {"duration": 43300.0}, {"steps_per_frame": 5},
        )
    ),
    *(
        (RING, other, "defect", False)
        for other in (
            {"shell_transfer_coefficient": 10.1}, {"crucible_transfer_coefficient": 2.1},
            {"duration": 86500.0}, {"steps_per_frame": 5},
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
@pytest.mark.parametrize(("case", "checks"), [(FURNACE, {"defect", "energy"}), (RING, {"defect"})])
def test_checks_of_furnaces_catch_slightly_other_inputs(case, checks, field):
    scenario = make_scenario(*case)
    given, solved = solved_sample(scenario, seed=1)
    other = {**given, field: (given[field] * 1.001).astype(np.float32)}
    assert checks <= failed_checks(scenario, other, solved)


@pytest.mark.parametrize("case", [FURNACE, RING])
def test_checks_of_furnaces_catch_what_another_one_does(case):
    scenario = make_scenario(*case)
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
    *((WATER, "depth", (15, 3, 4), value, ("range",), True) for value in (-1e-3, 30.0, -1e30)),
    *((FURNACE, "temperature", (2, 3, 4), kelvin, ("range",), False) for kelvin in (280.0, 5000.0)),
    *((RING, "temperature", (2, 34), kelvin, ("range",), False) for kelvin in (280.0, 2600.0)),
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
