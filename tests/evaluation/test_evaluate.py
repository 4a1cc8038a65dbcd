"""Evaluating a surrogate on a split, and the scores and guesses beside it."""

import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from mno.core.absent import as_json
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data import reading
from mno.data.reading import Schema, Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import (
    ErrorMap,
    evaluate,
    mean_error,
    mean_fields,
    ranked,
    split_error,
)
from mno.evaluation.influence import influence
from mno.evaluation.metrics import mean_over
from mno.surrogate.surrogate import Surrogate


def relative_l2(prediction, truth):
    p, t = (a.reshape(len(a), -1).astype(np.float64) for a in (prediction, truth))
    return np.linalg.norm(p - t, axis=1) / np.linalg.norm(t, axis=1)


def evaluated(surrogate, split, training=None, **config):
    return evaluate(surrogate, split, mean_fields(training or split), EvaluateConfig(**config))


@pytest.fixture
def training(make_split):
    return make_split("train", 5, seed=1)


@pytest.fixture
def unseen(make_split):
    return make_split("test", 7, seed=2)


def test_errors_are_those_of_the_surrogates_own_predictions_and_of_the_mean_field(
    surrogate, training, unseen
):
    evaluation = evaluated(surrogate, unseen, training, batch_size=7)
    truth = unseen.fields["temperature"]
    predicted = surrogate.predict({"conductivity": unseen.fields["conductivity"]}, 7)
    expected = relative_l2(predicted["temperature"], truth)
    np.testing.assert_allclose(evaluation.relative_l2, expected, rtol=1e-12)
    assert evaluation.metrics()["relative_l2"] == pytest.approx(expected.mean(), rel=1e-12)
    mean_field = training.fields["temperature"].astype(np.float64).mean(axis=0)
    expected = relative_l2(np.broadcast_to(mean_field, truth.shape), truth)
    np.testing.assert_allclose(evaluation.baseline_relative_l2, expected, rtol=1e-12)


def test_the_batch_size_changes_nothing_but_the_rounding_of_the_forward_pass(
    surrogate, training, unseen
):
    one, *others = (evaluated(surrogate, unseen, training, batch_size=size) for size in (1, 3, 100))
    for other in others:
        np.testing.assert_array_equal(other.baseline_relative_l2, one.baseline_relative_l2)
        np.testing.assert_allclose(other.relative_l2, one.relative_l2, rtol=1e-5)
        assert [e.index for e in other.examples] == [e.index for e in one.examples]


def test_best_median_and_worst_are_what_sorting_says(evaluation):
    order = np.argsort(evaluation.relative_l2)
    expected = [int(evaluation.indices[order[i]]) for i in (0, 3, 6)]
    assert [example.index for example in evaluation.examples] == expected
    assert [e.ranks for e in evaluation.examples] == [("best",), ("median",), ("worst",)]
    for example in evaluation.examples:
        found = relative_l2(
            example.prediction["temperature"][None], example.truth["temperature"][None]
        )
        assert example.relative_l2 == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize(
    ("errors", "known", "ranks"),
    [
        ([2.0, math.nan, 1.0, 1.0], [True] * 4, (2, 3, 1)),  # NaN is worst; the first of equals
        ([math.nan, 2.0, 1.0, 3.0], [False, True, True, True], (2, 1, 3)),  # if it was measured
    ],
)
def test_ranking(errors, known, ranks):
    found = ranked(np.array(errors), np.array(known))
    assert found == dict(zip(("best", "median", "worst"), ranks, strict=True))


def test_a_single_sample_is_best_median_and_worst(surrogate, make_split):
    evaluation = evaluated(surrogate, make_split("test", 1))
    (example,) = evaluation.examples
    assert example.ranks == ("best", "median", "worst")
    assert evaluation.metrics()["baseline_relative_l2"] == 0
    assert evaluation.metrics()["samples"] == 1


def test_the_samples_kept_for_the_check_are_the_first_with_their_predictions(surrogate, unseen):
    evaluation = evaluated(surrogate, unseen, check_samples=2)
    inputs = {"conductivity": unseen.fields["conductivity"][:2]}
    np.testing.assert_array_equal(evaluation.check_inputs["conductivity"], inputs["conductivity"])
    np.testing.assert_array_equal(
        evaluation.check_predictions["temperature"], surrogate.predict(inputs)["temperature"]
    )


def test_metrics_and_per_sample_values_survive_json(evaluation):
    text = json.dumps(evaluation.metrics(), default=as_json)
    assert json.dumps(json.loads(text)) == text
    per_sample = json.loads(json.dumps(evaluation.per_sample(), default=as_json))
    assert per_sample["sample"] == evaluation.indices.tolist()
    assert per_sample["relative_l2"] == evaluation.relative_l2.tolist()
    assert per_sample["fields"]["temperature"]["relative_l2"] == per_sample["relative_l2"]


def test_predictions_are_not_kept(surrogate, make_split):
    def peak(samples):
        test = make_split("test", samples, size=64)
        train_mean = mean_fields(test)
        tracemalloc.start()
        evaluate(surrogate, test, train_mean, EvaluateConfig(batch_size=8))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(8)  # what is loaded once
    predictions_of_more_samples = 40 * 64 * 64 * 4
    assert peak(48) - peak(8) < predictions_of_more_samples / 4


def test_what_does_not_fit_the_model_is_refused(surrogate, make_split, training, unseen):
    with pytest.raises(InputError, match="test split is empty"):
        evaluated(surrogate, make_split("test", 0), training)
    other = replace(surrogate.description, inputs={"permeability": "1"})
    with pytest.raises(InputError, match="permeability.*train again"):
        evaluated(Surrogate(other, surrogate.operator), unseen)


def test_errors_of_a_learning_curve_are_those_of_the_evaluation(surrogate, unseen, evaluation):
    one, many = (split_error(surrogate.predict, unseen, size) for size in (1, 7))
    np.testing.assert_allclose(one.per_sample(), evaluation.relative_l2, rtol=1e-5)
    np.testing.assert_allclose(many.per_sample(), evaluation.relative_l2, rtol=1e-5)
    found = mean_error(many)
    assert found["relative_l2"] == pytest.approx(evaluation.relative_l2.mean(), rel=1e-5)
    spread = evaluation.relative_l2.std(ddof=1) / math.sqrt(7)
    assert found["standard_error"] == pytest.approx(spread, rel=1e-5) and found["measured"] == 7


def test_the_mean_of_odd_errors_has_a_defined_answer():
    def of(*errors, known=1.0):
        return mean_error(mean_over(np.array(errors), np.full(len(errors), known)))

    nothing = {"relative_l2": None, "standard_error": None, "measured": 0}
    assert of() == of(0.5, known=0.0) == nothing
    assert of(0.5) == {**nothing, "relative_l2": 0.5, "measured": 1}
    assert of(0.5, np.nan)["relative_l2"] is None
    assert of(0.5, np.inf)["relative_l2"] is None


@pytest.mark.parametrize("block_bytes", [4 * 6, 5 * 4 * 6, 2**26])
def test_the_mean_field_is_that_of_all_samples_whatever_the_blocks(monkeypatch, block_bytes):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(23, 6)).astype(np.float32)
    gaps = np.where(rng.random(whole.shape) < 0.5, np.float32(np.nan), whole)
    gaps[:, 2] = np.nan
    axes = (Axis("x", "m", "x", (np.arange(6) + 0.5) / 6, (0.0, 1.0)),)
    fields = (
        Field("whole", "K", "whole", "output", ("x",)),
        Field("gaps", "K", "with gaps", "output", ("x",), gaps=True),
    )
    arrays = {"whole": whole, "gaps": gaps}
    split = Split("train", Schema("rod", fields, axes), arrays, np.arange(23))
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    means = mean_fields(split)
    np.testing.assert_allclose(means["whole"], whole.mean(axis=0, dtype=float), rtol=1e-12)
    expected = [np.nanmean(gaps[:, k].astype(float)) for k in range(6) if k != 2]
    np.testing.assert_allclose(np.delete(means["gaps"], 2), expected, rtol=1e-12)
    np.testing.assert_allclose(means["gaps"][2], np.nanmean(gaps.astype(float)), rtol=1e-12)


def test_an_error_map_is_the_root_mean_square_at_each_point_whatever_the_batches():
    truth, predicted = np.random.default_rng(0).normal(size=(2, 7, 3, 4, 5))
    truth[:, :, 1, 2] = np.nan
    truth[0, 0, 0, 0] = np.nan
    field = Field("u", "K", "u", "state", ("time", "x", "y"))
    whole, parts = ErrorMap(field), ErrorMap(field)
    whole.add(predicted, truth)
    for batch in (slice(0, 3), slice(3, 7)):
        parts.add(predicted[batch], truth[batch])
    expected = np.sqrt(np.nanmean((predicted - truth)[:, :, 0, 0] ** 2))
    assert whole.rmse()[0, 0] == pytest.approx(expected)
    assert np.isnan(whole.rmse()[1, 2]) and np.isfinite(whole.rmse()).sum() == 19
    np.testing.assert_allclose(parts.rmse(), whole.rmse(), rtol=1e-12)


def test_the_influence_is_what_a_small_change_of_the_input_does(surrogate, evaluation):
    example = evaluation.example("median")
    found = influence(surrogate, example)
    error = np.abs(example.prediction["temperature"] - example.truth["temperature"])
    assert found.point == np.unravel_index(error.argmax(), error.shape)

    std = surrogate.description.normaliser.std
    at = np.unravel_index(found.maps["conductivity"].argmax(), error.shape)
    step = 0.05 * std["conductivity"]
    answers = []
    for sign in (-1, 1):
        changed = example.inputs["conductivity"].astype(np.float64)
        changed[at] += sign * step
        predicted = surrogate.predict({"conductivity": changed[None]})["temperature"][0]
        answers.append(float(predicted[found.point]) / std["temperature"])
    slope = abs(answers[1] - answers[0]) / 0.1
    assert slope > 1e-3
    assert found.maps["conductivity"][at] == pytest.approx(slope, rel=0.05)
    assert (found.total == found.maps["conductivity"]).all() and found.scalars == {}


def test_a_prediction_that_is_no_number_has_an_influence_all_the_same(surrogate, evaluation):
    example = evaluation.example("best")
    lost = {"temperature": np.full_like(example.prediction["temperature"], np.nan)}
    assert influence(surrogate, replace(example, prediction=lost)).point == (0, 0)
