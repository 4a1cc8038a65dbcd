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
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.optimize import nnls
from scipy.stats import beta, betabinom

from mno.core.config import Config

_ROUNDING = 1e-9  # 0.9 * (n + 1) is not exact


def rank(samples: int, level: float) -> int:
    """Return which of the sorted scores bounds a new one at a level, counted from 1."""
    return math.ceil(level * (samples + 1) - _ROUNDING)


def samples_needed(level: float) -> int:
    """Return how many calibration samples a bound at a level takes at least."""
    return math.ceil(level / (1.0 - level) - _ROUNDING)


def quantile(scores: np.ndarray, level: float) -> float:
    """Return the bound on the score of a new sample; infinite where the samples do not give one.

    Args:
        scores: Of calibration samples, shape `(samples,)`; NaN counts as infinite.
        level: Probability with which the bound is to hold at least.
    """
    k = rank(len(scores), level)
    if k > len(scores):
        return math.inf
    ordered = np.sort(np.where(np.isnan(scores), math.inf, scores))
    return float(ordered[k - 1])


def coverage_interval(covered: int, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the binomial confidence interval of a rate (Clopper and Pearson 1934).

    Args:
        covered: How many samples had what is counted.
        samples: Of how many; 0 gives the whole range.
        confidence: Probability that the interval holds the rate, at least.
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
    parameters k and n + 1 - k (Vovk 2012, doi:10.1007/s10994-013-5355-6, section 2).

    Args:
        calibration: Samples that the bound was calibrated on, `samples_needed` or more.
        samples: Samples that coverage is measured on, at least one.
        level: Of the bound.
        confidence: Probability that the coverage lies in the range.
    """
    k = rank(calibration, level)
    counts = betabinom(samples, k, calibration + 1 - k)
    tail = (1.0 - confidence) / 2.0
    return float(counts.ppf(tail)) / samples, float(counts.ppf(1.0 - tail)) / samples


@dataclass(frozen=True)
class Measure:
    """A measure of the error of one field of one sample.

    Attributes:
        name: Key in `reports/trust.json`, and the end of an array's name in a store.
        words: What it is, for attributes and tables.
        physical: Whether it carries the field's unit; otherwise it is a fraction.
        by_frame: Whether a state has one for each frame, rather than one for all together.
    """

    name: str
    words: str
    physical: bool
    by_frame: bool


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("rmse", "root mean square error", physical=True, by_frame=True),
        Measure("max_error", "largest error", physical=True, by_frame=True),
        Measure("relative_l2", "relative L2 error", physical=False, by_frame=False),
    )
}


def sample_errors(predicted: np.ndarray, truth: np.ndarray, state: bool) -> dict[str, np.ndarray]:
    """Measure each prediction of one field.

    Args:
        predicted: Shape `(samples, *dims)`, a state `(samples, frames, *grid)`.
        truth: Likewise; NaN where it is missing, which is not compared.
        state: Whether the second axis is one of frames.

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


def size(predicted: np.ndarray) -> np.ndarray:
    """Return the root mean square of each prediction of one field, shape `(samples,)`."""
    flat = predicted.reshape(len(predicted), -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sqrt(np.mean(flat**2, axis=1))


Signals = Mapping[str, np.ndarray]


class Factor(Config):
    """One number known of a prediction, and how the error grows with it.

    Attributes:
        exponent: `b`; with 0 the number tells nothing.
        centre: `c`, in the number's unit.
        least: Smallest value that the number counts with: the least one it was fitted to, since
            nothing is known of errors below.
    """

    exponent: float = Field(ge=0.0)
    centre: float = Field(gt=0.0)
    least: float = Field(gt=0.0)


class Scale(Config):
    """The scale of an error.

    Attributes:
        factors: By name of the number; none where all predictions are taken to err alike.
    """

    factors: Mapping[str, Factor] = Field(default_factory=dict)

    @classmethod
    def fit(cls, signals: Signals, errors: np.ndarray) -> Scale:
        """Fit exponents to errors, by least squares of their logarithms.

        Args:
            signals: Numbers known of each prediction, shape `(samples,)`, by name.
            errors: Shape `(samples, kinds)`; each kind has a size of its own. Those that are zero
                or not finite are left out.
        """
        names = [name for name, values in signals.items() if _tells(values)]
        if not names:
            return cls()
        least = {name: float(np.min(signals[name][_usable(signals[name])])) for name in names}
        logs = np.stack([np.log(np.maximum(signals[n], least[n])) for n in names], axis=1)
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

    def of(self, signals: Signals, samples: int) -> np.ndarray:
        """Return the scale of each prediction, shape `(samples,)`; infinite where one is not known.

        Args:
            signals: As for `fit`.
            samples: Their number.
        """
        scale = np.ones(samples)
        for name, factor in self.factors.items():
            if name not in signals:
                return np.full(samples, np.inf)
            known = np.where(np.isnan(signals[name]), np.inf, signals[name])
            scale *= (np.maximum(known, factor.least) / factor.centre) ** factor.exponent
        return scale


def _usable(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values > 0.0)


def _tells(values: np.ndarray) -> bool:
    """Whether a number differs among samples, and is usable in most of them."""
    usable = values[_usable(values)]
    return 2 * len(usable) > len(values) and float(np.ptp(usable)) > 0.0
