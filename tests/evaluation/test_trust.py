"""Trust in single predictions: bounds that hold, flags, and a defined answer wherever it fails."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from trusted import darcy_model, darcy_splits, imported, reactions, rings, trust_of

from mno.core.errors import InputError
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.answers import Answers, fallback_to
from mno.surrogate.trust.trust import Trust
from tests.support.untrained import broken


@pytest.fixture(scope="module")
def darcy(tmp_path_factory) -> tuple[Surrogate, Trust]:
    surrogate = darcy_model(tmp_path_factory.mktemp("work"))
    return surrogate, trust_of(surrogate, darcy_splits())


def test_bounds_of_a_trained_model_hold_on_the_test_split(darcy):
    _, trust = darcy
    assert trust.measured is not None
    for (rate,) in trust.measured.coverage["pressure"].values():
        assert rate is not None and rate.expected is not None
        assert rate.samples == 200
        assert rate.expected[0] <= rate.count / rate.samples <= rate.expected[1]


def test_alarms_are_rare_on_the_test_split_and_sure_outside(darcy):
    _, trust = darcy
    assert trust.measured is not None
    assert trust.likeness.false_alarm_rate == pytest.approx(0.01)
    assert trust.measured.false_alarms.count <= 10
    for kind in ("noise", "scaled", "constant", "dead"):
        assert trust.measured.outside[kind].rate == 1.0, kind


def test_it_is_the_same_again_in_any_batches_and_comes_back_from_json(darcy, tmp_path):
    surrogate, trust = darcy
    assert trust_of(surrogate, darcy_splits()).to_json() == trust.to_json()
    text = json.dumps(trust.to_json(), allow_nan=False)
    (tmp_path / "trust.json").write_text(text)
    assert Trust.read(tmp_path / "trust.json") == trust
    (tmp_path / "trust.json").write_text(text.replace('"level"', '"levels"'))
    with pytest.raises(InputError, match="make a new one with: mno evaluate"):
        Trust.read(tmp_path / "trust.json")


def test_the_test_split_changes_no_bound_and_no_threshold(darcy):
    surrogate, trust = darcy
    train, validation, test = darcy_splits()
    worse = replace(test, fields={n: 2 * f for n, f in test.fields.items()})
    again = trust_of(surrogate, [train, validation, worse])
    assert (again.bounds, again.likeness) == (trust.bounds, trust.likeness)
    assert again.measured != trust.measured


def test_bounds_are_wider_where_the_equation_is_violated_more(darcy):
    surrogate, trust = darcy
    given = {"permeability": darcy_splits()[2].fields["permeability"][:1]}
    predicted = surrogate.predict(given)
    rough = predicted["pressure"] + 0.01 * np.random.default_rng(0).random((1, 8, 8))
    bounds = [
        trust.assess(surrogate.description, given, {"pressure": field})
        for field in (predicted["pressure"], rough.astype(np.float32))
    ]
    assert not isinstance(bounds[0].residual, str) and not isinstance(bounds[1].residual, str)
    assert bounds[1].residual > 2 * bounds[0].residual
    smooth, jagged = (found.bounds["pressure"]["max_error"][0, 0] for found in bounds)
    assert jagged > smooth


def test_a_model_that_predicts_no_numbers_has_no_bounds_and_no_crash(darcy):
    model = broken(darcy[0])
    trust = trust_of(model, darcy_splits())
    json.dumps(trust.to_json(), allow_nan=False)
    assert trust.bounds["pressure"]["rmse"].values == (None,)
    assert trust.measured is not None
    assert trust.measured.coverage["pressure"]["rmse"] == (None,)
    given = {"permeability": darcy_splits()[2].fields["permeability"][:3]}
    found = trust.assess(model.description, given, model.predict(given))
    assert np.isinf(found.relative_bound).all()


def test_a_single_validation_sample_gives_no_bound_but_says_so(darcy):
    surrogate, _ = darcy
    train, validation, test = darcy_splits()
    one = replace(
        validation,
        fields={n: f[:1] for n, f in validation.fields.items()},
        indices=validation.indices[:1],
    )
    trust = trust_of(surrogate, [train, one, test])
    assert trust.bounds["pressure"]["relative_l2"].values == (None,)
    assert trust.likeness.false_alarm_rate == 0.5
    answers = Answers(trust, surrogate.description)
    given = {"permeability": test.fields["permeability"][:4]}
    answers.complete(given, surrogate.predict(given))
    assert any("too small" in note for note in answers.summary()["notes"])


def test_constant_inputs_are_like_each_other_and_unlike_any_other():
    surrogate, splits = imported(gaps=False)
    same = [replace(s, fields={**s.fields, "load": np.ones_like(s.fields["load"])}) for s in splits]
    trust = trust_of(surrogate, same)
    assert trust.measured is not None
    assert trust.measured.outside["scaled"].rate == 1.0
    assert trust.measured.false_alarms.count < len(same[2])


def test_states_have_a_bound_for_each_frame_and_none_beyond():
    surrogate, splits = reactions()
    trust = trust_of(surrogate, splits)
    assert trust.steps == 3
    for name in ("activator", "inhibitor"):
        assert len(trust.bounds[name]["rmse"].values) == 3
        assert len(trust.bounds[name]["relative_l2"].values) == 1
    given = {n: splits[2].fields[n][:2, :1] for n in ("activator", "inhibitor")}
    found = trust.assess(surrogate.description, given, surrogate.predict(given, steps=5))
    assert np.isfinite(found.bounds["activator"]["rmse"][:, :3]).all()
    assert np.isinf(found.bounds["activator"]["rmse"][:, 3:]).all()
    assert np.isinf(found.relative_bound).all()  # of five frames nothing was calibrated
    assert not isinstance(found.residual, str)


def test_imported_data_with_gaps_are_bounded_where_the_truth_is_known():
    surrogate, splits = imported()
    trust = trust_of(surrogate, splits)
    json.dumps(trust.to_json(), allow_nan=False)
    assert trust.bounds["temperature"]["rmse"].calibrated_on == 19  # one has no truth at all
    assert trust.no_residual == "no equation residual for imported data (plant)"
    assert "load missing share" in trust.likeness.names
    assert "speed value" in trust.likeness.names
    with pytest.raises(InputError, match="no solver for imported data"):
        fallback_to(trust, surrogate.description, (6, 6), None)


def test_unordered_points_have_bounds_and_flags():
    surrogate, splits = rings()
    trust = trust_of(surrogate, splits)
    assert trust.no_residual == "no equation residual: none is written for darcy_ring"
    assert trust.measured is not None
    assert trust.measured.outside["constant"].rate == 1.0
    assert fallback_to(trust, surrogate.description, trust.shape, None)


def spoilt_inputs() -> dict[str, np.ndarray]:
    permeability = darcy_splits()[2].fields["permeability"][:6].copy()
    permeability[1] *= 4.0
    permeability[4] = -1.0  # no solver can solve that
    return {"permeability": permeability}


def test_the_solver_answers_flagged_inputs_and_says_so(darcy):
    surrogate, trust = darcy
    given = spoilt_inputs()
    fallback = fallback_to(trust, surrogate.description, (8, 8), None)
    answers = Answers(trust, surrogate.description, fallback)
    predicted = surrogate.predict(given)
    fields, beside = answers.complete(given, predicted)
    assert beside["answered_by"].tolist() == [0, 1, 0, 0, 0, 0]
    assert beside["unlike_training"].tolist() == [0, 1, 0, 0, 1, 0]
    exact = make_scenario("darcy", 8, {}).solve({"permeability": given["permeability"][1]})
    np.testing.assert_allclose(fields["pressure"][1], exact["pressure"], rtol=2e-6, atol=1e-9)
    assert np.array_equal(fields["pressure"][4], predicted["pressure"][4])
    assert np.isnan(beside["pressure_rmse_bound"][1])
    assert beside["equation_residual"][1] < 1e-4 < beside["equation_residual"][0]
    summary = answers.summary()
    assert summary["solved"] == 1
    assert sum(summary["not_solved"].values()) == 1
    assert "positive numbers" in next(iter(summary["not_solved"]))
    assert summary["iterations"] <= summary["iterations_from_zero"]


def test_the_solver_also_answers_where_the_bound_is_too_large(darcy):
    surrogate, trust = darcy
    given = {"permeability": darcy_splits()[2].fields["permeability"][:6]}
    fallback = fallback_to(trust, surrogate.description, (8, 8), None, above=1e-6)
    _, beside = Answers(trust, surrogate.description, fallback).complete(
        given, surrogate.predict(given)
    )
    assert beside["answered_by"].all()


def test_the_solver_continues_states_for_no_more_frames_than_it_has():
    surrogate, splits = reactions()
    trust = trust_of(surrogate, splits)
    description = surrogate.description
    fallback = fallback_to(trust, description, (8, 8), 2)
    given = {n: splits[2].fields[n][0, :1] for n in ("activator", "inhibitor")}
    answer = fallback.answer(given, {n: np.zeros((2, 8, 8), np.float32) for n in given})
    assert answer is not None
    for name, values in answer.items():
        np.testing.assert_array_equal(values, splits[2].fields[name][0, 1:3])
    with pytest.raises(InputError, match="gives 3 frames after the first 1"):
        fallback_to(trust, description, (8, 8), 4)


def test_the_solver_works_on_the_grid_of_the_inputs(darcy):
    surrogate, trust = darcy
    assert fallback_to(trust, surrogate.description, (12, 12), None)
    with pytest.raises(InputError, match="cannot solve|works on"):
        fallback_to(trust, surrogate.description, (8, 12), None)


def test_a_warm_start_ends_where_a_cold_one_does():
    scenario = make_scenario("darcy", 32, {})
    drawn = scenario.sample(np.random.default_rng(3))
    cold, from_zero = scenario.solve_from(drawn, None)
    near = {"pressure": cold["pressure"] * 1.7}  # of the right form, of another size
    warm, iterations = scenario.solve_from(drawn, near)
    assert iterations < from_zero / 2
    scale = np.abs(cold["pressure"]).max()
    np.testing.assert_allclose(warm["pressure"], cold["pressure"], rtol=0, atol=1e-6 * scale)
    for guess in (0.0, math.nan):
        start = {"pressure": np.full((32, 32), guess, np.float32)}
        again, _ = scenario.solve_from(drawn, start)
        np.testing.assert_allclose(again["pressure"], cold["pressure"], atol=1e-6 * scale)
    with pytest.raises(InputError, match="guess of the pressure has shape"):
        scenario.solve_from(drawn, {"pressure": np.zeros((8, 8), np.float32)})


def test_problems_with_other_parameters_are_tried_too(darcy):
    _, trust = darcy
    assert trust.measured is not None
    changes = make_scenario("darcy", 8, {}).outside()
    assert set(changes) and set(changes) <= set(trust.measured.outside)
    for label in changes:
        assert trust.measured.outside[label].samples == 40
