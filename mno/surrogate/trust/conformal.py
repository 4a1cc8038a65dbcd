"""Split-conformal prediction: bounds that hold at a stated rate, whatever the model.

Scores of calibration samples and of a new one are exchangeable, so the new one lies at any rank
among them with equal probability. Its score is at most the k-th smallest of n with probability
k / (n + 1) or more (Vovk, Gammerman and Shafer 2005; Lei et al. 2018,
doi:10.1080/01621459.2017.1307116, section 2.2).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import beta, betabinom

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
