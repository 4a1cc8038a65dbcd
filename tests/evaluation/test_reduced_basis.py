"""A reduced basis: of the equation that is solved, exact for what it knows, absent elsewhere."""

import sys

import numpy as np
import pytest
from scipy.linalg import expm
from small_lines import solved_split

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig
from mno.evaluation.reduced_basis import fit_reduced_basis
from mno.evaluation.simple_peers import Peer
from mno.evaluation.tools import measure_tools
from mno.evaluation.trial import errors_of
from mno.scenarios.base import make_scenario
from mno.scenarios.check import solved_sample
from tests.support.untrained import untrained

SMALL = {
    "darcy": (16, {}),
    "darcy_ring": (16, {}),
    "furnace": (16, {"frames": 5}),
    "furnace_ring": (16, {"frames": 5}),
}


def described(split, history=1):
    return untrained(split.schema, split.fields, history).description


def absent(split):
    found = fit_reduced_basis(split, described(split))
    assert isinstance(found, Absent)
    return found.code


@pytest.mark.parametrize("name", ["darcy", "darcy_ring"])
def test_the_steady_equation_that_is_told_is_the_one_that_is_solved(name):
    scenario = make_scenario(name, *SMALL[name])
    given, solved = solved_sample(scenario)
    system, pressure = scenario.linear_system(given), solved["pressure"].ravel()
    left = system.stiffness @ pressure - system.source
    inside = pressure != 0.0  # where points lie on the wall, that is what is known of them
    assert inside.sum() > 0.8 * len(inside)
    assert np.abs(left[inside]).max() < 1e-4 * system.source.max()
    assert abs(system.stiffness - system.stiffness.T).max() < 1e-12 * abs(system.stiffness).max()


@pytest.mark.parametrize("name", ["furnace", "furnace_ring"])
def test_the_equation_in_time_that_is_told_is_the_one_that_is_solved(name):
    scenario = make_scenario(name, *SMALL[name])
    given, solved = solved_sample(scenario)
    system = scenario.linear_system(given)
    rise = solved["temperature"].reshape(5, -1) - system.level
    points = rise.shape[1]
    step = scenario.axes[0].points[1]
    for frame in range(4):
        rates = np.zeros((points + 1, points + 1))  # of the rise, and of a one
        rates[:-1, :-1] = -system.stiffness.toarray() / system.mass[:, None]
        rates[:-1, -1] = system.source[frame] / system.mass
        later = (expm(step * rates) @ np.append(rise[frame], 1.0))[:-1]
        difference = np.abs(later - rise[frame + 1]).max()
        assert difference < 1e-3 * np.abs(rise).max(), frame


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_solutions_that_it_was_made_of_are_found_again(name, history):
    resolution, parameters = SMALL[name]
    split = solved_split("train", name, 10, 0, resolution, **parameters)
    description = described(split, history if "frames" in parameters else 1)
    peer = fit_reduced_basis(split, description)
    assert isinstance(peer, Peer) and peer.samples == 10
    assert 9 <= peer.settings["modes"] <= 50
    given, truth = description.given(split.fields), description.truth(split.fields)
    assert errors_of(peer.predict(given), truth).max() < 2e-3


@pytest.mark.parametrize("name", ["darcy", "furnace"])
def test_new_problems_are_solved_far_better_than_by_ridge_regression(name):
    resolution, parameters = SMALL[name]
    splits = [
        solved_split(kind, name, count, seed, resolution, **parameters)
        for seed, (kind, count) in enumerate({"train": 60, "validation": 8, "test": 8}.items())
    ]
    description = described(splits[0])
    found = measure_tools(["ridge", "reduced_basis"], *splits, description, IntervalConfig())
    ridge, reduced = (tool["error"] for tool in found)
    assert reduced < 0.05 and reduced < 0.5 * ridge


@pytest.mark.parametrize(
    ("name", "resolution", "parameters"),
    [
        ("burgers", 24, {"frames": 5, "duration": 0.2}),
        ("furnace", 48, {"frames": 3, "thermal_stress": True}),
        ("darcy", 16, {"inlet_pressure": 1.0}),
    ],
)
def test_there_is_none_of_what_is_not_linear_in_one_field(name, resolution, parameters):
    assert absent(solved_split("train", name, 2, 0, resolution, **parameters)) == "peers.not_linear"


def test_without_pymor_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymor.algorithms.pod", None)
    split = solved_split("train", "darcy", 4, 0, 16)
    assert absent(split) == "peers.no_pymor"
    found = measure_tools(
        ["mean", "reduced_basis"], split, split, split, described(split), IntervalConfig()
    )
    assert [tool["name"] for tool in found] == ["mean", "reduced_basis"]
    assert "pip install 'mno[pymor]'" in str(found[1]["why"]) and "error" not in found[1]
