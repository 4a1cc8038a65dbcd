"""Parameters, resolutions and inputs that cannot be solved are refused, with a remedy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.scenarios.base import make_scenario

NAN, INF = float("nan"), float("inf")

PARAMETERS = {
    "burgers": [
        ({"viscosity_low": 1e-4}, ".viscosity_low=0.0001"),
        ({"viscosity_high": 1.0}, ".viscosity_high=1.0"),
        ({"viscosity_low": 5e-2}, "viscosity_low=0.05 must be at most viscosity_high=0.02; swap"),
        ({"duration": 0.0}, ".duration=0.0"),
        ({"duration": NAN}, ".duration=nan"),
        ({"frames": 1}, ".frames=1"),
        ({"sampling": "pdebench"}, ".sampling='pdebench'"),
        ({"num_sines": 0}, ".num_sines=0"),
        ({"sampling": "sines", "highest_wave": 16}, "highest_wave=16 needs .*resolution=33"),
    ],
    "darcy": [
        ({"sampling": "gauss"}, ".sampling='gauss'"),
        (
            {"sampling": "lognormal", "high_permeability": 303.0},
            "high_permeability=303.0 is 101 times low_permeability=3.0; with sampling=lognormal",
        ),
        (
            {"inlet_pressure": 1.0, "high_permeability": 3003.0},
            "high_permeability=3003.0 is 1001 times low_permeability=3.0; with an inlet_pressure",
        ),
        ({"inlet_pressure": -1.0}, ".inlet_pressure=-1.0"),
        ({"inlet_pressure": NAN}, ".inlet_pressure=nan"),
        ({"low_permeability": 0.0}, ".low_permeability=0.0"),
        ({"low_permeability": -3.0}, ".low_permeability=-3.0"),
        ({"high_permeability": NAN}, ".high_permeability=nan"),
        ({"high_permeability": INF}, ".high_permeability=inf"),
        ({"high_permeability": "12"}, ".high_permeability='12'"),
        ({"low_permeability": 12.0}, "low_permeability=12.0 must be less than"),
        ({"low_permeability": 5.0, "high_permeability": 4.0}, "swap the two"),
        ({"covariance_exponent": 1.0}, ".covariance_exponent=1.0"),
        ({"covariance_exponent": NAN}, ".covariance_exponent=nan"),
        ({"inverse_length": 0.0}, ".inverse_length=0.0"),
    ],
    "darcy_ring": [
        ({"smallest_hole": 0.5}, "must be at most largest_hole"),
        ({"waviness": 0.3}, "leave .* between hole and wall"),
        ({"contrast": 4.0}, ".contrast=4.0"),
    ],
    "diffusion_reaction": [
        ({"activator_diffusivity": -1e-3}, ".activator_diffusivity=-0.001"),
        ({"inhibitor_diffusivity": 1.0}, ".inhibitor_diffusivity=1.0"),
        ({"offset": NAN}, ".offset=nan"),
        ({"duration": 0.0}, ".duration=0.0"),
        ({"frames": 1}, ".frames=1"),
        ({"frames": 2.5}, ".frames=2.5"),
        ({"sampling": "grf"}, ".sampling='grf'"),
        ({"covariance_exponent": 1.0}, ".covariance_exponent=1.0"),
        ({"inverse_length": 0.0}, ".inverse_length=0.0"),
    ],
    "furnace": [
        ({"side": 0.0}, ".side=0.0"),
        ({"thinnest_wall": 0.4}, "thinnest_wall=0.4 must be at most thickest_wall=0.35; swap"),
        ({"thickest_wall": 0.7}, "thickest_wall=0.7 must be at most 0.3 of side=2.0; choose 0.6"),
        ({"side": 20.0, "thinnest_wall": 0.01}, "thinnest_wall=0.01 needs 4000 .* choose 0.0782"),
        ({"lowest_lining_conductivity": 2.0}, "must be at most highest_lining_conductivity=1.5"),
        ({"coolest_peak": 1700.0}, "coolest_peak=1700.0 must be at most hottest_peak=1650.0"),
        ({"hottest_peak": 3000.0}, ".hottest_peak=3000.0"),
        ({"gas_conductivity": NAN}, ".gas_conductivity=nan"),
        ({"most_pieces": 0}, ".most_pieces=0"),
        ({"warm_share": 1.5}, ".warm_share=1.5"),
        ({"heat_transfer_coefficient": 0.0}, ".heat_transfer_coefficient=0.0"),
        ({"duration": 0.0}, ".duration=0.0"),
        ({"frames": 1}, ".frames=1"),
        ({"steps_per_frame": 0}, ".steps_per_frame=0"),
        ({"poisson_ratio": 0.5}, ".poisson_ratio=0.5"),
        ({"youngs_modulus": 0.0}, ".youngs_modulus=0.0"),
        ({"thermal_expansion": -1e-5}, ".thermal_expansion=-1e-05"),
        ({"piece_ends": "loose"}, ".piece_ends='loose'"),
    ],
    "furnace_ring": [
        ({"smallest_crucible": 0.3}, "smallest_crucible=0.3 must be at most largest_crucible"),
        ({"coolest_peak": 1700.0}, "coolest_peak=1700.0 must be at most hottest_peak"),
        ({"largest_crucible": 0.4}, "leave .* m of lining where it is thinnest; expected 0.1 m"),
        ({"smallest_crucible": 0.01}, "must be at least 0.1 of radius=0.5; choose 0.05"),
        ({"element_width": 1e-4}, "element_width=0.0001 .* choose 0.0009 or more"),
        ({"frames": 1}, ".frames=1"),
        ({"variation": 2.0}, ".variation=2.0"),
    ],
    "navier_stokes": [
        ({"viscosity_low": 1e-6}, ".viscosity_low=1e-06"),
        ({"viscosity_high": 1.0}, ".viscosity_high=1.0"),
        ({"viscosity_low": 5e-3}, "viscosity_low=0.005 must be at most viscosity_high=0.001; swap"),
        ({"forcing": -0.1}, ".forcing=-0.1"),
        ({"vorticity_scale": 0.0}, ".vorticity_scale=0.0"),
        ({"duration": NAN}, ".duration=nan"),
        ({"frames": 1}, ".frames=1"),
    ],
    "shallow_water": [
        ({"sampling": "radial"}, ".sampling='radial'"),
        ({"dams": 0}, ".dams=0"),
        ({"outer_depth": 0.0}, ".outer_depth=0.0"),
        ({"dam_depth": NAN}, ".dam_depth=nan"),
        ({"dam_depth": 1.0}, "dam_depth=1.0 must be more than outer_depth=1.0 and at most 10"),
        ({"outer_depth": 0.1}, "dam_depth=2.0 must be more than outer_depth=0.1 and at most 10"),
        ({"min_radius": 0.0}, ".min_radius=0.0"),
        ({"min_radius": 0.8}, "min_radius=0.8 must be at most max_radius=0.7; swap"),
        ({"spread": 3.0}, ".spread=3.0"),
        ({"gravity": 0.0}, ".gravity=0.0"),
        ({"duration": 0.0}, ".duration=0.0"),
        ({"frames": 1}, ".frames=1"),
        ({"frames": 2.5}, ".frames=2.5"),
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
    assert f"scenarios.{name}{words}" in said if words[0] == "." else re.search(words, said)


@pytest.mark.parametrize(
    ("name", "parameters", "resolution", "remedy"),
    [
        *(("burgers", {}, n, "at least 8; choose more") for n in (7, 0, -4)),
        *(("diffusion_reaction", {}, n, "at least 8; choose more") for n in (7, 0, -4)),
        *(("navier_stokes", {}, n, "from 8 to 512; choose 8") for n in (7, 0, -4)),
        ("navier_stokes", {}, 513, "from 8 to 512; choose 512"),
        ("darcy", {}, 33, "a multiple of 4 and at least 8; choose 32 or 36"),
        ("darcy", {}, 30, "choose 28 or 32"),
        ("darcy", {}, 9, "choose 8 or 12"),
        *(("darcy", {}, n, "a multiple of 4 and at least 8; choose 8") for n in (7, 4, 0, -12)),
        ("darcy_ring", {}, 6, "even and at least 8; choose 8"),
        ("darcy_ring", {}, 9, "even and at least 8; choose 8 or 10"),
        ("furnace", {}, 33, "two cells in a wall of 0.25 m.*choose 32 or 36"),
        *(("furnace", {}, n, "from 16 .*to 512; choose 16") for n in (12, 0, -4)),
        *(("furnace", {}, n, "from 16 .*to 512; choose 512") for n in (514, 1024)),
        (
            "furnace",
            {"thermal_stress": True},
            24,
            "multiple of 4 from 48 .*a wall of 0.25 m, four in a piece of 0.173 m.*choose 48",
        ),
        ("furnace_ring", {}, 14, "even and from 16 .*choose 16"),
        ("furnace_ring", {}, 17, "even and from 16 .*choose 16 or 18"),
        *(("furnace_ring", {}, n, "even and from 16 .*choose 512") for n in (600, 513)),
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


SHAPES, VALUES = (
    [
        ("burgers", 16, "velocity", (8,), r"\(16,\)"),
        ("darcy", 16, "permeability", (12, 12), r"\(16, 16\)"),
        ("darcy_ring", 16, "y", (10,), r"\(256,\)"),
        ("diffusion_reaction", 16, "inhibitor", (8, 8), r"\(16, 16\)"),
        ("furnace", 20, "power", (2, 20, 20), r"\(25, 20, 20\)"),
        ("furnace", 20, "ambient_temperature", (1,), r"\(\)"),
        ("furnace_ring", 16, "power", (256,), r"\(25, 256\)"),
        ("furnace_ring", 16, "ambient_temperature", (3,), r"\(\)"),
        ("navier_stokes", 16, "vorticity", (8, 8), r"\(16, 16\)"),
        ("shallow_water", 16, "depth", (8, 8), r"\(16, 16\)"),
    ],
    [
        ("burgers", "viscosity", [NAN, 0.0, 1.0], "numbers from 0.001 to 0.1"),
        ("burgers", "velocity", [NAN, INF, -11.0], "numbers from -10 to 10"),
        ("darcy", "permeability", [0.0, -1.0, NAN], "positive numbers"),
        ("darcy_ring", "permeability", [0.0], "positive numbers"),
        ("diffusion_reaction", "activator", [NAN, INF, -30.0], "numbers from -20 to 20"),
        ("furnace", "conductivity", [0.0], "finite positive numbers"),
        ("furnace", "heat_capacity", [-1.0], "finite positive numbers"),
        ("furnace", "temperature", [NAN], "finite positive numbers"),
        ("furnace", "power", [INF], "finite numbers"),
        ("furnace_ring", "conductivity", [0.0], "finite positive numbers"),
        ("furnace_ring", "temperature", [NAN], "finite positive numbers"),
        ("navier_stokes", "viscosity", [NAN, 1e-4, 1.0], "numbers from 0.001 to 0.01"),
        ("navier_stokes", "vorticity", [NAN, INF, -70.0], "numbers from .* to"),
        ("shallow_water", "depth", [NAN, INF, 0.0, -1.0, 2e3], "positive numbers to 1000"),
    ],
)


@pytest.mark.parametrize(("name", "resolution", "field", "shape", "expected"), SHAPES)
def test_inputs_of_another_shape_are_refused(name, resolution, field, shape, expected):
    scenario = make_scenario(name, resolution, {})
    given = scenario.sample(np.random.default_rng(0))
    words = rf"{field} has shape {re.escape(str(shape))}; expected {expected}"
    with pytest.raises(InputError, match=words):
        scenario.solve({**given, field: np.ones(shape, np.float32)})


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


@pytest.mark.parametrize("name", ["darcy_ring", "furnace_ring"])
def test_points_that_are_no_ring_are_refused(name):
    scenario = make_scenario(name, 16, {})
    given = scenario.sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="x and y are not the points of a ring"):
        scenario.solve({**given, "x": np.zeros(256, np.float32)})
