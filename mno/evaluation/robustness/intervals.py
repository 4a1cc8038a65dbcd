"""Bootstrap intervals of the few samples that a trial has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mno.evaluation.metrics import mean

LEVEL, RESAMPLES = 0.95, 1000


def mean_interval(errors: np.ndarray, seed: int) -> tuple[float, float | None, float | None]:
    """Return the mean of some errors, and where it lies in 95 % of draws of other samples.

    The percentile bootstrap (Efron and Tibshirani 1993, chapter 13). Errors of the same number of
    samples are drawn alike, so that curves over the same samples move together.

    Args:
        errors: One for each sample, shape `(samples,)`; NaN gives NaN.
        seed: Of the draws.

    Returns:
        The mean and the two ends; no ends of a single sample, which shows no spread.
    """
    ends = _ends(errors, lambda drawn: np.mean(drawn, axis=1), seed, "linear")
    return mean(errors), *ends


def median_interval(values: np.ndarray, seed: int) -> tuple[float, float | None, float | None]:
    """Return the same of the median, of values that may be infinite: the lower of the middle two.

    Raises:
        ValueError: There are no values.
    """

    def middle(drawn: np.ndarray) -> np.ndarray:
        return np.quantile(drawn, 0.5, axis=1, method="inverted_cdf")

    (median,) = middle(values[None])
    return float(median), *_ends(values, middle, seed, "inverted_cdf")


def _ends(
    values: np.ndarray, figure: Callable[[np.ndarray], np.ndarray], seed: int, method: Any
) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    rng = np.random.default_rng(seed)
    drawn = figure(values[rng.integers(len(values), size=(RESAMPLES, len(values)))])
    if np.isnan(drawn).any():
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):  # between two infinite ones
        low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], method=method)
    return float(low), float(high)
