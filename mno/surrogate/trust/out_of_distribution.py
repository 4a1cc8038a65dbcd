"""Whether an input is like those a model was trained on.

What is looked at is a few numbers per field that do not depend on the grid: mean, deviation,
extremes, and how the variance is shared among waves. Bands of waves end where those of the training
grid do, so a finer grid has the same ones.

The distance is Mahalanobis': features, standardised by median and spread over the training split,
are measured against their correlations there. Its threshold is conformal on the validation split,
so the rate of false alarms is known before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.fft import dctn
from scipy.spatial import KDTree

from mno.core.config import Config
from mno.surrogate.description import Description
from mno.surrogate.trust.bounds import quantile

Arrays = Mapping[str, np.ndarray]

_FAINTEST = 1e-6  # share of the variance below which a band counts as empty


def describe(description: Description, given: Arrays, finest: int) -> dict[str, np.ndarray]:
    """Return the features of what a model is given, in physical units: `(samples,)` by name.

    Bands of waves end with `finest`, the points along the shortest axis of the training grid.
    """
    places = None
    if description.coordinates:
        places = np.stack([given[name] for name in description.coordinates], axis=-1)
    found = {}
    for name in description.given_names:
        values = np.asarray(given[name], dtype=np.float64)
        if name in description.scalars:
            found[f"{name} value"] = values
            continue
        dims = len(description.space)
        frames = values.reshape(len(values), -1, *values.shape[values.ndim - dims :])
        known = ~np.isnan(frames)
        numbers, centred = _statistics(frames, known)
        if name in description.gaps:
            numbers["missing share"] = 1.0 - known.reshape(len(known), -1).mean(axis=1)
        if places is None:
            numbers |= _waves(centred, finest)
        elif name not in description.coordinates:
            numbers["slope"] = _slope(centred, places)
        if frames.shape[1] > 1:
            change = np.diff(centred, axis=1).reshape(len(centred), -1)
            numbers["change between frames"] = np.sqrt(np.mean(change**2, axis=1))
        found |= {f"{name} {feature}": number for feature, number in numbers.items()}
    return found


def _statistics(frames: np.ndarray, known: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return mean, deviation and extremes of what is known, and the field less its mean."""
    flat, there = frames.reshape(len(frames), -1), known.reshape(len(known), -1)
    counts = np.maximum(there.sum(axis=1), 1)
    any_known = there.any(axis=1)
    mean = np.where(there, flat, 0.0).sum(axis=1) / counts
    centred = np.where(there, flat - mean[:, None], 0.0)
    least = np.where(there, flat, math.inf).min(axis=1)
    most = np.where(there, flat, -math.inf).max(axis=1)
    numbers = {
        "mean": mean,
        "deviation": np.sqrt((centred**2).sum(axis=1) / counts),
        "minimum": np.where(any_known, least, 0.0),
        "maximum": np.where(any_known, most, 0.0),
    }
    return numbers, centred.reshape(frames.shape)


def _waves(centred: np.ndarray, finest: int) -> dict[str, np.ndarray]:
    """Return the decimal logarithm of the share of the variance that each band of waves holds.

    Waves are cosines, which suit walls as well as periodic sides; number k has k half-waves along
    the domain. Bands double: 1, 2 to 3, 4 to 7, and so on.
    """
    axes = tuple(range(2, centred.ndim))
    energy = np.square(np.asarray(dctn(centred, axes=axes, norm="ortho"))).mean(axis=1)
    numbers = np.meshgrid(*(np.arange(n) for n in energy.shape[1:]), indexing="ij")
    wave = np.floor(np.sqrt(sum(number.astype(float) ** 2 for number in numbers)))
    total = energy[:, (wave >= 1) & (wave < finest)].sum(axis=1)
    found = {}
    for power in range(int(math.ceil(math.log2(max(finest, 2))))):
        first, behind = 2**power, min(2 ** (power + 1), max(finest, 2))
        band = energy[:, (wave >= first) & (wave < behind)].sum(axis=1)
        share = band / np.where(total > 0.0, total, 1.0)
        label = f"waves {first}" if behind - first == 1 else f"waves {first} to {behind - 1}"
        found[label] = np.log10(share + _FAINTEST)
    return found


def _slope(centred: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the root mean square slope from each point to its nearest neighbour, as a logarithm.

    The field is `(samples, frames, points)`, places are `(samples, points, axes)`.
    """
    slopes = np.zeros(len(centred))
    if centred.shape[2] < 2:
        return slopes
    for sample, (values, here) in enumerate(zip(centred, places, strict=True)):
        if not np.isfinite(here).all():
            continue
        distance, nearest = (np.asarray(found)[:, 1] for found in KDTree(here).query(here, k=2))
        step, far = values[:, nearest] - values, distance > 0.0
        if far.any():
            slopes[sample] = math.sqrt(np.mean((step[:, far] / distance[far]) ** 2))
    return np.log10(slopes + _FAINTEST)


_CLIPPED = 5.0  # spreads beyond which a training sample counts no more for correlations
_SHRUNK = 0.05  # weight of no correlation at all, which keeps the matrix well conditioned
_FLATTEST = 1e-3  # spread of a feature that is constant in training, relative to its size
_QUARTILES = 1.349  # distance between the quartiles of a normal distribution, in deviations


class OutOfDistribution(Config):
    """What inputs were like in training.

    The threshold is the largest distance that is like the training data, `None` where no validation
    sample could tell; the rate is the share of inputs like the training data that may lie beyond.
    """

    names: tuple[str, ...]  # of the features
    centre: tuple[float, ...]  # their medians over the training split
    spread: tuple[float, ...]  # the distance between their quartiles in normal deviations
    correlation: tuple[tuple[float, ...], ...]  # of the standardised features
    threshold: float | None = None
    false_alarm_rate: float = 1.0
    calibrated_on: int = 0

    @classmethod
    def fit(cls, names: Sequence[str], features: np.ndarray) -> OutOfDistribution:
        """Describe the training split by its features, `(samples, features)`; no threshold yet."""
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

    def calibrated(self, distances: np.ndarray, false_alarm_rate: float) -> OutOfDistribution:
        """Return the same with a threshold by the distances of validation samples.

        Its false alarm rate is as wanted, or 1 / (samples + 1) where that is more.
        """
        if not len(distances):
            return self
        rate = max(false_alarm_rate, 1.0 / (len(distances) + 1))
        threshold = quantile(distances, 1.0 - rate)
        return self.model_copy(
            update={
                "threshold": threshold if math.isfinite(threshold) else None,
                "false_alarm_rate": rate,
                "calibrated_on": len(distances),
            }
        )

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return how far inputs are from the training data, in spreads, shape `(samples,)`.

        One with a feature that is not finite is infinitely far.
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
