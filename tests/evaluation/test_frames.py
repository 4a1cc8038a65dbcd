"""Evaluating what continues states: predicted frames only, error over time, honest baselines."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mno.core.absent import as_json
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.numbers import number
from mno.data.reading import Schema, Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields, split_error
from mno.report.document import write_report
from mno.surrogate.surrogate import Surrogate
from tests.evaluation.made import figures_of, render_report, results_of
from tests.support.untrained import untrained

FRAMES, HISTORY, N = 7, 2, 6
NAMES = ("u", "v")


def axis(name, points):
    return Axis(name, "m", name, (np.arange(points) + 0.5) / points, (0.0, 1.0))


def time(frames):
    return Axis("time", "s", "time", 0.5 * np.arange(frames), (0.0, 0.5 * (frames - 1)))


def make_split(name, samples, seed, frames=FRAMES):
    """States that grow slowly from smooth fields."""
    rng = np.random.default_rng(seed)
    schema = Schema(
        "growth",
        tuple(Field(n, "K", f"field {n}", "state", ("time", "x", "y")) for n in NAMES),
        (time(frames), axis("x", N), axis("y", N)),
    )
    growth = np.exp(0.1 * np.arange(frames))[:, None, None]
    first = 1 + rng.random((2, samples, 1, N, N))
    fields = {n: (f * growth).astype(np.float32) for n, f in zip(NAMES, first, strict=True)}
    return Split(name, schema, fields, np.arange(samples) * 2 + 1)


def make_surrogate(scheme="rollout", frames=FRAMES):
    split = make_split("train", 5, 1, frames)
    return untrained(split.schema, split.fields, HISTORY, scheme, nudged=True)


TRAIN, TEST = make_split("train", 5, 1), make_split("test", 9, 2)


@pytest.fixture(scope="module", params=["rollout", pytest.param("horizon", marks=pytest.mark.slow)])
def surrogate(request):
    return make_surrogate(request.param)


@pytest.fixture(scope="module")
def evaluation(surrogate):
    return evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig(batch_size=4))


def ratios(predicted, frames):
    """Relative L2 of each sample over some frames, the mean over fields."""
    found = []
    for name, p in predicted.items():
        t = TEST.fields[name][:, frames].reshape(len(TEST), -1).astype(float)
        found.append(np.linalg.norm(p.reshape(len(t), -1) - t, axis=1) / np.linalg.norm(t, axis=1))
    return np.mean(found, axis=0)


def errors(predicted):
    return ratios(predicted, slice(HISTORY, None))


def given():
    return {name: field[:, :HISTORY] for name, field in TEST.fields.items()}


def test_predicted_frames_are_counted_and_compared_with_guesses(surrogate, evaluation):
    found = errors(surrogate.predict(given()))
    np.testing.assert_allclose(evaluation.relative_l2, found, rtol=1e-5)
    shape, means, kept = (len(TEST), FRAMES - HISTORY, N, N), {}, {}
    for name in NAMES:
        means[name] = TRAIN.fields[name][:, HISTORY:].astype(float).mean(axis=0)
        means[name] = np.broadcast_to(means[name], shape)
        kept[name] = np.broadcast_to(TEST.fields[name][:, HISTORY - 1 : HISTORY], shape)
    np.testing.assert_allclose(evaluation.baseline_relative_l2, errors(means), rtol=1e-12)
    metrics = evaluation.metrics()
    assert metrics["persistence_relative_l2"] == pytest.approx(errors(kept).mean(), rel=1e-12)
    assert all(metrics["fields"][name]["persistence_relative_l2"] > 0 for name in NAMES)


def test_the_error_over_time_is_that_of_each_frame(surrogate, evaluation):
    over_time = evaluation.over_time
    np.testing.assert_allclose(over_time.times, [1.0, 1.5, 2.0, 2.5, 3.0])
    # Growth by the factor exp(k / 10), k frames after the last given one.
    np.testing.assert_allclose(over_time.persistence, 1 - np.exp(-0.1 * np.arange(1, 6)), rtol=1e-5)
    predicted = surrogate.predict(given())
    for k in range(FRAMES - HISTORY):
        frame = {name: field[:, k] for name, field in predicted.items()}
        of_frame = ratios(frame, slice(HISTORY + k, HISTORY + k + 1)).mean()
        assert over_time.model[k] == pytest.approx(of_frame, rel=1e-5)
    found = json.loads(json.dumps(evaluation.per_sample(), default=as_json))
    assert found["over_time"] == over_time.to_dict()


def test_the_batch_size_changes_no_baseline(surrogate, evaluation):
    other = evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig(batch_size=100))
    for key in ("baseline_relative_l2", "persistence_relative_l2"):
        assert other.metrics()[key] == evaluation.metrics()[key]
    np.testing.assert_array_equal(other.over_time.persistence, evaluation.over_time.persistence)


def test_examples_and_check_samples_hold_given_and_predicted_frames(surrogate, evaluation):
    for example in evaluation.examples:
        position = (example.index - 1) // 2
        for name in NAMES:
            field = TEST.fields[name][position]
            np.testing.assert_array_equal(example.inputs[name], field[:HISTORY])
            np.testing.assert_array_equal(example.truth[name], field[HISTORY:])
            assert example.prediction[name].shape == (FRAMES - HISTORY, N, N)
    predicted = surrogate.predict(evaluation.check_inputs)
    for name in NAMES:
        np.testing.assert_array_equal(predicted[name], evaluation.check_predictions[name])


def test_a_rollout_is_evaluated_on_all_frames_there_are():
    longer = make_split("test", 3, 4, frames=12)
    means = mean_fields(make_split("train", 3, 5, frames=12))
    evaluation = evaluate(make_surrogate("rollout"), longer, means, EvaluateConfig())
    assert len(evaluation.over_time.times) == 12 - HISTORY


def test_frames_that_the_model_does_not_continue_are_refused():
    longer = make_split("test", 3, 4, frames=12)
    with pytest.raises(InputError, match="predicts 5 frames at once, but the dataset has 10"):
        evaluate(make_surrogate("horizon"), longer, mean_fields(longer), EvaluateConfig())
    surrogate = make_surrogate("rollout")
    forecast = replace(surrogate.description.forecast, interval=0.25)
    other = Surrogate(replace(surrogate.description, forecast=forecast), surrogate.operator)
    with pytest.raises(InputError, match="continues frames that are 0.25 apart"):
        evaluate(other, TEST, mean_fields(TRAIN), EvaluateConfig())


def test_the_report_shows_the_baseline_of_states(tmp_path, evaluation, history):
    results = results_of(evaluation, TEST.schema, history)
    figures = figures_of(results)
    assert figures[0].name == "example_median" and figures[-1].name == "loss_curves"
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures)
    html = render_report(results)
    # In the summary, two tables and the glossary.
    said = re.sub(r'data-label="[^"]*"', "", html)
    assert said.count("Keeping the last given frame") == 1 + 2 + 1
    assert html.count('<th scope="row">u</th>') == 1
    write_report(tmp_path / "report.html", results)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html


def score(surrogate, first):
    return split_error(surrogate.predict, TEST, 4, HISTORY, first).value()


def test_a_model_is_scored_on_the_frames_it_is_asked_for():
    surrogate = make_surrogate("rollout")
    whole = evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig()).metrics()
    assert score(surrogate, HISTORY) == pytest.approx(whole["relative_l2"], rel=1e-6)
    later = {name: field[:, 2:] for name, field in surrogate.predict(given()).items()}
    expected = ratios(later, slice(4, None)).mean()
    assert score(surrogate, 4) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="predicts frames 2 to 6 of u; expected all from 1 to 6"):
        score(surrogate, 1)
    with pytest.raises(InputError, match="predicts frames 2 to 4 of u; expected all from 2 to 6"):
        score(make_surrogate("horizon", frames=HISTORY + 3), HISTORY)


class TestDriven:
    """What is driven by forcings and numbers, by a saved model of another length."""

    @pytest.fixture(scope="class")
    def surrogate(self):
        return Surrogate.load(Path(__file__).parents[1] / "surrogate/formats/frames")

    @pytest.fixture(scope="class", params=[6, 9])
    def driven(self, request):
        frames, points, rng = request.param, 8, np.random.default_rng(7)
        fields = (
            Field("power", "W", "power", "input", ("time", "x")),
            Field("loss", "s-1", "rate of loss", "input", ()),
            Field("temperature", "K", "temperature", "state", ("time", "x")),
        )
        arrays = {
            "power": rng.random((7, frames, points), np.float32),
            "loss": rng.random(7, np.float32),
            "temperature": 1 + rng.random((7, frames, points), np.float32),
        }
        schema = Schema("rod", fields, (time(frames), axis("x", points)))
        return Split("test", schema, arrays, np.arange(7))

    @pytest.fixture(scope="class")
    def evaluation(self, surrogate, driven):
        return evaluate(surrogate, driven, mean_fields(driven), EvaluateConfig(batch_size=3))

    def test_the_model_is_given_the_forcing_of_all_steps(self, surrogate, driven, evaluation):
        fields, truth = driven.fields, driven.fields["temperature"][:, 2:]
        inputs = {**fields, "power": fields["power"][:, :-1]}
        inputs["temperature"] = fields["temperature"][:, :2]
        error = surrogate.predict(inputs, steps=truth.shape[1])["temperature"] - truth
        expected = np.linalg.norm(error.reshape(7, -1), axis=1)
        expected /= np.linalg.norm(truth.reshape(7, -1), axis=1)
        np.testing.assert_allclose(evaluation.relative_l2, expected, rtol=1e-5)

    @pytest.mark.parametrize("driven", [6], indirect=True)  # the model's own number of frames
    def test_the_score_by_which_models_are_compared_is_the_same(
        self, surrogate, driven, evaluation
    ):
        found = split_error(surrogate.predict, driven, 3, history=2, first=2).value()
        assert found == pytest.approx(evaluation.relative_l2.mean(), rel=1e-6)

    def test_numbers_are_said_and_forcings_are_drawn(self, driven, evaluation):
        no_epochs = {"epochs": [], "best_epoch": None}
        figures = figures_of(results_of(evaluation, driven.schema, no_epochs))
        worst = next(figure for figure in figures if "worst" in figure.name)
        sample = next(e for e in evaluation.examples if "worst" in e.ranks)
        loss = float(driven.fields["loss"][sample.index])
        assert f"power, rate of loss = {number(loss, 3)} s-1, temperature" in worst.caption
        assert worst.png.startswith(b"\x89PNG")
