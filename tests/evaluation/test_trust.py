"""Trust in single predictions: bounds that hold, flags, and a defined answer wherever it fails."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from small_lines import darcy_model, darcy_splits, imported, reactions, rings, trust_of
from typer.testing import CliRunner

from flows.cli import app
from mno.core.errors import InputError
from mno.core.files import write_json
from mno.evaluation.trust import bound_by_run
from mno.lineage.record import candidate_digest
from mno.scenarios.base import make_scenario
from mno.serving.problem import Problem, draw
from mno.surrogate.trust.answers import Answers, Fallback
from mno.surrogate.trust.trust import Trust
from tests.support import furnace_runs
from tests.support.untrained import broken


@pytest.fixture(scope="module")
def darcy(tmp_path_factory):
    surrogate = darcy_model(tmp_path_factory.mktemp("work"))
    return surrogate, trust_of(surrogate, darcy_splits())


def test_bounds_of_a_trained_model_hold_on_the_test_split(darcy):
    _, trust = darcy
    for (rate,) in trust.measured.coverage["pressure"].values():
        assert rate is not None and rate.expected is not None
        assert rate.samples == 200
        assert rate.expected[0] <= rate.count / rate.samples <= rate.expected[1]


def test_alarms_are_rare_on_the_test_split_and_sure_outside(darcy):
    measured, changes = darcy[1].measured, make_scenario("darcy", 8, {}).outside()
    assert darcy[1].likeness.false_alarm_rate == pytest.approx(0.01)
    assert measured.false_alarms.count <= 10
    for kind in ("noise", "scaled", "constant", "dead"):
        assert measured.outside[kind].rate == 1.0, kind
    assert changes and {measured.outside[label].samples for label in changes} == {40}


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


def test_it_is_measured_on_samples_solved_anew_where_these_are_asked_for(darcy):
    surrogate, trust = darcy
    again = trust_of(surrogate, darcy_splits(), draws=40)
    assert (again.bounds, again.likeness) == (trust.bounds, trust.likeness)
    (rate,) = again.measured.coverage["pressure"]["rmse"]
    assert (trust.measured.split, again.measured.split) == ("test", "solved")
    assert rate.samples == again.measured.false_alarms.samples == 40
    surrogate, splits = imported()
    assert trust_of(surrogate, splits, draws=40).measured.split == "test"  # nothing solves them


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
    assert trust.measured.coverage["pressure"]["rmse"] == (None,)
    given = {"permeability": darcy_splits()[2].fields["permeability"][:3]}
    found = trust.assess(model.description, given, model.predict(given))
    assert np.isinf(found.relative_bound).all()


def test_a_single_validation_sample_gives_no_bound_but_says_so(darcy):
    surrogate, _ = darcy
    train, validation, test = darcy_splits()
    trust = trust_of(surrogate, [train, validation.take(np.array([0])), test])
    assert trust.bounds["pressure"]["relative_l2"].values == (None,)
    assert trust.likeness.false_alarm_rate == 0.01  # training samples tell it, too
    answers = Answers(trust, surrogate.description)
    given = {"permeability": test.fields["permeability"][:4]}
    answers.complete(given, surrogate.predict(given))
    assert any("too small" in note for note in answers.summary()["notes"])


def test_constant_inputs_are_like_each_other_and_unlike_any_other():
    surrogate, splits = imported(gaps=False)
    same = [replace(s, fields={**s.fields, "load": np.ones_like(s.fields["load"])}) for s in splits]
    trust = trust_of(surrogate, same)
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
        Fallback(trust, surrogate.description, (6, 6), None)


def test_unordered_points_have_bounds_and_flags():
    surrogate, splits = rings()
    trust = trust_of(surrogate, splits)
    assert trust.no_residual == "no equation residual: none is written for darcy_ring"
    assert trust.measured.outside["constant"].rate == 1.0
    assert Fallback(trust, surrogate.description, trust.shape, None)


@pytest.mark.parametrize("part", ["readings", "both"])
def test_the_solver_answers_runs_of_a_plant_in_place_of_their_readings(part):
    surrogate, trust = furnace_runs.trusted(part)
    fields = furnace_runs.runs("validation", 1, part=part).fields
    given = surrogate.description.given(fields)
    fallback = Fallback(trust, surrogate.description, trust.shape, None, above=1e-6)
    answers = Answers(trust, surrogate.description, fallback)
    alone = part == "both"
    predicted = surrogate.predict(given, readings_alone=alone)
    found, beside = answers.complete(given, predicted)
    assert beside["answered_by"].all() and ("temperature" in found) is False
    assert ("core_temperature_rmse_bound" in beside) and "temperature_rmse_bound" not in beside
    truth = surrogate.description.truth(fields)["core_temperature"]
    points = found["core_temperature"].shape[-1]
    np.testing.assert_allclose(found["core_temperature"], truth[..., :points], rtol=1e-5)


def test_a_plant_that_was_edited_since_answers_for_no_model(tmp_path, monkeypatch):
    surrogate, trust = furnace_runs.trusted()
    write_json(tmp_path / "trust.json", trust.to_json())
    trust = Trust.read(tmp_path / "trust.json")
    problem = Problem(
        trust.scenario, trust.resolution, trust.parameters, 1, "readings", trust.plant
    )
    said = Path("plants/car_bottom.yaml").read_text(encoding="utf-8")
    (tmp_path / "plants").mkdir()
    monkeypatch.chdir(tmp_path)
    file = Path("plants/car_bottom.yaml")
    file.write_text(f"# a comment\n{said}", encoding="utf-8")
    assert Fallback(trust, surrogate.description, trust.shape, None)
    assert draw(problem, 0).keys() >= {"setpoint", "wear"}
    file.write_text(said.replace("power: 6.0e+5", "power: 3.0e+5"), encoding="utf-8")
    expected = "plants/car_bottom.yaml is another plant than the dataset was made with"
    with pytest.raises(InputError, match=expected):
        Fallback(trust, surrogate.description, trust.shape, None)
    with pytest.raises(InputError, match=expected):
        draw(problem, 0)


def spoilt_inputs():
    permeability = darcy_splits()[2].fields["permeability"][:6].copy()
    permeability[1] *= 4.0
    permeability[4] = -1.0  # no solver can solve that
    return {"permeability": permeability}


def test_the_solver_answers_flagged_inputs_and_says_so(darcy):
    surrogate, trust = darcy
    given = spoilt_inputs()
    fallback = Fallback(trust, surrogate.description, (8, 8), None)
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


def test_the_solver_also_answers_where_the_bound_is_too_large_on_the_grid_given(darcy):
    surrogate, trust = darcy
    given = {"permeability": darcy_splits()[2].fields["permeability"][:6]}
    fallback = Fallback(trust, surrogate.description, (8, 8), None, above=1e-6)
    answers = Answers(trust, surrogate.description, fallback)
    _, beside = answers.complete(given, surrogate.predict(given))
    assert beside["answered_by"].all()
    assert Fallback(trust, surrogate.description, (12, 12), None)
    with pytest.raises(InputError, match="cannot solve|works on"):
        Fallback(trust, surrogate.description, (8, 12), None)


def test_the_solver_continues_states_for_no_more_frames_than_it_has():
    surrogate, splits = reactions()
    trust = trust_of(surrogate, splits)
    description = surrogate.description
    fallback = Fallback(trust, description, (8, 8), 2)
    given = {n: splits[2].fields[n][0, :1] for n in ("activator", "inhibitor")}
    answer = fallback.answer(given, {n: np.zeros((2, 8, 8), np.float32) for n in given})
    for name, values in answer.items():
        np.testing.assert_array_equal(values, splits[2].fields[name][0, 1:3])
    with pytest.raises(InputError, match="gives 3 frames after the first 1"):
        Fallback(trust, description, (8, 8), 4)


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
        again, _ = scenario.solve_from(drawn, {"pressure": np.full((32, 32), guess, np.float32)})
        np.testing.assert_allclose(again["pressure"], cold["pressure"], atol=1e-6 * scale)
    with pytest.raises(InputError, match="guess of the pressure has shape"):
        scenario.solve_from(drawn, {"pressure": np.zeros((8, 8), np.float32)})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A model with its trust, and inputs of which one has four times the usual permeability."""
    folder = tmp_path_factory.mktemp("workspace")
    surrogate, splits = darcy_model(tmp_path_factory.mktemp("work")), darcy_splits()
    candidate = folder / "models/candidate"
    candidate.mkdir(parents=True)
    surrogate.save(candidate)
    trust = trust_of(surrogate, splits).model_copy(
        update={"model_sha256": candidate_digest(candidate)}
    )
    (folder / "reports").mkdir()
    (folder / "reports/trust.json").write_text(json.dumps(trust.to_json()))
    permeability = splits[2].fields["permeability"][:5].copy()
    permeability[3] *= 4.0
    group = zarr.open_group(str(folder / "in.zarr"), mode="w")
    group.create_array("permeability", data=permeability, dimension_names=("sample", "x", "y"))
    return folder


def predict(folder, *options, to):
    arguments = [str(folder / name) for name in ("models/candidate", "in.zarr")]
    return CliRunner().invoke(app, ["predict", *arguments, str(to), *options])


def test_bounds_residual_and_flag_are_written_with_units_and_names(workspace, tmp_path):
    done = predict(workspace, to=tmp_path / "out.zarr")
    assert done.exit_code == 0, done.output
    assert "1 of 5 inputs is unlike the training data, most by: permeability" in done.output
    assert "typical error bound" in done.output
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xarray.open_zarr(tmp_path / "out.zarr").load()
    assert found["unlike_training"].values.tolist() == [0, 0, 0, 1, 0]
    for name in ("rmse", "max_error", "relative_l2"):
        bound = found[f"pressure_{name}_bound"]
        assert np.isfinite(bound).all()
        assert bound.attrs["units"] == "1" and "pressure" in bound.attrs["long_name"]
    assert "answered_by" not in found
    assert found["equation_residual"].dims == ("sample",)


def test_the_solver_answers_what_is_flagged_and_export_takes_the_store(workspace, tmp_path):
    done = predict(workspace, "--fallback", "solver", "--json", to=tmp_path / "out.zarr")
    trust = json.loads(done.output)["trust"]
    assert (trust["solved"], trust["not_solved"]) == (1, {})
    found = xarray.open_zarr(tmp_path / "out.zarr").load()
    assert found["answered_by"].values.tolist() == [0, 0, 0, 1, 0]
    exported = CliRunner().invoke(
        app, ["export", str(tmp_path / "out.zarr"), str(tmp_path / "o.nc")]
    )
    assert exported.exit_code == 0, exported.output
    again = xarray.open_dataset(tmp_path / "o.nc")
    np.testing.assert_array_equal(again["pressure"], found["pressure"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fallback", "oracle"), "not one of"),
        (("--fallback-above", "0.05"), "give --fallback solver, too"),
        (("--fallback", "solver", "--fallback-above", "5%"), "--fallback-above"),
    ],
)
def test_wrong_use_is_refused_before_any_work(workspace, tmp_path, options, message):
    done = predict(workspace, *options, to=tmp_path / "out.zarr")
    assert done.exit_code and message in f"{done.output} {done.exception}"
    assert not (tmp_path / "out.zarr").exists()


def test_without_an_estimate_of_this_very_model_it_predicts_and_says_why(workspace, tmp_path):
    other = tmp_path / "other"
    (other / "models/candidate").mkdir(parents=True)
    for path in (workspace / "models/candidate").iterdir():
        (other / "models/candidate" / path.name).write_bytes(path.read_bytes())
    (other / "in.zarr").symlink_to(workspace / "in.zarr")
    done = predict(other, to=tmp_path / "a.zarr")
    assert "no error estimate: there is no" in done.output
    assert sorted(zarr.open_group(str(tmp_path / "a.zarr"))) == ["pressure"]
    (other / "reports").mkdir()
    content = json.loads((workspace / "reports/trust.json").read_text())
    (other / "reports/trust.json").write_text(json.dumps(content | {"model_sha256": "1" * 64}))
    done = predict(other, to=tmp_path / "b.zarr")
    assert "is of another model; make a new one with: mno evaluate" in done.output
    done = predict(other, "--fallback", "solver", to=tmp_path / "c.zarr")
    assert "needs an error estimate" in str(done.exception)


def test_bounds_of_an_observer_hold_at_every_frame_and_over_whole_runs():
    rng, held, over = np.random.default_rng(0), [], []
    for _ in range(60):  # each a calibration of its own, tried on runs of its own
        runs = rng.lognormal(sigma=0.5, size=(400, 1)) * np.linspace(2.0, 0.5, 7)
        errors = np.abs(runs * (1.0 + 0.2 * rng.normal(size=runs.shape)))
        errors[:, 2] = np.where(rng.random(400) < 0.3, np.nan, errors[:, 2])
        bound = bound_by_run(errors[:150], 0.9)
        fresh = errors[150:]
        known = np.isfinite(fresh)
        held.append(((fresh <= bound.values) & known).sum(axis=0) / known.sum(axis=0))
        over.append(np.all((fresh <= bound.over_run) | ~known, axis=1).mean())
    assert bound.calibrated_on < 112
    assert np.array(bound.over_run)[0] > bound.values[0]
    assert np.abs(np.mean(held, axis=0) - 0.905).max() < 0.02
    assert abs(np.mean(over) - 0.905) < 0.02


def test_without_enough_runs_an_observer_has_no_bounds():
    bound = bound_by_run(np.ones((8, 3)), 0.9)
    assert bound.values == (None, None, None)
    assert bound.over_run == (None, None, None)
