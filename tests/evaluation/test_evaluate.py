"""Evaluating a surrogate on a split."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mno.core.absent import as_json
from mno.core.errors import InputError
from mno.data.reading import Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, ranked
from mno.evaluation.result import Evaluation
from mno.evaluation.scoring import mean_fields
from mno.surrogate.surrogate import Surrogate

MakeSplit = Callable[..., Split]


def relative_l2(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    p, t = (a.reshape(len(a), -1).astype(np.float64) for a in (prediction, truth))
    return np.linalg.norm(p - t, axis=1) / np.linalg.norm(t, axis=1)


def test_errors_are_those_of_the_surrogates_own_predictions(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    train, test = make_split("train", 5, seed=1), make_split("test", 7, seed=2)
    evaluation = evaluate(surrogate, test, mean_fields(train), EvaluateConfig(batch_size=7))
    truth = test.fields["temperature"]
    predicted = surrogate.predict({"conductivity": test.fields["conductivity"]}, 7)
    expected = relative_l2(predicted["temperature"], truth)
    np.testing.assert_allclose(evaluation.relative_l2, expected, rtol=1e-12)
    assert evaluation.metrics()["relative_l2"] == pytest.approx(expected.mean(), rel=1e-12)


def test_the_baseline_predicts_the_mean_field_of_the_training_split(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    train, test = make_split("train", 5, seed=1), make_split("test", 7, seed=2)
    evaluation = evaluate(surrogate, test, mean_fields(train), EvaluateConfig())
    truth = test.fields["temperature"]
    mean_field = train.fields["temperature"].astype(np.float64).mean(axis=0)
    expected = relative_l2(np.broadcast_to(mean_field, truth.shape), truth)
    np.testing.assert_allclose(evaluation.baseline_relative_l2, expected, rtol=1e-12)


def test_the_batch_size_changes_nothing_but_the_rounding_of_the_forward_pass(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    train, test = make_split("train", 5, seed=1), make_split("test", 7, seed=2)
    one, three, all_at_once = (
        evaluate(surrogate, test, mean_fields(train), EvaluateConfig(batch_size=size))
        for size in (1, 3, 100)
    )
    for other in (three, all_at_once):
        np.testing.assert_array_equal(other.baseline_relative_l2, one.baseline_relative_l2)
        np.testing.assert_allclose(other.relative_l2, one.relative_l2, rtol=1e-5)
        assert [e.index for e in other.examples] == [e.index for e in one.examples]


def test_best_median_and_worst_are_what_sorting_says(evaluation: Evaluation) -> None:
    order = np.argsort(evaluation.relative_l2)
    expected = [int(evaluation.indices[order[i]]) for i in (0, 3, 6)]
    assert [example.index for example in evaluation.examples] == expected
    assert [example.ranks for example in evaluation.examples] == [
        ("best",),
        ("median",),
        ("worst",),
    ]
    for example in evaluation.examples:
        found = relative_l2(
            example.prediction["temperature"][None], example.truth["temperature"][None]
        )
        assert example.relative_l2 == pytest.approx(found[0], rel=1e-5)


def test_ranking_counts_nan_as_worst_and_takes_the_first_of_equals() -> None:
    errors, known = np.array([2.0, math.nan, 1.0, 1.0]), np.ones(4, dtype=bool)
    assert ranked(errors, known) == {"best": 2, "median": 3, "worst": 1}


def test_ranking_leaves_out_what_was_not_measured() -> None:
    errors, known = np.array([math.nan, 2.0, 1.0, 3.0]), np.array([False, True, True, True])
    assert ranked(errors, known) == {"best": 2, "median": 1, "worst": 3}


def test_a_single_sample_is_best_median_and_worst(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    test = make_split("test", 1)
    evaluation = evaluate(surrogate, test, mean_fields(test), EvaluateConfig())
    (example,) = evaluation.examples
    assert example.ranks == ("best", "median", "worst")
    assert evaluation.metrics()["baseline_relative_l2"] == 0
    assert evaluation.metrics()["samples"] == 1


def test_nan_weights_give_nan_metrics_and_still_an_evaluation(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    with torch.no_grad():
        for weight in surrogate.operator.parameters():
            weight.fill_(math.nan)
    test = make_split("test", 4)
    metrics = evaluate(surrogate, test, mean_fields(test), EvaluateConfig()).metrics()
    assert math.isnan(metrics["relative_l2"])
    assert math.isnan(metrics["fields"]["temperature"]["max_error"])
    assert math.isfinite(metrics["baseline_relative_l2"])


def test_the_samples_kept_for_the_check_are_the_first_with_their_predictions(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    test = make_split("test", 5)
    config = EvaluateConfig(check_samples=2)
    evaluation = evaluate(surrogate, test, mean_fields(test), config)
    inputs = {"conductivity": test.fields["conductivity"][:2]}
    np.testing.assert_array_equal(evaluation.check_inputs["conductivity"], inputs["conductivity"])
    np.testing.assert_array_equal(
        evaluation.check_predictions["temperature"], surrogate.predict(inputs)["temperature"]
    )


def test_metrics_and_per_sample_values_survive_json(evaluation: Evaluation) -> None:
    metrics = evaluation.metrics()
    text = json.dumps(metrics, default=as_json)
    assert json.dumps(json.loads(text)) == text
    per_sample = json.loads(json.dumps(evaluation.per_sample(), default=as_json))
    assert per_sample["sample"] == evaluation.indices.tolist()
    assert per_sample["relative_l2"] == evaluation.relative_l2.tolist()
    assert per_sample["fields"]["temperature"]["relative_l2"] == per_sample["relative_l2"]


def test_predictions_are_not_kept(surrogate: Surrogate, make_split: MakeSplit) -> None:
    def peak(samples: int) -> int:
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


def test_an_empty_split_is_refused(surrogate: Surrogate, make_split: MakeSplit) -> None:
    with pytest.raises(InputError, match="test split is empty"):
        evaluate(
            surrogate, make_split("test", 0), mean_fields(make_split("train", 2)), EvaluateConfig()
        )


def test_a_model_of_other_fields_is_refused(surrogate: Surrogate, make_split: MakeSplit) -> None:
    other = replace(surrogate.description, inputs={"permeability": "1"})
    test = make_split("test", 2)
    with pytest.raises(InputError, match="permeability.*train again"):
        evaluate(Surrogate(other, surrogate.operator), test, mean_fields(test), EvaluateConfig())


def test_mean_fields_of_other_fields_are_refused(
    surrogate: Surrogate, make_split: MakeSplit
) -> None:
    with pytest.raises(InputError, match="mean fields are given of"):
        evaluate(surrogate, make_split("test", 2), {}, EvaluateConfig())
