"""A trial: a surrogate is asked, and its errors stand beside those of guesses without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mno.evaluation.baselines import kept_frame
from mno.evaluation.overall import measured, relative_l2
from mno.evaluation.statistics import Statistics

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate

Arrays: TypeAlias = Mapping[str, np.ndarray]
Errors: TypeAlias = dict[str, np.ndarray]
"""The relative L2 of each sample, shape `(samples,)`, by who predicted it: `model`, and the guesses
`mean_field` (of the training split) and `persistence` (the last given frame of states is kept)."""


class Trial:
    """Asks a surrogate about samples.

    Args:
        surrogate: The trained operator.
        train_mean: The training split's `mean_fields`.
        batch_size: Samples per forward pass.
    """

    def __init__(self, surrogate: Surrogate, train_mean: Arrays, batch_size: int) -> None:
        self.surrogate = surrogate
        self.description = surrogate.description
        self.batch_size = batch_size
        self.train_mean = {name: mean[None] for name, mean in train_mean.items()}

    def predict(self, given: Arrays, truth: Arrays) -> dict[str, np.ndarray]:
        """Return what the surrogate answers, as many frames of states as the truth has."""
        states, steps = self.description.states, None
        if states and self.description.rolls_out:
            steps = truth[states[0]].shape[1]
        return self.surrogate.predict(given, self.batch_size, steps)

    def errors(self, given: Arrays, truth: Arrays, means: Arrays | None = None) -> Errors:
        """Return the errors of the surrogate and of the guesses.

        Args:
            given: What the surrogate is given, shape `(samples, *dims)`.
            truth: What it is to predict; NaN where that is missing.
            means: The mean field at the truth's points and times, shape `(1, *dims)`; that of the
                training split, if it fits, where not given.
        """
        found = {"model": errors_of(self.predict(given, truth), truth)}
        means = self.description.truth(self.train_mean) if means is None else means
        if any(means[name].shape[1:] != field.shape[1:] for name, field in truth.items()):
            return found
        expected = {
            name: np.broadcast_to(means[name], field.shape) for name, field in truth.items()
        }
        found["mean_field"] = errors_of(expected, truth)
        if self.description.states:
            kept = self.kept(given, expected, truth)
            found["persistence"] = errors_of({**expected, **kept}, truth)
        return found

    def kept(self, given: Arrays, expected: Arrays, truth: Arrays) -> dict[str, np.ndarray]:
        """Return the last given frame of each state, as often as the truth has frames.

        Args:
            given: What the surrogate is given.
            expected: The mean field, shape `(1 or samples, frames, *grid)`, for what is missing.
            truth: What is to be predicted.
        """
        frames = {n: kept_frame(given[n], expected[n]) for n in self.description.states}
        return {n: np.broadcast_to(frame, truth[n].shape) for n, frame in frames.items()}


def errors_of(predicted: Arrays, truth: Arrays) -> np.ndarray:
    """Return the relative L2 of each sample that has a known truth, the mean over its fields."""
    statistics = {n: Statistics.of(np.asarray(predicted[n]), truth[n]) for n in truth}
    return relative_l2(statistics)[measured(statistics)]
