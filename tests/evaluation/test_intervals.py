"""Bootstrap intervals, conformal bounds and learning curves: how far figures are to be trusted."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import binomtest

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig
from mno.evaluation.intervals import Interval, intervals, intervals_of
from mno.evaluation.learning import FURTHEST, LearningCurve, fit_points
from mno.evaluation.metrics import METRICS
from mno.evaluation.statistics import Statistics
from mno.surrogate.trust.bounds import (
    Scale,
    coverage_interval,
    expected_coverage,
    quantile,
    rank,
    samples_needed,
)
from mno.surrogate.trust.trust import coverage

CONFIG = IntervalConfig()
BY_NAME = {metric.name: metric for metric in METRICS}


def statistics(samples, seed=0, noise=0.3):
    """Samples of which some are much harder than others."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(2, 1, (samples, 20))
    hard = np.random.default_rng(99).exponential(1, (samples, 1))
    return Statistics.of(truth + noise * hard * rng.normal(size=truth.shape), truth)


def of(found, name, config=CONFIG, less=None):
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


def test_a_higher_level_is_wider_and_a_seed_is_reproducible(monkeypatch):
    found = statistics(40)
    narrow, wide = (of(found, "rmse", IntervalConfig(level=level)) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    whole = of(found, "rmse")
    assert of(found, "rmse", IntervalConfig(seed=1)) != whole
    monkeypatch.setattr("mno.evaluation.intervals._AT_ONCE", 40 * 7)
    assert of(found, "rmse") == whole, "more samples than fit at once change nothing"


def test_a_difference_is_that_of_the_same_samples():
    a, b = statistics(60, noise=0.30), statistics(60, noise=0.32)
    alone = [of(found, "rmse") for found in (a, b)]
    assert alone[0].high > alone[1].low  # each alone does not tell them apart
    paired = of(a, "rmse", less=b)
    assert paired.high < 0
    assert of(b, "rmse", less=a) == Interval(-paired.high, -paired.low)
    assert of(a, "rmse", less=a) == Interval(0.0, 0.0)


def test_a_difference_of_other_samples_is_refused():
    with pytest.raises(ValueError, match="size 5 .* size 6"):
        of(statistics(5), "rmse", less=statistics(6))
    both = {n: BY_NAME["rmse"].figure(statistics(n)) for n in (5, 6)}
    with pytest.raises(ValueError, match="size 5 .* size 6"):
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


@pytest.mark.parametrize(("samples", "level"), [(9, 0.9), (19, 0.8), (37, 0.9), (200, 0.95)])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_new_score_is_within_its_bound_as_often_as_ranks_say(samples, level, heavy):
    rng, repeats = np.random.default_rng(samples), 8000
    draw = rng.standard_cauchy if heavy else rng.exponential
    scores = np.abs(draw(size=(repeats, samples + 1)))
    held = sum(row[-1] <= quantile(row[:-1], level) for row in scores)
    exact = rank(samples, level) / (samples + 1)
    assert level <= exact < level + 1 / (samples + 1)
    assert binomtest(held, repeats, exact).pvalue > 1e-4


def test_a_bound_takes_enough_samples():
    assert samples_needed(0.9) == 9
    assert math.isinf(quantile(np.arange(8.0), 0.9))
    assert quantile(np.arange(9.0), 0.9) == 8.0


def test_scores_that_are_no_number_count_as_the_largest():
    assert math.isinf(quantile(np.array([1.0] * 8 + [math.nan]), 0.9))
    assert quantile(np.array([1.0] * 18 + [math.nan]), 0.9) == 1.0


def test_the_interval_of_a_rate_is_the_binomial_one():
    for covered, samples in ((0, 10), (9, 10), (10, 10), (357, 400)):
        reference = binomtest(covered, samples).proportion_ci(0.95, method="exact")
        assert coverage_interval(covered, samples) == pytest.approx((reference.low, reference.high))


def test_coverage_lies_where_the_sizes_of_both_splits_say():
    low, high = expected_coverage(100, 50, 0.9)
    rng, rates = np.random.default_rng(0), []
    for _ in range(2000):
        bound = quantile(rng.random(100), 0.9)
        rates.append(np.mean(rng.random(50) <= bound))
    assert 0.94 <= np.mean([low <= rate <= high for rate in rates]) <= 0.99


def test_the_least_of_many_rates_is_where_it_is_expected():
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        bounds = np.array([[quantile(rng.random(50), 0.9) for _ in range(20)]])
        rates = coverage(rng.random((40, 20)), np.repeat(bounds, 40, axis=0), 50, 0.9, together=20)
        held.append(
            all(low <= rate.rate <= high for rate in rates for low, high in [rate.expected])
        )
    assert 0.93 <= np.mean(held) <= 1.0
    alone = coverage(rng.random((40, 1)), np.ones((40, 1)), 50, 0.9)[0]
    assert alone.expected[0] > rates[0].expected[0]


def test_a_scale_finds_what_errors_grow_with():
    rng = np.random.default_rng(0)
    telling, idle = np.exp(rng.standard_normal((2, 300)))
    errors = 3.0 * telling**0.7 * np.exp(0.1 * rng.standard_normal(300))
    scale = Scale.fit({"telling": telling, "idle": idle}, errors[:, None])
    assert scale.factors["telling"].exponent == pytest.approx(0.7, abs=0.05)
    assert "idle" not in scale.factors or scale.factors["idle"].exponent < 0.05


def test_a_scale_never_shrinks_where_a_number_grows():
    signal = np.linspace(1.0, 2.0, 50)
    assert not Scale.fit({"signal": signal}, (1.0 / signal)[:, None]).factors


def test_a_scale_is_infinite_where_a_number_is_unknown_and_bounded_below():
    signal = np.linspace(1.0, 2.0, 50)
    scale = Scale.fit({"signal": signal}, signal[:, None] ** 2)
    signals = {"distance": torch.ones(3), "signal": torch.tensor([math.nan, 0.0, 1.0])}
    of = scale.of(signals)
    assert math.isinf(of[0])
    assert of[1] == of[2] > 0.0
    assert scale.of({"distance": torch.ones(2)}).isinf().all()


@pytest.mark.parametrize("errors", [np.zeros((50, 1)), np.full((50, 1), np.nan)])
def test_a_scale_of_errors_that_say_nothing_is_constant(errors):
    assert not Scale.fit({"signal": np.linspace(1.0, 2.0, 50)}, errors).factors


SIZES = (400, 800, 1600, 3200)


def power_law(n, exponent=0.5, floor=0.0, level=0.04):
    return level * ((1 - floor) * (n / SIZES[-1]) ** -exponent + floor)


def fitted(exponent=0.5, floor=0.0, sizes=SIZES):
    return LearningCurve.fit(sizes, [power_law(n, exponent, floor) for n in sizes])


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_an_exact_power_law_is_carried_on(exponent):
    needed = fitted(exponent).samples_for(power_law(9600, exponent))
    assert needed.low and needed.middle
    assert needed.low <= 9600 * 1.001
    assert needed.high is None or needed.high >= 9600
    assert 9600 / 1.5 < needed.middle < 9600 * 1.5


def test_the_measured_points_themselves_are_reproduced():
    curve = fitted()
    for n in SIZES:
        error = curve.error(n)
        assert error.middle == pytest.approx(power_law(n), rel=0.03)
        assert error.low < power_law(n) < error.high


def test_a_floor_puts_errors_below_it_out_of_reach():
    curve = fitted(exponent=1.0, floor=0.8)
    assert curve.chance(0.5 * power_law(SIZES[-1])) < 0.1
    assert curve.samples_for(0.5 * power_law(SIZES[-1])).middle is None


def test_fewer_points_say_less():
    four, three = fitted(), fitted(sizes=SIZES[1:])
    wide, narrow = three.error(12_800), four.error(12_800)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_few_measured_samples_say_less_of_the_level():
    errors = [power_law(n) for n in SIZES]
    sure, unsure = (LearningCurve.fit(SIZES, errors, d).error(3200) for d in (0.0, 0.2))
    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = []
    for exponent, floor in ((0.3, 0.0), (0.6, 0.0), (0.6, 0.3), (1.0, 0.6)):
        truth = power_law(12_800, exponent, floor)
        for _ in range(25):
            noise = np.exp(rng.normal(0, 0.03, len(SIZES)))
            errors = [power_law(n, exponent, floor) * e for n, e in zip(SIZES, noise, strict=True)]
            found = LearningCurve.fit(SIZES, errors).error(12_800)
            held.append(found.low <= truth <= found.high)
    assert 0.82 <= np.mean(held) <= 1.0


def test_several_seeds_tell_of_the_scatter():
    def width(scatter):
        errors = [power_law(n) * (1 + s * scatter) for n in SIZES for s in (-1, 1)]
        found = LearningCurve.fit(np.repeat(SIZES, 2).tolist(), errors).error(12_800)
        return found.high - found.low

    assert width(0.15) > 1.5 * width(0.01)


def test_nothing_is_said_beyond_ten_times_the_samples():
    curve = fitted()
    assert curve.samples_for(power_law(3200 * 20)).middle is None
    with pytest.raises(ValueError, match="more than 10 times 3200"):
        curve.error(3200 * FURTHEST + 1)


def test_errors_that_do_not_fall_are_not_said_to():
    assert LearningCurve.fit(SIZES, [0.04, 0.041, 0.04, 0.04]).chance(0.02) < 0.05
    rising = LearningCurve.fit(SIZES, [0.04, 0.05, 0.06, 0.07])
    assert math.isfinite(rising.error(32_000).middle)
    assert rising.chance(0.03) < 0.05


@pytest.mark.parametrize(
    ("samples", "errors"),
    [((1, 2), (1.0, 0.5)), ((1, 2, 2), (1.0, 0.5, 0.5)), ((1, 2, 3), (1.0, 0.0, 0.5)),
     ((1, 2, 3), (1.0, math.nan, 0.5))],
)  # fmt: skip
def test_what_is_no_curve_is_refused(samples, errors):
    with pytest.raises(ValueError, match="3 numbers of samples or more, and errors above 0"):
        LearningCurve.fit(samples, errors)


def point(samples, error):
    found = {"relative_l2": error, "standard_error": 0.001, "measured": 400}
    return {"samples": samples, "validation": found, "test": found}


def test_points_without_an_error_are_left_out_and_too_few_are_explained():
    points = [point(n, power_law(n)) for n in SIZES]
    curve = fit_points({"points": [*points, point(200, None), point(100, 0.0)], "why_off": None})
    assert curve.largest == 3200
    few = fit_points({"points": [*points[:2], point(3200, None)], "why_off": None})
    assert isinstance(few, Absent) and str(few).startswith("2 numbers of training samples")
    assert fit_points({"points": [], "why_off": "not measured"}) == Absent("learning.off")
