"""What a prediction listened to: gradients of the whole model, against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mno.core.fields import Field
from mno.evaluation.evaluator import ErrorMap
from mno.evaluation.influence import influence
from mno.evaluation.result import Evaluation
from mno.surrogate.surrogate import Surrogate


def test_the_influence_is_what_a_small_change_of_the_input_does(
    surrogate: Surrogate, evaluation: Evaluation
) -> None:
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


def test_a_prediction_that_is_no_number_has_an_influence_all_the_same(
    surrogate: Surrogate, evaluation: Evaluation
) -> None:
    example = evaluation.example("best")
    lost = {"temperature": np.full_like(example.prediction["temperature"], np.nan)}
    assert influence(surrogate, replace(example, prediction=lost)).point == (0, 0)


def test_an_error_map_is_the_root_mean_square_at_each_point_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 7, 3, 4, 5))
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
