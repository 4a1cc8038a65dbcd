"""Errors of one way to predict, added up batch by batch: of whole fields and of single frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from mno.evaluation.metrics import mean, mean_relative_l2
from mno.evaluation.statistics import Statistics

Arrays = Mapping[str, np.ndarray]


class Errors:
    """What was measured of one way to predict.

    Args:
        outputs: Names of the predicted fields.
        states: Names of those that have frames.
    """

    def __init__(self, outputs: Collection[str], states: Collection[str]) -> None:
        self.whole = {name: Statistics() for name in outputs}
        self.frames: dict[str, list[Statistics]] = {name: [] for name in states}

    def add(self, predicted: Arrays, truth: Arrays) -> None:
        """Measure a batch.

        Args:
            predicted: Fields of shape `(samples, *dims)`, states `(samples, frames, *grid)`.
            truth: The same fields as solved.
        """
        for name in self.whole:
            self.whole[name] += Statistics.of(predicted[name], truth[name])
        for name, before in self.frames.items():
            pairs = zip(predicted[name].swapaxes(0, 1), truth[name].swapaxes(0, 1), strict=True)
            new = [Statistics.of(*pair) for pair in pairs]
            before = before or [Statistics()] * len(new)
            self.frames[name] = [a + b for a, b in zip(before, new, strict=True)]

    def over_time(self) -> np.ndarray:
        """Return the relative L2 of each frame, the mean over samples and states; `(frames,)`.

        NaN where no sample has a known truth.
        """
        frames = zip(*self.frames.values(), strict=True)
        known = [[state for state in states if state.measured.any()] for states in frames]
        return np.array([mean(np.array([mean_relative_l2(s) for s in states])) for states in known])


@dataclass(frozen=True, eq=False)
class OverTime:
    """The relative L2 of each predicted frame, each of shape `(frames,)`; NaN without truth.

    Attributes:
        times: When the frames are, in the unit of the dataset's time axis.
        units: That unit.
        model: Of the surrogate.
        baseline: Of the mean field of the training split at the same time.
        persistence: Of keeping the last given frame.
    """

    times: np.ndarray
    units: str
    model: np.ndarray
    baseline: np.ndarray
    persistence: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Return what `reports/per_sample.json` holds of it."""
        return {
            "time": self.times.tolist(),
            "relative_l2": self.model.tolist(),
            "baseline_relative_l2": self.baseline.tolist(),
            "persistence_relative_l2": self.persistence.tolist(),
        }
