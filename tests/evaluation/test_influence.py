"""What a prediction listened to: gradients of the whole model, against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
