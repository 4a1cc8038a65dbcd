"""Whether an input is like those a model was trained on.

Several tests look at the features of inputs, and the one that is farthest beyond what is usual
decides:

    Ellipse     Mahalanobis' distance: features, standardised by median and spread over the training
                split, are measured against their correlations there; one is of all plain features,
                one of the changes from point to point, which tell finer fields
    Box         how far numbers lie beyond the range of the training split
    Smoothness  how much more a field resembles smoothed copies of training inputs than these
                themselves, by a logistic regression on features of its texture and their squares
    Categories  whether a number is none of the few whole ones that there were

A test's score counts in units of its `reach`, which few training inputs exceed that it was not
fitted to. The threshold is conformal, on these and on the validation split, so the rate of false
alarms is known before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from mno.core.config import Config
from mno.surrogate.trust.bounds import quantile
from mno.surrogate.trust.features import Features, Tensors

Row = tuple[float, ...]

_CLIPPED = 5.0  # spreads beyond which a training sample counts no more for correlations
_SHRUNK = 0.05  # weight of no correlation at all, which keeps the matrix well conditioned
_FLATTEST = 1e-3  # spread of a feature that is constant in training, relative to its size
_LEAST = 0.1  # share of a feature's deviation below which its quartiles are all but equal
_QUARTILES = 1.349  # distance between the quartiles of a normal distribution, in deviations
_RIDGE = 1e-4  # weight of the sum of squares of the discriminant's weights
_FARTHEST = 8.0  # deviations beyond which a feature counts no more for the discriminant
_MOST_KINDS = 20  # whole numbers from 0 on, below this one, are categories
_FOLDS = 5
_NARROWEST = 1e-9  # reach of a test that no training sample moves


class Ellipse(Config):
    """Mahalanobis' distance from the training split."""

    kind: Literal["ellipse"] = "ellipse"
    names: tuple[str, ...]  # of the features
    centre: Row  # their medians over the training split
    spread: Row  # the distance between their quartiles in normal deviations
    correlation: tuple[Row, ...]  # of the standardised features

    @classmethod
    def fit(cls, features: Tensors) -> Ellipse:
        """Describe the training split by its features."""
        table = _table(features, features).numpy()
        centre = np.median(table, axis=0)
        low, high = np.quantile(table, (0.25, 0.75), axis=0)
        spread = (high - low) / _QUARTILES
        deviation = table.std(axis=0)
        spread = np.where(spread > _LEAST * deviation, spread, deviation)
        spread = np.maximum(spread, _FLATTEST * np.abs(centre))
        spread = np.where(spread > 0.0, spread, _FLATTEST)
        z = np.clip((table - centre) / spread, -_CLIPPED, _CLIPPED)
        moments = np.einsum("si,sj->ij", z, z) / len(z)
        size = np.sqrt(np.diag(moments))
        size = np.where(size > 0.0, size, 1.0)
        correlation = (1.0 - _SHRUNK) * moments / np.outer(size, size)
        np.fill_diagonal(correlation, 1.0)
        rows = tuple(tuple(row) for row in correlation.tolist())
        return cls(
            names=tuple(features), centre=_row(centre), spread=_row(spread), correlation=rows
        )

    def scores(self, features: Features) -> Tensor:
        """Return the distances in spreads, `(samples,)`; infinite where a feature is not finite."""
        z = self._standardised(features)
        fine = z.isfinite().all(1)
        factor = np.linalg.inv(np.linalg.cholesky(np.array(self.correlation)))
        solved = torch.where(fine[:, None], z, 0.0) @ torch.from_numpy(factor.T)
        return torch.where(fine, (solved**2).mean(1).sqrt(), math.inf)

    def strangest(self, features: Features) -> np.ndarray:
        """Return the number of the feature farthest from its median, in spreads; `(samples,)`."""
        z = self._standardised(features).abs()
        return torch.where(z.isfinite(), z, math.inf).argmax(1).numpy()

    def _standardised(self, features: Features) -> Tensor:
        steps = {name: found for one in features.texture.values() for name, found in one.items()}
        table = _table({**features.plain, **steps}, self.names)
        return (table - torch.tensor(self.centre).to(table)) / torch.tensor(self.spread).to(table)


class Box(Config):
    """How far features lie beyond the range of the training split, in widths of that range."""

    kind: Literal["box"] = "box"
    names: tuple[str, ...]
    lowest: Row
    highest: Row

    @classmethod
    def fit(cls, features: Tensors) -> Box:
        """Take the ranges."""
        table = _table(features, features).numpy()
        low, high = table.min(axis=0), table.max(axis=0)
        return cls(names=tuple(features), lowest=_row(low), highest=_row(high))

    def scores(self, features: Features) -> Tensor:
        """Return the root of the sum of squares of all features, `(samples,)`."""
        return (self._beyond(features) ** 2).sum(1).sqrt()

    def strangest(self, features: Features) -> np.ndarray:
        """Return the number of the feature farthest beyond its range, `(samples,)`."""
        return self._beyond(features).argmax(1).numpy()

    def _beyond(self, features: Features) -> Tensor:
        table = _table(features.bounded, self.names)
        low, high = (torch.tensor(ends).to(table) for ends in (self.lowest, self.highest))
        flat = (_FLATTEST * high.abs()).clamp(min=_FLATTEST)
        width = torch.where(high > low, high - low, flat)
        beyond = torch.maximum(table - high, low - table).clamp(min=0.0) / width
        return torch.where(beyond.isfinite(), beyond, math.inf)


class Smoothness(Config):
    """How much more a field resembles smoothed copies of training inputs than these."""

    kind: Literal["smoothness"] = "smoothness"
    field: str
    centre: Row  # means of the roots of the features of its texture
    spread: Row  # their deviations
    weights: Row  # of these, standardised, and of their squares
    usual: float  # the score of a training input in the middle of them

    @property
    def names(self) -> tuple[str, ...]:
        """What may be strange."""
        return (f"{self.field} smoothness",)

    @classmethod
    def fit(cls, field: str, features: Tensors, smoothed: Tensors) -> Smoothness:
        """Tell the features of training inputs from those of their smoothed copies."""
        roots = _table(features, features).sqrt().numpy()
        centre, deviation = roots.mean(axis=0), roots.std(axis=0)
        spread = np.where(deviation > 0.0, deviation, _FLATTEST)
        tables = (_table(given, features) for given in (features, smoothed))
        as_given, copies = (_quadratic(table, centre, spread).numpy() for table in tables)
        weights = _discriminant(as_given, copies)
        usual = float(np.median(as_given @ weights))
        return cls(
            field=field, centre=_row(centre), spread=_row(spread), weights=_row(weights),
            usual=usual,
        )  # fmt: skip

    def scores(self, features: Features) -> Tensor:
        """Return the discriminant, `(samples,)`; more is smoother."""
        found = features.texture[self.field]
        score = _quadratic(_table(found, found), np.array(self.centre), np.array(self.spread))
        score = score @ torch.tensor(self.weights).to(score) - self.usual
        return torch.where(score.isfinite(), score, math.inf)

    def strangest(self, features: Features) -> np.ndarray:
        """Return zeros, `(samples,)`: the field itself."""
        return np.zeros(len(features), dtype=int)


class Categories(Config):
    """Whether a whole number is none of those that there were, by field."""

    kind: Literal["categories"] = "categories"
    seen: Mapping[str, Row]

    @property
    def names(self) -> tuple[str, ...]:
        """What may be strange."""
        return tuple(f"{name} unknown" for name in self.seen)

    @classmethod
    def fit(cls, features: Tensors) -> Categories:
        """Take the values of fields that have but a few, all of them whole."""
        seen = {}
        for name, given in features.items():
            values = np.asarray(given)
            kinds = np.unique(values[~np.isnan(values)])
            if len(kinds) and np.all(np.isin(kinds, range(_MOST_KINDS))):
                seen[name] = _row(kinds)
        return cls(seen=seen)

    def scores(self, features: Features) -> Tensor:
        """Return infinity for what was never seen, and else zero, `(samples,)`."""
        return torch.where(self._new(features).any(1), math.inf, 0.0).double()

    def strangest(self, features: Features) -> np.ndarray:
        """Return the number of the first field with a value never seen, `(samples,)`."""
        return self._new(features).double().argmax(1).numpy()

    def _new(self, features: Features) -> Tensor:
        new = [torch.zeros_like(next(iter(features.plain.values())), dtype=torch.bool)]
        for name, kinds in self.seen.items():
            values = features.categories[name]
            same = values[..., None] == torch.tensor(kinds).to(values)
            new.append(~(values.isnan() | same.any(-1)).all(1))
        return torch.stack(new[1:] or new, dim=1)


Test = Annotated[Ellipse | Box | Smoothness | Categories, Field(discriminator="kind")]


class OutOfDistribution(Config):
    """What inputs were like in training.

    The threshold is the largest distance that is like the training data, `None` where no sample
    could tell; the rate is the share of inputs like the training data that may lie beyond.
    """

    tests: tuple[Test, ...]
    reach: Row  # score of each test that is at the edge of what is usual
    threshold: float | None = None
    false_alarm_rate: float = 1.0
    calibrated_on: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that may be strange about an input."""
        return tuple(dict.fromkeys(name for test in self.tests for name in test.names))

    @classmethod
    def fit(
        cls, train: Features, smoothed: Features, validation: Features, false_alarm_rate: float
    ) -> OutOfDistribution:
        """Describe the training split by its features and those of its smoothed copies.

        Its false alarm rate is as wanted, or (1 + alone) / (1 + samples) where that is more; alone
        are those that are infinitely far from the others. What is usual is told by validation
        samples and by training samples, each scored by tests that were fitted to other samples;
        where there are too few of the latter, by the former alone.
        """
        tests, part = _fit(train, smoothed), np.arange(len(train)) % _FOLDS
        scores = [_scores(tests, validation)]
        for fold in range(_FOLDS) if len(train) >= 2 * _FOLDS else ():
            others = np.flatnonzero(part != fold)
            apart = _fit(train.take(others), smoothed.take(others))
            scores.append(_scores(apart, train.take(np.flatnonzero(part == fold))))
        usual = torch.cat(scores).numpy()
        if not len(usual):
            return cls(tests=tests, reach=(1.0,) * len(tests))
        alone = int(np.isinf(usual).any(axis=1).sum())  # unlike all others: never below a threshold
        rate = max(false_alarm_rate, (alone + 1) / (len(usual) + 1))
        telling = max(1, int(np.sum(usual.max(axis=0) > usual.min(axis=0))))
        edge = np.quantile(usual, 1.0 - rate / telling, axis=0, method="lower")
        largest = np.where(np.isfinite(usual), usual, 0.0).max(axis=0)  # where it moves fewer
        reach = np.maximum(np.where(np.isfinite(edge) & (edge > 0.0), edge, largest), _NARROWEST)
        threshold = quantile(np.max(usual / reach, axis=1), 1.0 - rate)
        return cls(
            tests=tests, reach=_row(reach), false_alarm_rate=rate, calibrated_on=len(usual),
            threshold=threshold if math.isfinite(threshold) else None,
        )  # fmt: skip

    def distance(self, features: Features) -> Tensor:
        """Return how far inputs are from the training data, in reaches, shape `(samples,)`.

        One with a feature that is not finite is infinitely far.
        """
        return self._in_reaches(features).amax(1)

    def _in_reaches(self, features: Features) -> Tensor:
        return _scores(self.tests, features) / torch.tensor(self.reach, dtype=torch.float64)

    def distances(self, features: Features) -> np.ndarray:
        """Return what `distance` does, as an array."""
        return self.distance(features).numpy()

    def unlike(self, distances: np.ndarray) -> np.ndarray:
        """Return which inputs are unlike the training data, shape `(samples,)`, boolean."""
        if self.threshold is None:
            return np.zeros(len(distances), dtype=bool)
        return ~(distances <= self.threshold)

    def most_unusual(self, features: Features) -> np.ndarray:
        """Return the number, among `names`, of what is strangest; `(samples,)`."""
        farthest = self._in_reaches(features).argmax(1).numpy()
        numbers = {name: number for number, name in enumerate(self.names)}
        found = np.zeros(len(features), dtype=int)
        for which, test in enumerate(self.tests):
            here = np.flatnonzero(farthest == which)
            if len(here):
                strange = test.strangest(features.take(here))
                found[here] = [numbers[test.names[k]] for k in strange]
        return found


def of_several_tests(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a file says of `OutOfDistribution`; once there was one test, an ellipse."""
    if "correlation" not in content:
        return content
    test = {k: content[k] for k in ("names", "centre", "spread", "correlation")}
    others = {k: v for k, v in content.items() if k not in test}
    return {**others, "tests": [{"kind": "ellipse", **test}], "reach": [1.0]}


def _fit(train: Features, smoothed: Features) -> tuple[Test, ...]:
    tests: list[Test] = [Ellipse.fit(train.plain)]
    steps = {n: v for one in train.texture.values() for n, v in one.items() if " steps " in n}
    if steps:
        tests.append(Ellipse.fit(steps))
    if train.bounded:
        tests.append(Box.fit(train.bounded))
    for field, features in train.texture.items():
        tests.append(Smoothness.fit(field, features, smoothed.texture[field]))
    if train.categories:
        tests.append(Categories.fit(train.categories))
    return tuple(tests)


def _scores(tests: Sequence[Test], features: Features) -> Tensor:
    """Return the score of each test, `(samples, tests)`."""
    return torch.stack([test.scores(features) for test in tests], dim=1)


def _quadratic(table: Tensor, centre: np.ndarray, spread: np.ndarray) -> Tensor:
    """Return the roots of features, standardised, and their squares, `(samples, 2 * features)`."""
    z = (table.sqrt() - torch.from_numpy(centre)) / torch.from_numpy(spread)
    z = z.clamp(-_FARTHEST, _FARTHEST)
    return torch.cat([z, z**2], dim=1)


def _discriminant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the weights of a logistic regression that tells the second from the first."""
    table = np.concatenate([first, second])
    scale = table.std(axis=0) + _FLATTEST
    table = np.concatenate([table / scale, np.ones((len(table), 1))], axis=1)
    sign = np.repeat([-1.0, 1.0], [len(first), len(second)])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (table @ weights)
        slope = -sign * expit(-margin) / len(table)
        value = np.mean(np.logaddexp(0.0, -margin)) + _RIDGE * np.sum(weights**2)
        return value, slope @ table + 2.0 * _RIDGE * weights

    start = np.zeros(table.shape[1])
    return minimize(loss, start, jac=True, method="L-BFGS-B").x[:-1] / scale


def _table(features: Tensors, names: Sequence[str] | Mapping[str, Any]) -> Tensor:
    return torch.stack([torch.as_tensor(features[name]).double() for name in names], dim=1)


def _row(values: np.ndarray) -> Row:
    return tuple(np.asarray(values, dtype=float).tolist())
