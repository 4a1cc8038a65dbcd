"""Bootstrap intervals: how far a figure would move if other samples had been drawn for the test.

The samples of the split are drawn anew, with replacement, as many as there are, again and again;
the figure is computed each time, and the interval holds the middle of what comes out (Efron and
Tibshirani 1993, An Introduction to the Bootstrap, chapter 13: the percentile interval). Two models
are compared on the same drawn samples, so that what is hard for both does not hide how they differ.

It tells of the choice of test samples and of nothing else: not of the luck of training, nor of
inputs unlike those of the split.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig
from mno.evaluation.metrics import METRICS, Figure, Largest, Pooled, mean, pooled_relative_l2
from mno.evaluation.statistics import Statistics

Key = TypeVar("Key")
_AT_ONCE = 2**18  # weights, so that memory does not grow with the number of samples


class Interval(NamedTuple):
    """Where a figure lies with the confidence that was asked for; both ends NaN where it is NaN."""

    low: float
    high: float


def intervals(
    figures: Mapping[Key, Figure], config: IntervalConfig
) -> dict[Key, Interval | Absent]:
    """Return the interval of each figure, all of the same samples, or why it has none."""
    found: dict[Key, Interval | Absent] = {}
    pooled: dict[Key, Pooled] = {}
    for key, figure in figures.items():
        found[key] = Absent("interval.one_sample")
        if isinstance(figure, Absent):
            found[key] = figure
        elif isinstance(figure, Largest):
            found[key] = Absent("interval.largest")
        elif np.any(figure.columns != 0, axis=0).sum() > 1:
            pooled[key] = figure
    if not pooled:
        return found
    sums = _resampled(np.concatenate([figure.columns for figure in pooled.values()]), config)
    ends = np.cumsum([len(figure.columns) for figure in pooled.values()])
    for (key, figure), own in zip(pooled.items(), np.split(sums, ends[:-1]), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            values = figure.of(own)
        known = values[~np.isnan(values)]  # draws without any measured sample do not count
        found[key] = Interval(math.nan, math.nan)
        if math.isfinite(figure.value()) and np.isfinite(known).all() and known.size:
            low, high = np.quantile(known, [(1 - config.level) / 2, (1 + config.level) / 2])
            found[key] = Interval(float(low), float(high))
    return found


def intervals_of(
    ways: Mapping[str, Mapping[str, Statistics]], config: IntervalConfig
) -> dict[str, Any]:
    """Return the intervals of all metrics as `reports/metrics.json` holds them.

    They are of each field by way to predict: `""` for the surrogate, and prefixes for what it is
    compared with. By the metrics' own paths there are two numbers each, or why there is no
    interval; and, as `relative_l2_minus_<way>relative_l2`, that of the surrogate's error minus
    another's, below 0 throughout where the surrogate is better.
    """
    overall = {f"{way}relative_l2": pooled_relative_l2(fields) for way, fields in ways.items()}
    own = overall["relative_l2"]
    others = {f"relative_l2_minus_{k}": own.minus(f) for k, f in overall.items() if f is not own}
    figures: dict[tuple[str, ...], Figure] = {(k,): f for k, f in (overall | others).items()}
    for way, fields in ways.items():
        for name, statistics in fields.items():
            for metric in METRICS:
                figure = metric.figure(statistics)
                if not isinstance(figure, Absent):
                    figures["fields", name, f"{way}{metric.name}"] = figure
    found: dict[str, Any] = {"level": config.level, "resamples": config.resamples}
    found["fields"] = {name: {} for name in ways[""]}
    for path, interval in intervals(figures, config).items():
        place = found if len(path) == 1 else found["fields"][path[1]]
        place[path[-1]] = interval if isinstance(interval, Absent) else list(interval)
    return found


def _resampled(columns: np.ndarray, config: IntervalConfig) -> np.ndarray:
    """Return the sums of columns `(sums, samples)` over drawn samples, `(sums, resamples)`.

    Sums are not taken by a matrix product, whose last bits hang on the number of threads.
    """
    samples = columns.shape[1]
    rng = np.random.default_rng(config.seed)
    step = max(1, _AT_ONCE // samples)
    shares = np.full(samples, 1.0 / samples)
    parts = []
    for start in range(0, config.resamples, step):
        drawn = rng.multinomial(samples, shares, size=min(step, config.resamples - start))
        parts.append(np.einsum("cs,rs->cr", columns, drawn.astype(np.float64), optimize=False))
    return np.concatenate(parts, axis=1)


LEVEL, RESAMPLES = 0.95, 1000


def mean_interval(errors: np.ndarray, seed: int) -> tuple[float, float | None, float | None]:
    """Return the mean of some errors, and where it lies in 95 % of draws of other samples.

    The ends are None of a single sample, which shows no spread; NaN gives NaN. Errors of the same
    number of samples are drawn alike, so that curves over the same samples move together.
    """
    return mean(errors), *_ends(errors, lambda drawn: np.mean(drawn, axis=1), seed, "linear")


def median_interval(values: np.ndarray, seed: int) -> tuple[float, float | None, float | None]:
    """Return the same of the median (the lower middle one), of values that may be infinite."""

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
