"""Evaluating what continues states: predicted frames only, error over time, honest baselines."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import figures_of, results_of

from mno.core.absent import as_json
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import Forecast
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate
from mno.evaluation.result import Evaluation
from mno.evaluation.scoring import mean_fields, split_error
from mno.nn.config import ModelConfig
from mno.report.document import render_report, write_report
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

FRAMES, HISTORY, N = 7, 2, 6
NAMES = ("u", "v")


def make_split(name: str, samples: int, seed: int, frames: int = FRAMES) -> Split:
    """States that grow slowly from smooth fields."""
    rng = np.random.default_rng(seed)
    x = (np.arange(N) + 0.5) / N
    schema = Schema(
        "growth",
        tuple(Field(n, "K", f"field {n}", "state", ("time", "x", "y")) for n in NAMES),
        (
            Axis("time", "s", "time", np.linspace(0, 0.5 * (frames - 1), frames), (0.0, 3.0)),
            *(Axis(n, "m", n, x, (0.0, 1.0)) for n in ("x", "y")),
        ),
    )
    growth = np.exp(0.1 * np.arange(frames))[:, None, None]
    first = 1 + rng.random((2, samples, 1, N, N))
    fields = {n: (f * growth).astype(np.float32) for n, f in zip(NAMES, first, strict=True)}
    return Split(name, schema, fields, np.arange(samples) * 2 + 1)


def make_surrogate(scheme: str = "rollout", steps: int = FRAMES - HISTORY) -> Surrogate:
    torch.manual_seed(0)
    units = dict.fromkeys(NAMES, "K")
    description = Description(
        scenario="growth",
        inputs=units,
        outputs=units,
        extent=(1.0, 1.0),
        reference_spacing=(1 / N, 1 / N),
        normaliser=Normaliser.fit(make_split("train", 5, 1).fields),
        model=ModelConfig(width=4, layers=1, d_state=2),
        forecast=Forecast(HISTORY, scheme, steps, 0.5),
    )
    operator = description.build()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return Surrogate(description, operator)


TRAIN, TEST = make_split("train", 5, 1), make_split("test", 9, 2)


@pytest.fixture(scope="module", params=["rollout", "horizon"])
def surrogate(request) -> Surrogate:
    return make_surrogate(request.param)


@pytest.fixture(scope="module")
def evaluation(surrogate: Surrogate) -> Evaluation:
    return evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig(batch_size=4))


def errors(predicted: dict[str, np.ndarray]) -> np.ndarray:
    """Relative L2 of each sample over predicted frames, the mean over fields."""
    ratios = []
    for name, p in predicted.items():
        t = TEST.fields[name][:, HISTORY:].reshape(len(TEST), -1).astype(float)
        ratios.append(np.linalg.norm(p.reshape(len(t), -1) - t, axis=1) / np.linalg.norm(t, axis=1))
    return np.mean(ratios, axis=0)


def given() -> dict[str, np.ndarray]:
    return {name: field[:, :HISTORY] for name, field in TEST.fields.items()}


def test_only_predicted_frames_are_counted(surrogate, evaluation):
    np.testing.assert_allclose(
        evaluation.relative_l2, errors(surrogate.predict(given())), rtol=1e-5
    )


def test_the_mean_field_is_that_of_each_frame(evaluation):
    means = {
        name: np.broadcast_to(
            TRAIN.fields[name][:, HISTORY:].astype(float).mean(axis=0),
            (len(TEST), FRAMES - HISTORY, N, N),
        )
        for name in NAMES
    }
    np.testing.assert_allclose(evaluation.baseline_relative_l2, errors(means), rtol=1e-12)


def test_persistence_keeps_the_last_given_frame(evaluation):
    kept = {
        name: np.repeat(TEST.fields[name][:, HISTORY - 1 : HISTORY], FRAMES - HISTORY, axis=1)
        for name in NAMES
    }
    metrics = evaluation.metrics()
    assert metrics["persistence_relative_l2"] == pytest.approx(errors(kept).mean(), rel=1e-12)
    for name in NAMES:
        assert metrics["fields"][name]["persistence_relative_l2"] > 0


def test_the_error_over_time_is_that_of_each_frame(surrogate, evaluation):
    over_time = evaluation.over_time
    assert over_time is not None
    np.testing.assert_allclose(over_time.times, [1.0, 1.5, 2.0, 2.5, 3.0])
    # Growth by the factor exp(k / 10), k frames after the last given one.
    expected = 1 - np.exp(-0.1 * np.arange(1, 6))
    np.testing.assert_allclose(over_time.persistence, expected, rtol=1e-5)
    predicted = surrogate.predict(given())
    for k in range(FRAMES - HISTORY):
        ratios = []
        for name in NAMES:
            p, t = predicted[name][:, k], TEST.fields[name][:, HISTORY + k].astype(float)
            ratios.append(
                np.linalg.norm((p - t).reshape(9, -1), axis=1)
                / np.linalg.norm(t.reshape(9, -1), axis=1)
            )
        assert over_time.model[k] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert (
        json.loads(json.dumps(evaluation.per_sample(), default=as_json))["over_time"]
        == over_time.to_dict()
    )


def test_the_batch_size_changes_no_baseline(surrogate, evaluation):
    other = evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig(batch_size=100))
    for key in ("baseline_relative_l2", "persistence_relative_l2"):
        assert other.metrics()[key] == evaluation.metrics()[key]
    assert other.over_time is not None
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
    assert evaluation.over_time is not None
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


def test_the_report_shows_error_over_time_and_the_baseline_of_states(tmp_path, evaluation, history):
    results = results_of(evaluation, TEST.schema, history)
    figures = figures_of(results)
    assert [figure.name for figure in figures][-3:] == [
        "error_over_time", "error_histogram", "loss_curves",
    ]  # fmt: skip
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures)
    html = render_report(results)
    # In the summary, two tables and the glossary.
    assert html.count("Keeping the last given frame") == 1 + 2 + 1
    assert "Error over time" in html
    assert html.count('<th scope="row">u</th>') == 1
    write_report(tmp_path / "report.html", results)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html


def test_a_model_is_scored_on_the_frames_it_is_asked_for():
    surrogate = make_surrogate("rollout")
    means = mean_fields(TRAIN)
    whole = evaluate(surrogate, TEST, means, EvaluateConfig()).metrics()["relative_l2"]
    assert split_error(surrogate.predict, TEST, 4, HISTORY, HISTORY).value() == pytest.approx(
        whole, rel=1e-6
    )
    predicted = surrogate.predict(given())
    later = []
    for name in NAMES:
        p, t = predicted[name][:, 2:], TEST.fields[name][:, 4:].astype(float)
        error = (p - t).reshape(9, -1)
        later.append(np.linalg.norm(error, axis=1) / np.linalg.norm(t.reshape(9, -1), axis=1))
    found = split_error(surrogate.predict, TEST, 4, HISTORY, 4).value()
    assert found == pytest.approx(np.mean(later), rel=1e-5)
    with pytest.raises(InputError, match="predicts frames 2 to 6 of u; expected all from 1 to 6"):
        split_error(surrogate.predict, TEST, 4, HISTORY, 1).value()
    shorter = make_surrogate("horizon", steps=3)
    with pytest.raises(InputError, match="predicts frames 2 to 4 of u; expected all from 2 to 6"):
        split_error(shorter.predict, TEST, 4, HISTORY, HISTORY).value()
