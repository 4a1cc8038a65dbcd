"""Whether an input is like those a model was trained on.

The distance is Mahalanobis': features, standardised by median and spread over the training split,
are measured against their correlations there. Its threshold is conformal on the validation split,
so the rate of false alarms is known before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mno.core.config import Config
from mno.surrogate.trust import conformal

_CLIPPED = 5.0  # spreads beyond which a training sample counts no more for correlations
_SHRUNK = 0.05  # weight of no correlation at all, which keeps the matrix well conditioned
_FLATTEST = 1e-3  # spread of a feature that is constant in training, relative to its size
_QUARTILES = 1.349  # distance between the quartiles of a normal distribution, in deviations


class Likeness(Config):
    """What inputs were like in training.

    Attributes:
        names: Of the features.
        centre: Median of each over the training split.
        spread: Of each about it: the distance between quartiles in normal deviations.
        correlation: Of the standardised features, shape `(features, features)`.
        threshold: Largest distance that is like the training data; none where no validation sample
            could tell.
        false_alarm_rate: What share of inputs like the training data may lie beyond it.
        calibrated_on: Validation samples.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    threshold: float | None = None
    false_alarm_rate: float = 1.0
    calibrated_on: int = 0

    @classmethod
    def fit(cls, names: Sequence[str], features: np.ndarray) -> Likeness:
        """Describe the training split; without a threshold yet.

        Args:
            names: Of the features.
            features: Shape `(samples, features)`, at least one sample.
        """
        centre = np.median(features, axis=0)
        low, high = np.quantile(features, (0.25, 0.75), axis=0)
        spread = (high - low) / _QUARTILES
        spread = np.where(spread > 0.0, spread, features.std(axis=0))
        spread = np.maximum(spread, _FLATTEST * np.abs(centre))
        spread = np.where(spread > 0.0, spread, _FLATTEST)
        z = np.clip((features - centre) / spread, -_CLIPPED, _CLIPPED)
        moments = np.einsum("si,sj->ij", z, z) / len(z)
        size = np.sqrt(np.diag(moments))
        size = np.where(size > 0.0, size, 1.0)
        correlation = (1.0 - _SHRUNK) * moments / np.outer(size, size)
        np.fill_diagonal(correlation, 1.0)
        return cls(
            names=tuple(names),
            centre=tuple(centre.tolist()),
            spread=tuple(spread.tolist()),
            correlation=tuple(tuple(row) for row in correlation.tolist()),
        )

    def calibrated(self, distances: np.ndarray, false_alarm_rate: float) -> Likeness:
        """Return the same with a threshold.

        Args:
            distances: Of validation samples, shape `(samples,)`.
            false_alarm_rate: Wanted; 1 / (samples + 1) where that is more.
        """
        if not len(distances):
            return self
        rate = max(false_alarm_rate, 1.0 / (len(distances) + 1))
        threshold = conformal.quantile(distances, 1.0 - rate)
        return self.model_copy(
            update={
                "threshold": threshold if math.isfinite(threshold) else None,
                "false_alarm_rate": rate,
                "calibrated_on": len(distances),
            }
        )

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return how far inputs are from the training data, in spreads, shape `(samples,)`.

        Args:
            features: Shape `(samples, features)`; one that is not finite is infinitely far.
        """
        z = (features - np.array(self.centre)) / np.array(self.spread)
        fine: np.ndarray = np.all(np.isfinite(z), axis=1)
        factor = np.linalg.cholesky(np.array(self.correlation))
        solved = np.linalg.solve(factor, np.where(fine[:, None], z, 0.0).T)
        found = np.sqrt(np.mean(solved**2, axis=0))
        return np.where(fine, found, math.inf)

    def unlike(self, distances: np.ndarray) -> np.ndarray:
        """Return which inputs are unlike the training data, shape `(samples,)`, boolean."""
        if self.threshold is None:
            return np.zeros(len(distances), dtype=bool)
        return ~(distances <= self.threshold)

    def most_unusual(self, features: np.ndarray) -> np.ndarray:
        """Return the number of the feature farthest from its median, in spreads; `(samples,)`."""
        z = np.abs(features - np.array(self.centre)) / np.array(self.spread)
        return np.argmax(np.where(np.isfinite(z), z, math.inf), axis=1)
