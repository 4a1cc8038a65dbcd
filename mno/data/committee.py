"""A committee of small regressors, whose disagreement tells where more solves would teach most.

Each member is a ridge regression on random Fourier features (Rahimi and Recht 2007) of the inputs'
principal components, fitted to a bootstrap sample of what has been solved (query by bagging, Abe
and Mamitsuka 1998). That is no operator: it takes milliseconds and no training code, so that a
change of that makes no dataset stale.

Symbols: n samples, d components of the inputs, m of the solutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mno.data.config import ActiveConfig

_BLOCK = 64
"""Candidates whose predicted fields are in memory at a time."""
_RIDGE = 1e-3  # per sample; relative to features of mean square one


@dataclass(frozen=True)
class Components:
    """Principal components of fields, each flattened and standardised.

    Attributes:
        mean: Shape `(values,)`.
        scale: Standard deviation of each value, shape `(values,)`; 1 where it does not vary.
        axes: Shape `(values, components)`, orthonormal columns.
        spread: Standard deviation along each component, shape `(components,)`.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, most: int) -> Components:
        """Find the components of rows, shape `(n, values)`, float64; `most` of them at most."""
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(scale > 1e-12 * max(1.0, float(np.abs(mean).max())), scale, 1.0)
        _, singular, axes = np.linalg.svd((rows - mean) / scale, full_matrices=False)
        kept = min(most, int((singular > 1e-10 * max(singular[0], 1e-300)).sum()) or 1)
        spread = np.maximum(singular[:kept] / np.sqrt(len(rows)), 1e-12)
        return cls(mean, scale, axes[:kept].T, spread)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Return rows along the components, shape `(n, components)`, in standardised units."""
        return (rows - self.mean) / self.scale @ self.axes

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Return rows from values along the components."""
        return values @ self.axes.T * self.scale + self.mean


@dataclass(frozen=True)
class Judged:
    """What a committee says of candidates.

    Attributes:
        scores: Root mean square distance of the members from their mean, relative to the size of
            the mean, shape `(candidates,)`.
        places: Where the candidates lie along the components of the inputs, shape
            `(candidates, d)`.
    """

    scores: np.ndarray
    places: np.ndarray


def judge(
    inputs: np.ndarray,
    solutions: np.ndarray,
    candidates: np.ndarray,
    config: ActiveConfig,
    rng: np.random.Generator,
) -> Judged:
    """Fit a committee to what has been solved, and let it judge candidates.

    Args:
        inputs: Of solved samples, shape `(n, values)`.
        solutions: Theirs, shape `(n, values)`.
        candidates: Inputs of candidates, shape `(candidates, values)`.
        config: The committee.
        rng: Draws features and bootstrap samples.
    """
    given = Components.of(inputs.astype(np.float64), config.components)
    solved = Components.of(solutions.astype(np.float64), config.components)
    x = given.encode(inputs) / given.spread[0]
    places = given.encode(candidates) / given.spread[0]
    y = solved.encode(solutions)
    width = max(float(np.median(np.linalg.norm(x - x.mean(axis=0), axis=1))), 1e-12)
    said = []
    for _ in range(config.members):
        frequencies = rng.standard_normal((x.shape[1], config.features)) / width
        phases = rng.uniform(0.0, 2.0 * np.pi, config.features)
        rows = rng.integers(len(x), size=len(x))
        weights = _ridge(_features(x[rows], frequencies, phases), y[rows])
        said.append(_features(places, frequencies, phases) @ weights)
    scores = [
        _disagreement(np.stack([solved.decode(values[start : start + _BLOCK]) for values in said]))
        for start in range(0, len(candidates), _BLOCK)
    ]
    return Judged(np.concatenate(scores), places)


def spread_out(judged: Judged, count: int) -> np.ndarray:
    """Choose candidates with high scores that lie apart; return their numbers in order of choice.

    The first has the highest score. Each further one has the largest product of score and
    distance from the nearest one chosen, so that of two that are alike one is taken.

    Args:
        judged: What the committee says.
        count: How many; fewer than there are.
    """
    left = judged.scores.copy()
    nearest = np.full(len(left), np.inf)
    chosen = []
    for _ in range(count):
        worth = left * (nearest if chosen else 1.0)
        best = int(np.argmax(worth))
        chosen.append(best)
        left[best] = -1.0
        distance = np.linalg.norm(judged.places - judged.places[best], axis=1)
        nearest = np.minimum(nearest, distance)
    return np.array(chosen, dtype=np.int64)


def _disagreement(predicted: np.ndarray) -> np.ndarray:
    """Return relative distances from the mean of members, from shape `(members, n, values)`."""
    mean = predicted.mean(axis=0)
    distance = np.sqrt(((predicted - mean) ** 2).sum(axis=2).mean(axis=0))
    return distance / np.maximum(np.linalg.norm(mean, axis=1), 1e-300)


def _features(x: np.ndarray, frequencies: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Return random Fourier features and the inputs themselves, shape `(n, features + d + 1)`."""
    waves = np.sqrt(2.0) * np.cos(x @ frequencies + phases)
    return np.concatenate([waves, x, np.ones((len(x), 1))], axis=1)


def _ridge(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = len(features)
    gram = features @ features.T
    # In as many unknowns as there are samples, of which there are few.
    return features.T @ np.linalg.solve(gram + _RIDGE * n * np.eye(n), y)
