"""Metrics against plain formulas, in any grouping, and where a denominator vanishes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mno.evaluation.metrics import METRICS, mean, relative_l2_per_sample
from mno.evaluation.statistics import POINTWISE, Statistics


def values(statistics: Statistics) -> dict[str, float]:
    return {metric.name: metric.value(statistics) for metric in METRICS}


def fields(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 2, shape).astype(np.float32)
    return (truth + rng.normal(0, 0.3, shape)).astype(np.float32), truth


@pytest.mark.parametrize("shape", [(9, 50), (6, 7, 8), (3, 4, 5, 6), (1, 8, 8), (4, 1)])
def test_metrics_equal_the_plain_formulas(shape: tuple[int, ...]) -> None:
    prediction, truth = fields(shape)
    p, t = (a.reshape(len(a), -1).astype(np.float64) for a in (prediction, truth))
    found = values(Statistics.of(prediction, truth))
    ratios = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(p, t, strict=True)]
    assert found["relative_l2"] == pytest.approx(np.mean(ratios), rel=1e-12)
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean((p - t) ** 2)), rel=1e-12)
    scale = math.sqrt(stats.moment(t.ravel(), 2, center=0))
    assert found["nrmse"] == pytest.approx(found["rmse"] / scale, rel=1e-12)
    assert found["max_error"] == pytest.approx(np.abs(p - t).max(), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=8), seed=st.integers(0, 2**31))
def test_any_grouping_into_batches_gives_the_same_bits(sizes: list[int], seed: int) -> None:
    prediction, truth = fields((sum(sizes), 5, 7), seed)
    whole = Statistics.of(prediction, truth)
    parts, start = [], 0
    for size in sizes:
        batch = slice(start, start + size)
        parts.append(Statistics.of(prediction[batch], truth[batch]))
        start += size
    assert len(parts) > 1
    assert values(sum(parts, Statistics())) == values(whole)
    other_order = sum(reversed(parts), Statistics())
    assert values(other_order) == values(whole)


def test_memory_layout_does_not_change_a_bit() -> None:
    prediction, truth = fields((4, 33, 17))
    strided = np.asfortranarray(prediction), np.asfortranarray(truth)
    assert values(Statistics.of(*strided)) == values(Statistics.of(prediction, truth))


def test_a_silent_sample_is_measured_against_the_typical_magnitude() -> None:
    truth = np.array([[3.0, 4.0], [0.0, 0.0]])
    prediction = np.array([[3.0, 4.0], [0.6, 0.8]])
    per_sample = relative_l2_per_sample(Statistics.of(prediction, truth))
    assert per_sample == pytest.approx([0.0, 1.0 / math.sqrt(25 / 2)], rel=1e-14)


def test_zero_truth_everywhere_is_zero_if_met_and_infinite_if_not() -> None:
    zeros, ones = np.zeros((3, 4)), np.ones((3, 4))
    assert set(values(Statistics.of(zeros, zeros)).values()) == {0.0}
    missed = values(Statistics.of(ones, zeros))
    assert missed == {"relative_l2": math.inf, "rmse": 1.0, "nrmse": math.inf, "max_error": 1.0}


def test_constant_fields_and_single_samples_need_no_special_case() -> None:
    found = values(Statistics.of(np.full((1, 3, 3), 5.0), np.full((1, 3, 3), 4.0)))
    assert found == pytest.approx(
        {"relative_l2": 0.25, "rmse": 1.0, "nrmse": 0.25, "max_error": 1.0}, rel=1e-14
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_reported_and_spoils_no_other_sample(bad: float) -> None:
    prediction, truth = fields((3, 4))
    prediction[1, 2] = bad
    statistics = Statistics.of(prediction, truth)
    assert not any(math.isfinite(value) for value in values(statistics).values())
    assert np.isfinite(relative_l2_per_sample(statistics)).tolist() == [True, False, True]


def test_no_samples_give_no_number() -> None:
    assert all(math.isnan(value) for value in values(Statistics()).values())
    assert math.isnan(mean(np.array([])))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        Statistics.of(np.zeros((2, 3)), np.zeros((2, 4)))


def test_every_metric_is_explained_and_every_statistic_has_a_value_per_sample() -> None:
    statistics = Statistics.of(*fields((3, 4)))
    assert all(len(statistics.per_sample(name)) == 3 for name in STATISTICS)
    assert all(metric.explanation.endswith(".") and metric.title for metric in METRICS)
