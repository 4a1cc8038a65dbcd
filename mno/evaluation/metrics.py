"""Metrics: functions of additive statistics, in physical units.

For prediction p and truth t of one sample, with sums over all points of the field whose truth is
known:

    relative L2      mean over samples of ||p - t|| / ||t||
    RMSE             sqrt(sum over samples of ||p - t||^2 / number of points)
    nRMSE            sqrt(sum over samples of ||p - t||^2 / sum over samples of ||t||^2)
    maximum error    largest |p - t| of all points of all samples

PDEBench's nRMSE averages a ratio per sample, which is the relative L2 here; nRMSE here is pooled,
so it does not let samples of small magnitude dominate.

Defined answers where a denominator vanishes: a sample whose truth is zero everywhere has no
magnitude of its own, so its error is divided by the root mean square of ||t|| over the split. If
all truths are zero, a relative error is 0 where there is no error and infinite where there is. A
constant field and a single sample need no special case. NaN in a prediction gives NaN. A sample
without any known truth is not measured: its own relative error is NaN, and means leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mno.evaluation.statistics import Statistics


@dataclass(frozen=True)
class Metric:
    """A single number that says how far predictions are from the truth; smaller is better.

    Attributes:
        name: Key in `reports/metrics.json`.
        title: What a table's header says.
        explanation: One line for a reader who meets it for the first time.
        physical: Whether it carries the field's unit; otherwise it is a fraction.
        value: The function of the statistics.
    """

    name: str
    title: str
    explanation: str
    physical: bool
    value: Callable[[Statistics], float]


def relative_l2_per_sample(statistics: Statistics) -> np.ndarray:
    """Return ||p - t|| / ||t|| of every sample, shape `(samples,)`; NaN where not measured."""
    squared_error = statistics.per_sample("squared_error")
    squared_truth = statistics.per_sample("squared_truth")
    measured = statistics.measured
    typical = statistics.total("squared_truth") / max(int(measured.sum()), 1)
    ratios = _ratio(squared_error, np.where(squared_truth == 0, typical, squared_truth))
    return np.where(measured, ratios, math.nan)


def mean_relative_l2(statistics: Statistics) -> float:
    """Return the mean relative L2 over the samples that were measured; NaN where none was."""
    return mean(relative_l2_per_sample(statistics)[statistics.measured])


def mean(values: np.ndarray) -> float:
    """Return the mean by an exact sum, so that order does not matter; NaN without values."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def _ratio(squared_error: np.ndarray, squared_size: np.ndarray) -> np.ndarray:
    """Return sqrt(error / size), with 0 for 0 / 0 and infinity for a positive number / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(squared_error) / np.sqrt(squared_size)
    return np.where(squared_error == 0, 0.0, ratio)


def _rmse(statistics: Statistics) -> float:
    points = statistics.total("points")
    return math.sqrt(statistics.total("squared_error") / points) if points else math.nan


def _nrmse(statistics: Statistics) -> float:
    error, truth = statistics.total("squared_error"), statistics.total("squared_truth")
    return float(_ratio(np.array(error), np.array(truth))) if _any(statistics) else math.nan


def _max_error(statistics: Statistics) -> float:
    return statistics.largest("max_error") if _any(statistics) else math.nan


def _any(statistics: Statistics) -> bool:
    return bool(statistics.measured.any())


METRICS = (
    Metric(
        "relative_l2",
        "Relative L2",
        "Size of the error divided by the size of the true field, averaged over samples; "
        "0 % is perfect, 100 % is no better than predicting zero.",
        False,
        mean_relative_l2,
    ),
    Metric(
        "rmse",
        "RMSE",
        "Root mean square error: the typical error at one point, in the field's own unit.",
        True,
        _rmse,
    ),
    Metric(
        "nrmse",
        "nRMSE",
        "RMSE divided by the root mean square of the true field over the whole test split; "
        "large fields weigh more than in the relative L2.",
        False,
        _nrmse,
    ),
    Metric(
        "max_error",
        "Maximum error",
        "The largest error at any point of any test sample, in the field's own unit.",
        True,
        _max_error,
    ),
)
