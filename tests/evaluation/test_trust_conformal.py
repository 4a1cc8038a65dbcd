"""Split-conformal bounds: coverage is exact, whatever the scores' distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from mno.surrogate.trust.bounds import (
    Scale,
    coverage_interval,
    expected_coverage,
    quantile,
    rank,
    samples_needed,
)
from mno.surrogate.trust.out_of_distribution import OutOfDistribution


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
    inside = np.mean([low <= rate <= high for rate in rates])
    assert 0.94 <= inside <= 0.99


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
    of = scale.of({"signal": np.array([np.nan, 0.0, 1.0])}, 3)
    assert math.isinf(of[0])
    assert of[1] == of[2] > 0.0
    assert np.isinf(scale.of({}, 2)).all()


@pytest.mark.parametrize("errors", [np.zeros((50, 1)), np.full((50, 1), np.nan)])
def test_a_scale_of_errors_that_say_nothing_is_constant(errors):
    assert not Scale.fit({"signal": np.linspace(1.0, 2.0, 50)}, errors).factors


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(1)
    names = ("a", "b", "c")
    mix = rng.standard_normal((3, 3))
    train, validation, new = (rng.standard_normal((n, 3)) @ mix for n in (500, 399, 20000))
    likeness = OutOfDistribution.fit(names, train)
    likeness = likeness.calibrated(likeness.distances(validation), 0.05)
    rate = likeness.unlike(likeness.distances(new)).mean()
    assert likeness.false_alarm_rate == 0.05
    assert rate == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 399))


def test_a_feature_that_never_varied_gives_a_far_input_away():
    train = np.stack([np.random.default_rng(0).random(50), np.full(50, 3.0)], axis=1)
    likeness = OutOfDistribution.fit(("varied", "constant"), train)
    likeness = likeness.calibrated(likeness.distances(train), 0.1)
    odd = np.array([[0.5, 3.3], [np.nan, 3.0]])
    assert likeness.unlike(likeness.distances(odd)).all()
    assert likeness.names[likeness.most_unusual(odd)[0]] == "constant"


def test_with_a_single_validation_sample_the_rate_is_what_one_sample_can_give():
    likeness = OutOfDistribution.fit(("a",), np.random.default_rng(0).random((20, 1)))
    one = likeness.calibrated(np.array([1.0]), 0.01)
    assert (one.threshold, one.false_alarm_rate) == (1.0, 0.5)
    assert not likeness.calibrated(np.empty(0), 0.01).unlike(np.array([9.0])).any()
