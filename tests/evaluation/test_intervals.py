"""Bootstrap intervals against scipy's, their coverage, and what has none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig
from mno.evaluation.intervals import Interval, intervals, intervals_of
from mno.evaluation.metrics import METRICS
from mno.evaluation.statistics import Statistics

CONFIG = IntervalConfig()
BY_NAME = {metric.name: metric for metric in METRICS}


def statistics(samples: int, seed: int = 0, noise: float = 0.3) -> Statistics:
    """Samples of which some are much harder than others."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(2, 1, (samples, 20))
    hard = np.random.default_rng(99).exponential(1, (samples, 1))
    return Statistics.of(truth + noise * hard * rng.normal(size=truth.shape), truth)


def of(found: Statistics, name: str, config: IntervalConfig = CONFIG, less: Any = None) -> Interval:
    """Return the interval of a metric, or of its difference from that of others."""
    figure = BY_NAME[name].figure(found)
    if less is not None:
        figure = figure.minus(BY_NAME[name].figure(less))
    interval = intervals({0: figure}, config)[0]
    assert isinstance(interval, Interval)
    return interval


@pytest.mark.parametrize("name", ["relative_l2", "rmse", "nrmse"])
def test_they_are_scipys_but_for_the_luck_of_the_draws(name):
    found = statistics(60)
    squares = (found.per_sample("squared_error"), found.per_sample("squared_truth"))

    def figure(error, truth, axis=-1):
        if name == "relative_l2":
            return np.mean(np.sqrt(error / truth), axis=axis)
        size = truth.sum(axis=axis) if name == "nrmse" else 20.0 * error.shape[axis]
        return np.sqrt(error.sum(axis=axis) / size)

    expected = stats.bootstrap(
        squares, figure, n_resamples=20_000, paired=True, method="percentile", rng=1
    ).confidence_interval
    interval = of(found, name, IntervalConfig(resamples=20_000))
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.05 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.05 * width)
    assert interval.low < BY_NAME[name].value(found) < interval.high


def test_nineteen_of_twenty_hold_the_truth():
    truth = math.sqrt(2) * 0.3  # of the RMSE: the root mean square of the samples' hardness
    config = IntervalConfig(resamples=400)
    held, trials = 0, 300
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        error = 0.3 * rng.exponential(1, (80, 1)) * rng.normal(size=(80, 20))
        interval = of(Statistics.of(error, np.zeros_like(error)), "rmse", config)
        held += interval.low <= truth <= interval.high
    assert 0.85 <= held / trials <= 0.98  # a percentile interval is a little short at 80 samples


def test_a_higher_level_is_wider_and_a_seed_is_reproducible():
    found = statistics(40)
    narrow, wide = (of(found, "rmse", IntervalConfig(level=level)) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert of(found, "rmse") == of(found, "rmse")
    assert of(found, "rmse", IntervalConfig(seed=1)) != of(found, "rmse")


def test_more_samples_than_fit_at_once_change_nothing(monkeypatch):
    found = statistics(40)
    whole = of(found, "rmse")
    monkeypatch.setattr("mno.evaluation.intervals._AT_ONCE", 40 * 7)
    assert of(found, "rmse") == whole


def test_a_difference_is_that_of_the_same_samples():
    a, b = statistics(60, noise=0.30), statistics(60, noise=0.32)
    alone = [of(found, "rmse") for found in (a, b)]
    assert alone[0].high > alone[1].low  # each alone does not tell them apart
    paired = of(a, "rmse", less=b)
    assert paired.high < 0
    assert of(b, "rmse", less=a) == Interval(-paired.high, -paired.low)
    assert of(a, "rmse", less=a) == Interval(0.0, 0.0)


def test_a_difference_of_other_samples_is_refused():
    with pytest.raises(ValueError, match="figures of 5 and of 6 samples"):
        of(statistics(5), "rmse", less=statistics(6))
    both = {n: BY_NAME["rmse"].figure(statistics(n)) for n in (5, 6)}
    with pytest.raises(ValueError, match="different numbers of samples"):
        intervals(both, CONFIG)


def test_what_has_no_interval_says_why():
    one, many = statistics(1), statistics(9)
    for found, name, reason in (
        (one, "rmse", "interval.one_sample"),
        (many, "max_error", "interval.largest"),
        (many, "boundary_rmse", "grid.not_given"),
    ):
        interval = intervals({0: BY_NAME[name].figure(found)}, CONFIG)[0]
        assert isinstance(interval, Absent)
        assert interval.code == reason


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_has_an_interval_of_none(bad):
    prediction = np.ones((4, 3))
    prediction[2, 1] = bad
    interval = of(Statistics.of(prediction, np.full((4, 3), 2.0)), "relative_l2")
    assert math.isnan(interval.low) and math.isnan(interval.high)


@pytest.mark.filterwarnings("error")
def test_samples_without_truth_do_not_count():
    truth = np.random.default_rng(0).normal(2, 1, (6, 5))
    truth[:4] = math.nan
    interval = of(Statistics.of(np.zeros((6, 5)), truth), "rmse")
    assert 0 < interval.low <= interval.high < math.inf
    truth[4] = math.nan
    figure = BY_NAME["rmse"].figure(Statistics.of(np.zeros((6, 5)), truth))
    assert "one sample" in str(intervals({0: figure}, CONFIG)[0])


def test_the_table_has_the_paths_of_the_metrics():
    ways = {"": {"t": statistics(9)}, "baseline_": {"t": statistics(9, noise=5.0)}}
    found = intervals_of(ways, CONFIG)
    assert found["level"] == 0.95
    assert found["relative_l2"] == found["fields"]["t"]["relative_l2"]
    assert found["baseline_relative_l2"] == found["fields"]["t"]["baseline_relative_l2"]
    assert found["relative_l2_minus_baseline_relative_l2"][1] < 0
    assert "boundary_rmse" not in found["fields"]["t"]
    assert isinstance(found["fields"]["t"]["max_error"], Absent)
