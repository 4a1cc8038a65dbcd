"""A reduced basis: of the equation that is solved, exact for what it knows, absent elsewhere."""

import sys

import pytest
from small_lines import solved_split

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig
from mno.evaluation.simple_peers import Peer
from mno.evaluation.tools import fit_reduced_basis, measure_tools
from mno.evaluation.trial import errors_of
from tests.support.untrained import untrained

SMALL = {
    "darcy": (16, {}),
    "darcy_ring": (16, {}),
    "furnace": (16, {"frames": 5}),
}


def described(split, history=1):
    return untrained(split.schema, split.fields, history).description


def absent(split):
    found = fit_reduced_basis(split, described(split))
    assert isinstance(found, Absent)
    return found.code


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
