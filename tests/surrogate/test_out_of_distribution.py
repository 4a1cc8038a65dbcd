"""Inputs unlike the training data are flagged, and those like it as rarely as stated."""

import json
import math

import numpy as np
import pytest
import torch

from mno.core.fields import Axis, Field
from mno.core.readings import Part
from mno.data.reading import Schema
from mno.scenarios.base import make_scenario
from mno.scenarios.part import part_of
from mno.surrogate.trust.features import Features, describe, smoother
from mno.surrogate.trust.out_of_distribution import (
    Box,
    Ellipse,
    OutOfDistribution,
    of_several_tests,
)
from tests.support.untrained import untrained

RATE = 0.01


def plain(table, names="abcdefgh"):
    columns = dict(zip(names, np.asarray(table, dtype=float).T, strict=False))
    return Features(columns, {}, {}, {})


def fit(train, validation, rate=RATE):
    return OutOfDistribution.fit(plain(train), plain(train), plain(validation), rate)


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((3, 3))
    train, validation, new = (rng.standard_normal((n, 3)) @ mix for n in (500, 399, 20000))
    likeness = fit(train, validation, 0.05)
    rate = likeness.unlike(likeness.distances(plain(new))).mean()
    assert (likeness.false_alarm_rate, likeness.calibrated_on) == (0.05, 899)
    assert rate == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 899))


def test_a_feature_that_never_varied_gives_a_far_input_away():
    train = np.stack([np.random.default_rng(0).random(50), np.full(50, 3.0)], axis=1)
    likeness = fit(train, train, 0.1)
    odd = plain([[0.5, 3.3], [np.nan, 3.0]])
    assert likeness.unlike(likeness.distances(odd)).all()
    assert likeness.names[likeness.most_unusual(odd)[0]] == "b"


@pytest.mark.parametrize(("kinds", "rare"), [((0.0, 1.0, 2.0), 3.0), ((1.5, 2.0, 2.5), 4.0)])
def test_one_rare_value_in_training_leaves_the_flag_on(kinds, rare):
    rng = np.random.default_rng(0)

    def features(count, shift=0.0, last=2.0):
        load, grade = rng.normal(shift, 1.0, count), rng.choice(kinds, count)
        grade[-1] = last
        plain = {"load": torch.from_numpy(load), "grade": torch.from_numpy(grade)}
        grades = {"grade": plain["grade"]}
        return Features(plain, grades, {}, {"grade": grades["grade"][:, None]})

    train = features(120, last=rare)
    likeness = OutOfDistribution.fit(train, train, features(15), RATE)
    assert likeness.unlike(likeness.distances(features(5, 1000.0))).all()
    assert likeness.unlike(likeness.distances(features(1, last=9.0))).all()
    assert likeness.unlike(likeness.distances(features(2000))).mean() < 0.05


def test_without_enough_samples_the_rate_is_what_they_can_give():
    few = np.random.default_rng(0).random((5, 1))
    assert fit(few, few[:1]).false_alarm_rate == 0.5
    nothing = fit(few, few[:0])
    assert not nothing.unlike(nothing.distances(plain([[9.0]]))).any()


def test_numbers_beyond_their_range_in_training_are_far_in_widths_of_it():
    box = Box.fit({"a": np.array([1.0, 3.0]), "b": np.array([2.0, 2.0])})
    found = {"a": np.array([2.0, 4.0, np.nan]), "b": np.array([2.0, 2.0, 2.0])}
    assert box.scores(Features(found, found, {}, {})).tolist() == [0.0, 0.5, math.inf]


class Drawn:
    """A scenario whose inputs are drawn, and the model that sees them; it needs no solving."""

    def __init__(self, name, resolution, part: Part = "fields", **parameters):
        self.name, self.resolution, self.parameters = name, resolution, parameters
        self.part: Part = part
        self.scenario = self._make()
        axes = [axis for axis in self.scenario.axes if axis.name != "time"]
        self.shape = tuple(len(axis.points) for axis in axes)
        schema = Schema(name, self.scenario.fields, self.scenario.axes)
        rows = self._rows(20, 9)
        values = {f.name: rows[f.name] for f in schema.fields if f.name in rows}
        readings = {"readings": self.scenario.layout.readings} if part == "readings" else {}
        fitted = {f.name: values.get(f.name, np.arange(20.0)) for f in schema.fields}
        kind = {"scheme": "horizon"} if part == "readings" else {}
        self.description = untrained(schema, fitted, **kind, **readings).description

    def _make(self, **changed):
        whole = make_scenario(self.name, self.resolution, {**self.parameters, **changed})
        return part_of(whole, self.part)

    def _rows(self, count, seed, **changed):
        scenario = self._make(**changed)
        rows = [scenario.sample(np.random.default_rng([seed, n])) for n in range(count)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def given(self, count, seed, **changed):
        rows = self._rows(count, seed, **changed)
        first = {name: rows[name][:, None] for name in self.description.states}
        return self.description.given(rows | first)

    def features(self, given, shape=None):
        return describe(self.description, given, shape or self.shape)

    def likeness(self, train, validation):
        given = self.given(train, 0)
        smooth = self.features(smoother(self.description, given, self.shape))
        held = self.features(self.given(validation, 1))
        return OutOfDistribution.fit(self.features(given), smooth, held, RATE)

    def flagged(self, likeness, given):
        return likeness.unlike(likeness.distances(self.features(given)))


@pytest.fixture(scope="module")
def darcy():
    drawn = Drawn("darcy", 24)
    return drawn, drawn.likeness(800, 200)


@pytest.fixture(scope="module")
def furnace():
    drawn = Drawn("batch_furnace", 8, "readings", plant="electric_annealing")
    return drawn, drawn.likeness(192, 24)


@pytest.mark.parametrize("which", ["darcy", "furnace"])
def test_nine_of_ten_inputs_from_outside_are_flagged_and_few_of_the_others(which, request):
    drawn, likeness = request.getfixturevalue(which)
    assert likeness.false_alarm_rate == RATE
    assert drawn.flagged(likeness, drawn.given(200, 2)).mean() <= 0.03
    changes = drawn.scenario.outside()
    assert len(changes) == 3
    for label, changed in changes.items():
        assert drawn.flagged(likeness, drawn.given(40, 3, **changed)).mean() >= 0.9, label


def test_what_is_strange_is_named(darcy, furnace):
    for (drawn, likeness), label, name in (
        (darcy, "finer permeability", "permeability steps over 1"),
        (darcy, "smoother permeability", "permeability smoothness"),
        (furnace, "another grade", "piece_grade unknown"),
    ):
        given = drawn.given(20, 3, **drawn.scenario.outside()[label])
        found = [likeness.names[k] for k in likeness.most_unusual(drawn.features(given))]
        assert max(set(found), key=found.count) == name


def test_the_same_functions_on_a_finer_grid_are_not_flagged(darcy):
    drawn, likeness = darcy
    finer = Drawn("darcy", 48).given(200, 2)
    assert drawn.flagged(likeness, finer).mean() <= 0.05


def test_finer_fields_at_unordered_points_are_flagged_and_a_finer_mesh_is_not():
    drawn = Drawn("darcy_ring", 16)
    likeness = drawn.likeness(300, 100)
    changed = drawn.scenario.outside()["finer permeability"]
    assert drawn.flagged(likeness, drawn.given(40, 3, **changed)).mean() >= 0.9
    assert drawn.flagged(likeness, Drawn("darcy_ring", 24).given(100, 2)).mean() <= 0.05


def test_a_grade_never_seen_is_flagged_at_once_and_a_missing_piece_is_not(furnace):
    drawn, likeness = furnace
    given = drawn.given(40, 2)
    usual = ~drawn.flagged(likeness, given)
    assert np.isnan(given["piece_grade"]).any()
    first = drawn.description.readings["piece_grade"][1]
    between = given["piece_grade"].copy()
    between[:, first] = 2.0  # between the numbers of the two grades that there were
    grades = np.unique(given["piece_grade"][~np.isnan(given["piece_grade"])])
    assert len(grades) == 2 and 2.0 not in grades and usual.any()
    distance = likeness.distances(drawn.features(given | {"piece_grade": between}))
    assert np.isinf(distance).all()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_holes_and_any_number_of_axes_have_finite_features(dims):
    axes = tuple(Axis(n, "m", n, (np.arange(9) + 0.5) / 9, (0.0, 1.0)) for n in "xyz"[:dims])
    names = tuple("xyz"[:dims])
    schema = Schema(
        "plant",
        (
            Field("load", "W", "load", "input", names, gaps=True),
            Field("heat", "K", "heat", "output", names),
        ),
        axes,
    )
    load = np.random.default_rng(0).random((30, *(9,) * dims)).astype(np.float32)
    load[load < 0.1] = np.nan
    load[0] = np.nan
    description = untrained(schema, {"load": load, "heat": np.nan_to_num(load)}).description
    given = {"load": load}
    copies = smoother(description, given, (9,) * dims)
    assert np.array_equal(np.isnan(copies["load"]), np.isnan(load))
    features, smooth = (describe(description, g, (9,) * dims) for g in (given, copies))
    likeness = OutOfDistribution.fit(features, smooth, features, RATE)
    assert np.isfinite(likeness.distances(features)).all()


def test_a_file_with_but_one_test_is_read_as_it_was():
    train = np.random.default_rng(0).random((50, 2))
    ellipse = Ellipse.fit(plain(train).plain)
    distances = np.sort(ellipse.scores(plain(train)))
    old = {k: v for k, v in ellipse.model_dump(mode="json").items() if k != "kind"}
    old |= {"threshold": float(distances[-3]), "false_alarm_rate": 0.04, "calibrated_on": 50}
    read = OutOfDistribution.model_validate_json(json.dumps(of_several_tests(old)))
    assert read.tests == (ellipse,)
    assert read.unlike(read.distances(plain(train))).sum() == 2
