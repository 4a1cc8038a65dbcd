"""Metrics against plain formulas, in any grouping, and where a denominator vanishes."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mno.core.absent import Absent
from mno.evaluation.metrics import METRICS, mean, relative, spectra_of
from mno.evaluation.statistics import POINTWISE, Space, Statistics


def values(statistics: Statistics) -> dict[str, float]:
    """Return the metrics that there are."""
    found = {metric.name: metric.value(statistics) for metric in METRICS}
    return {name: value for name, value in found.items() if not isinstance(value, Absent)}


def unit_square(*shape: int) -> Space:
    return Space(shape, tuple(1 / n for n in shape))


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
    prediction, truth = fields((sum(sizes), 3, 25, 27), seed)
    space = unit_square(25, 27)
    whole = Statistics.of(prediction, truth, space)
    assert len(values(whole)) == len(METRICS)
    parts, start = [], 0
    for size in sizes:
        batch = slice(start, start + size)
        parts.append(Statistics.of(prediction[batch], truth[batch], space))
        start += size
    assert len(parts) > 1
    assert values(sum(parts, Statistics())) == values(whole)
    other_order = sum(reversed(parts), Statistics())
    assert values(other_order) == values(whole)


def test_any_number_of_workers_gives_the_same_bits() -> None:
    prediction, truth = fields((23, 25, 26))
    space = unit_square(25, 26)
    chunks = [slice(start, start + 4) for start in range(0, len(truth), 4)]
    assert len(chunks) > 1
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        given = ([a[chunk] for chunk in chunks] for a in (prediction, truth))
        parts = list(workers.map(Statistics.of, *given, repeat(space), repeat(True)))
    together, serial = sum(parts, Statistics()), Statistics.of(prediction, truth, space, True)
    assert values(together) == values(serial)
    assert spectra_of(together) == spectra_of(serial)


def test_memory_layout_does_not_change_a_bit() -> None:
    prediction, truth = fields((4, 33, 27))
    strided, space = (np.asfortranarray(prediction), np.asfortranarray(truth)), unit_square(33, 27)
    assert values(Statistics.of(*strided, space)) == values(Statistics.of(prediction, truth, space))


def test_a_silent_sample_is_measured_against_the_typical_magnitude() -> None:
    truth = np.array([[3.0, 4.0], [0.0, 0.0]])
    prediction = np.array([[3.0, 4.0], [0.6, 0.8]])
    per_sample = relative(Statistics.of(prediction, truth)).per_sample()
    assert per_sample == pytest.approx([0.0, 1.0 / math.sqrt(25 / 2)], rel=1e-14)


def test_zero_truth_everywhere_is_zero_if_met_and_infinite_if_not() -> None:
    zeros, ones, space = np.zeros((3, 26)), np.ones((3, 26)), unit_square(26)
    nothing = values(Statistics.of(zeros, zeros, space))
    assert set(nothing) == {metric.name for metric in METRICS}
    assert set(nothing.values()) == {0.0}
    assert values(Statistics.of(ones, zeros, space)) == pytest.approx(
        {
            "relative_l2": math.inf, "rmse": 1.0, "nrmse": math.inf, "max_error": 1.0,
            "boundary_rmse": 1.0, "conserved_rmse": 1.0, "fourier_low_rmse": 1.0,
            "fourier_middle_rmse": 0.0, "fourier_high_rmse": 0.0, "relative_h1": math.inf,
        },
        abs=1e-12,
    )  # fmt: skip


def test_constant_fields_and_single_samples_need_no_special_case() -> None:
    five, four = np.full((1, 3, 3), 5.0), np.full((1, 3, 3), 4.0)
    found = values(Statistics.of(five, four, unit_square(3, 3)))
    assert found == pytest.approx(
        {
            "relative_l2": 0.25, "rmse": 1.0, "nrmse": 0.25, "max_error": 1.0,
            "boundary_rmse": 1.0, "conserved_rmse": 1.0, "fourier_low_rmse": 1.0,
            "relative_h1": 0.25,
        },
        rel=1e-14,
    )  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_reported_and_spoils_no_other_sample(bad: float) -> None:
    prediction, truth = fields((3, 32))
    prediction[1, 0] = bad
    statistics = Statistics.of(prediction, truth, unit_square(32))
    assert len(values(statistics)) == len(METRICS)
    assert not any(math.isfinite(value) for value in values(statistics).values())
    for metric in METRICS:
        alone = metric.per_sample(statistics)
        assert np.isfinite(alone).tolist() == [True, False, True]


def test_no_samples_give_no_number() -> None:
    assert all(math.isnan(value) for value in values(Statistics()).values())
    none = Statistics.of(np.zeros((0, 26)), np.zeros((0, 26)), unit_square(26))
    assert len(values(none)) == len(METRICS)
    assert all(math.isnan(value) for value in values(none).values())
    assert math.isnan(mean(np.array([])))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        Statistics.of(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"\(3,\); expected the grid's \(4,\)"):
        Statistics.of(np.zeros((2, 3)), np.zeros((2, 3)), unit_square(4))


def test_every_statistic_has_a_value_per_sample() -> None:
    statistics = Statistics.of(*fields((3, 4)))
    assert all(len(statistics.per_sample(name)) == 3 for name in POINTWISE)


def test_a_metric_of_one_sample_is_its_own() -> None:
    prediction, truth = fields((5, 26, 25))
    space = unit_square(26, 25)
    together = Statistics.of(prediction, truth, space)
    for metric in METRICS:
        alone = [
            metric.value(Statistics.of(prediction[k : k + 1], truth[k : k + 1], space))
            for k in range(5)
        ]
        assert metric.per_sample(together) == pytest.approx(alone, rel=1e-14)
