"""Errors of a learning curve are those of the evaluation, and odd splits have defined answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mno.data.reading import Split
from mno.evaluation.result import Evaluation
from mno.evaluation.scoring import mean_error, sample_errors
from mno.surrogate.surrogate import Surrogate


def test_they_are_those_of_the_evaluation(
    surrogate: Surrogate, make_split: Callable[..., Split], evaluation: Evaluation
) -> None:
    split = make_split("test", 7, seed=2)
    one, many = (sample_errors(surrogate, split, size) for size in (1, 7))
    np.testing.assert_allclose(one, evaluation.relative_l2, rtol=1e-5)
    np.testing.assert_allclose(many, evaluation.relative_l2, rtol=1e-5)
    assert mean_error(many)["relative_l2"] == pytest.approx(evaluation.relative_l2.mean(), rel=1e-5)


def test_odd_splits_have_defined_answers() -> None:
    nothing = {"relative_l2": None, "standard_error": None, "measured": 0}
    assert mean_error(np.array([])) == nothing
    assert mean_error(np.array([0.5])) == {**nothing, "relative_l2": 0.5, "measured": 1}
    assert mean_error(np.array([0.5, np.nan]))["relative_l2"] is None
    assert mean_error(np.array([0.5, np.inf]))["relative_l2"] is None
