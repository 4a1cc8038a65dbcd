"""Bounds on the errors of single predictions, which hold at a stated rate, whatever the model.

Split-conformal: scores of calibration samples and of a new one are exchangeable, so the new one
lies at any rank among them with equal probability. Its score is at most the k-th smallest of n with
probability k / (n + 1) or more (Vovk, Gammerman and Shafer 2005; Lei et al. 2018,
doi:10.1080/01621459.2017.1307116, section 2.2).

A score is an error over its scale, which says how large the error is likely to be by what is known
when a prediction is made:

    scale = prod_j (s_j / c_j) ** b_j

`s_j` are positive numbers known of each prediction, such as the residual it leaves in the equation,
`c_j` their geometric means, and the exponents `b_j` are none below zero: a larger residual never
means a smaller error. So a bound is wide where the model is likely to err and narrow elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import nnls
from scipy.stats import beta, betabinom
from torch import Tensor

from mno.core.config import Config

_ROUNDING = 1e-9  # 0.9 * (n + 1) is not exact


def rank(samples: int, level: float) -> int:
    """Return which of the sorted scores bounds a new one at a level, counted from 1."""
    return math.ceil(level * (samples + 1) - _ROUNDING)


def samples_needed(level: float) -> int:
    """Return how many calibration samples a bound at a level takes at least."""
    return math.ceil(level / (1.0 - level) - _ROUNDING)


def quantile(scores: np.ndarray, level: float) -> float:
    """Return the bound that holds for the score of a new sample with probability `level` or more.

    Infinite where the scores, `(samples,)`, do not give one; a NaN counts as infinite.
    """
    k = rank(len(scores), level)
    if k > len(scores):
        return math.inf
    ordered = np.sort(np.where(np.isnan(scores), math.inf, scores))
    return float(ordered[k - 1])


def coverage_interval(covered: int, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the binomial confidence interval of a rate (Clopper and Pearson 1934).

    Without any sample it is the whole range.
    """
    tail = (1.0 - confidence) / 2.0
    low = beta.ppf(tail, covered, samples - covered + 1) if covered else 0.0
    high = beta.ppf(1.0 - tail, covered + 1, samples - covered) if covered < samples else 1.0
    return float(low), float(high)


def expected_coverage(
    calibration: int, samples: int, level: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the range in which the coverage of a sound bound lies, by the sizes of both splits.

    With continuous scores the number of covered samples has a beta-binomial distribution of
    parameters k and n + 1 - k (Vovk 2012, doi:10.1007/s10994-013-5355-6, section 2). There must be
    `samples_needed` calibration samples, and at least one to measure on.
    """
    k = rank(calibration, level)
    counts = betabinom(samples, k, calibration + 1 - k)
    tail = (1.0 - confidence) / 2.0
    return float(counts.ppf(tail)) / samples, float(counts.ppf(1.0 - tail)) / samples


class Measure(NamedTuple):
    """A measure of the error of one field of one sample."""

    words: str
    physical: bool  # whether it carries the field's unit; otherwise it is a fraction
    by_frame: bool  # whether a state has one for each frame, rather than one for all together


MEASURES = {
    "rmse": Measure("root mean square error", physical=True, by_frame=True),
    "max_error": Measure("largest error", physical=True, by_frame=True),
    "relative_l2": Measure("relative L2 error", physical=False, by_frame=False),
}
"""By key in `reports/trust.json`, which is also in the name of an array in a store."""


def as_told(bounds: Mapping[str, Mapping[str, Any]], timed: Collection[str]) -> dict[str, Any]:
    """Return bounds `(samples, frames)` by the name of an array; `(samples,)` if not by frame."""
    return {
        f"{name}_{kind}_bound": bound if MEASURES[kind].by_frame and name in timed else bound[:, 0]
        for name, measures in bounds.items() for kind, bound in measures.items()
    }  # fmt: skip


def sample_errors(predicted: np.ndarray, truth: np.ndarray, state: bool) -> dict[str, np.ndarray]:
    """Measure each prediction of one field, `(samples, *dims)`, a state `(samples, frames, *grid)`.

    The truth is NaN where it is missing, which is not compared.

    Returns:
        By measure, shape `(samples, frames)`, or `(samples, 1)` where there is one error for all of
        a sample. NaN where no truth is known; infinite where a prediction is not finite, or the
        truth is zero everywhere and the error is relative to it.
    """
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    samples = len(p)
    whole = (samples, 1, -1)
    frames = (samples, p.shape[1], -1) if state else whole
    known = ~np.isnan(t)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.where(known, np.abs(p - np.where(known, t, 0.0)), 0.0)
        error[np.isnan(error)] = np.inf
        squared, by_frame = error**2, known.reshape(frames).any(axis=2)
        counts = known.reshape(frames).sum(axis=2)
        rmse = np.sqrt(squared.reshape(frames).sum(axis=2) / np.maximum(counts, 1))
        norm = np.sqrt(squared.reshape(whole).sum(axis=2))
        size = np.sqrt((np.where(known, t, 0.0).reshape(whole) ** 2).sum(axis=2))
        relative = np.where(norm == 0.0, 0.0, norm / size)
    return {
        "rmse": np.where(by_frame, rmse, np.nan),
        "max_error": np.where(by_frame, error.reshape(frames).max(axis=2), np.nan),
        "relative_l2": np.where(known.reshape(whole).any(axis=2), relative, np.nan),
    }


def size(predicted: Tensor) -> Tensor:
    """Return the root mean square of each prediction of one field, shape `(samples,)`, float64."""
    values = predicted.double() if predicted.ndim > 1 else predicted.double()[:, None]
    return (values.flatten(1) ** 2).mean(1).sqrt()


Signals = Mapping[str, Tensor]
"""Numbers known of each prediction, shape `(samples,)`, by name."""


class Factor(Config):
    """One number known of a prediction, and how the error grows with it.

    It counts with the least value it was fitted to, or more: nothing is known of errors below.
    """

    exponent: float = Field(ge=0.0)  # `b`; with 0 the number tells nothing
    centre: float = Field(gt=0.0)  # `c`, in the number's unit
    least: float = Field(gt=0.0)


class Scale(Config):
    """The scale of an error, by name of the number; no factor where all are taken to err alike."""

    factors: Mapping[str, Factor] = Field(default_factory=dict)

    @classmethod
    def fit(cls, signals: Signals, errors: np.ndarray) -> Scale:
        """Fit exponents to errors, by least squares of their logarithms.

        Errors are `(samples, kinds)`, each kind of its own size. Zeros and infinities are left out.
        """
        arrays = {name: np.asarray(values) for name, values in signals.items()}
        names = [name for name, values in arrays.items() if _tells(values)]
        if not names:
            return cls()
        least = {name: float(np.min(arrays[name][_usable(arrays[name])])) for name in names}
        logs = np.stack([np.log(np.maximum(arrays[n], least[n])) for n in names], axis=1)
        left, right = [], []
        for errs in errors.T:
            fine = _usable(errs) & np.isfinite(logs).all(axis=1)
            if fine.sum() > len(names) + 1:
                left.append(logs[fine] - logs[fine].mean(axis=0))
                right.append(np.log(errs[fine]) - np.log(errs[fine]).mean())
        if not left:
            return cls()
        exponents, _ = nnls(np.concatenate(left), np.concatenate(right))
        centres = np.exp(np.mean(logs[np.isfinite(logs).all(axis=1)], axis=0))
        factors = {
            name: Factor(exponent=float(b), centre=float(c), least=least[name])
            for name, b, c in zip(names, exponents, centres, strict=True)
            if b > 0.0
        }
        return cls(factors=factors)

    def of(self, signals: Signals) -> Tensor:
        """Return the scale of each prediction, `(samples,)`; infinite where one is not known."""
        scale = torch.ones_like(signals["distance"])
        for name, factor in self.factors.items():
            known = signals.get(name, torch.full_like(scale, math.inf))
            known = torch.where(known.isnan(), math.inf, known).clamp(min=factor.least)
            scale = scale * (known / factor.centre) ** factor.exponent
        return scale


def _usable(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values > 0.0)


def _tells(values: np.ndarray) -> bool:
    """Whether a number differs among samples, and is usable in most of them."""
    usable = values[_usable(values)]
    return 2 * len(usable) > len(values) and float(np.ptp(usable)) > 0.0
