"""Metrics against independent implementations: torchmetrics, scipy, and loops over points."""

import itertools
import math
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, spatial

from mno.core.absent import Absent
from mno.core.fields import Axis, Field
from mno.data.normalise import Normaliser
from mno.data.reading import Schema
from mno.evaluation.metrics import METRICS, mean, relative, root_mean, spectra_of
from mno.evaluation.statistics import Space, Statistics, of_frames, space_of

# Shape of the fields, frames among it, and of the grid with its spacing.
CASES = {
    "1-D": ((6, 48), Space((48,), (0.1,))),
    "2-D, odd": ((5, 27, 25), Space((27, 25), (0.04, 0.04))),
    "2-D, long": ((4, 26, 30), Space((26, 30), (0.5, 0.1))),
    "2-D over time": ((3, 4, 26, 28), Space((26, 28), (1 / 26, 1 / 28))),
    "3-D": ((2, 9, 8, 26), Space((9, 8, 26), (0.1, 0.2, 0.1))),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    shape, space = CASES[request.param]
    rng = np.random.default_rng(3)
    truth = rng.normal(3, 2, shape)
    return truth + rng.normal(0.1, 0.3, shape), truth, space


@pytest.fixture
def found(case):
    prediction, truth, space = case
    statistics = Statistics.of(prediction, truth, space)
    return {metric.name: metric.value(statistics) for metric in METRICS}


def frames(field, space):
    return field.reshape(len(field), -1, *space.shape)


def test_pointwise_metrics_equal_torchmetrics(case, found):
    p, t = (torch.from_numpy(a) for a in case[:2])
    assert found["rmse"] == pytest.approx(
        torchmetrics.functional.mean_squared_error(p, t, squared=False).item(), rel=1e-6
    )
    nrmse = torchmetrics.functional.normalized_root_mean_squared_error(
        p.ravel(), t.ravel(), normalization="l2"
    )
    # That of torchmetrics divides by the norm instead of the root mean square.
    assert found["nrmse"] == pytest.approx(nrmse.item() * math.sqrt(t.numel()), rel=1e-6)
    largest = torchmetrics.MaxMetric()
    largest.update((p - t).abs())
    assert found["max_error"] == pytest.approx(largest.compute().item(), rel=1e-6)


def test_relative_l2_equals_scipys_distance(case, found):
    p, t = (a.reshape(len(a), -1) for a in case[:2])
    ratios = [
        spatial.distance.euclidean(a, b) / spatial.distance.euclidean(b, 0 * b)
        for a, b in zip(p, t, strict=True)
    ]
    assert found["relative_l2"] == pytest.approx(np.mean(ratios), rel=1e-6)


def test_an_error_of_the_rise_is_over_the_truth_less_what_it_is_taken_less(case):
    prediction, truth, space = case
    ambient = np.random.default_rng(5).normal(2, 1, len(truth))
    fields = {"temperature": truth, "other": truth}
    normaliser = Normaliser({}, {}, {"temperature": "less ambient"})
    rises = normaliser.rises(fields, {"ambient": ambient})
    assert list(rises) == ["temperature"]
    statistics = Statistics.of(prediction, truth, space, rise=rises["temperature"])
    rise = truth - ambient.reshape(-1, *(1,) * (truth.ndim - 1))
    ratios = [np.linalg.norm(p - t) / np.linalg.norm(r) for p, t, r in zip(
        *(a.reshape(len(a), -1) for a in (prediction, truth, rise)), strict=True)]  # fmt: skip
    found = relative(statistics, size="squared_rise").value()
    assert found == pytest.approx(np.mean(ratios), rel=1e-6)
    doubled = statistics + Statistics.of(prediction, truth, space, rise=rises["temperature"])
    assert doubled.knows_rise and relative(doubled, size="squared_rise").value() == found
    assert not Statistics.of(prediction, truth, space).knows_rise


def test_the_boundary_is_the_outermost_points(case, found):
    prediction, truth, space = case
    error = frames(prediction - truth, space)
    squares = [
        error[(slice(None), slice(None), *place)] ** 2
        for place in itertools.product(*(range(n) for n in space.shape))
        if any(i in (0, n - 1) for i, n in zip(place, space.shape, strict=True))
    ]
    assert found["boundary_rmse"] == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-6)


def test_what_is_conserved_is_the_mean_of_each_frame(case, found):
    prediction, truth, space = case
    means = [
        np.mean(p) - np.mean(t)
        for sample in zip(*(frames(a, space) for a in (prediction, truth)), strict=True)
        for p, t in zip(*sample, strict=True)
    ]
    assert found["conserved_rmse"] == pytest.approx(math.sqrt(np.mean(np.square(means))), rel=1e-6)


def wavenumber(place, space):
    """Waves on the longest side, of a place in scipy's full transform."""
    total = 0.0
    for i, n, h in zip(place, space.shape, space.spacing, strict=True):
        waves = i if i <= n // 2 else i - n
        total += (waves * space.length / (n * h)) ** 2
    return math.sqrt(total)


def test_bands_are_the_parts_of_the_error_that_scipys_transform_has(case, found):
    prediction, truth, space = case
    error = frames(prediction - truth, space)
    k = np.array([wavenumber(place, space) for place in np.ndindex(space.shape)])
    k = np.round(k.reshape(space.shape), 9)
    axes = tuple(range(2, error.ndim))
    waves = fft.fftn(error, axes=axes)
    for name, low, high in (("low", 0, 4), ("middle", 4, 12), ("high", 12, math.inf)):
        part = fft.ifftn(np.where((k >= low) & (k < high), waves, 0), axes=axes)
        assert abs(part.imag).max() < 1e-12
        expected = math.sqrt(np.mean(part.real**2))
        assert found[f"fourier_{name}_rmse"] == pytest.approx(expected, rel=1e-6)


def test_bands_add_up_to_the_rmse(found):
    parts = [found[f"fourier_{name}_rmse"] for name in ("low", "middle", "high")]
    assert math.hypot(*parts) == pytest.approx(found["rmse"], rel=1e-12)


def slope(field, place, axis, spacing):
    """Central difference at a point, one-sided at the ends."""
    before, after = list(place), list(place)
    before[axis] = max(place[axis] - 1, 0)
    after[axis] = min(place[axis] + 1, field.shape[axis] - 1)
    steps = after[axis] - before[axis]
    return (field[tuple(after)] - field[tuple(before)]) / (steps * spacing)


def squared_h1(field, space):
    total = 0.0
    for frame in field:
        for place in np.ndindex(space.shape):
            total += frame[place] ** 2
            for axis, h in enumerate(space.spacing):
                total += (space.length * slope(frame, place, axis, h)) ** 2
    return total


def test_h1_equals_a_loop_over_points(case, found):
    prediction, truth, space = case
    ratios = [
        math.sqrt(squared_h1(p - t, space) / squared_h1(t, space))
        for p, t in zip(*(frames(a, space) for a in (prediction, truth)), strict=True)
    ]
    assert found["relative_h1"] == pytest.approx(np.mean(ratios), rel=1e-6)


def test_h1_of_a_wave_is_that_of_calculus():
    n = 400
    x = (np.arange(n) + 0.5) / n
    truth, error = np.sin(2 * np.pi * x)[None], 0.01 * np.sin(6 * np.pi * x)[None]
    statistics = Statistics.of(truth + error, truth, Space((n,), (1 / n,)))
    (metric,) = (m for m in METRICS if m.name == "relative_h1")
    expected = 0.01 * math.sqrt((1 + (6 * np.pi) ** 2) / (1 + (2 * np.pi) ** 2))
    assert metric.value(statistics) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    waves=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    amplitude=st.floats(0.1, 1e6),
    sides=st.sampled_from([(1.0, 1.0), (2.0, 1.0), (1.0, 3.0)]),
)
def test_a_single_wave_is_in_the_shell_of_its_wavenumber(waves, amplitude, sides):
    n = 26
    x, y = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
    error = amplitude * np.cos(2 * np.pi * (waves[0] * x + waves[1] * y))[None]
    space = Space((n, n), (sides[0] / n, sides[1] / n))
    spectra = spectra_of(Statistics.of(error, 0 * error, space, spectra=True))
    longest = max(sides)
    k = math.sqrt(sum((m * longest / side) ** 2 for m, side in zip(waves, sides, strict=True)))
    shell = spectra["wavenumber"].index(math.floor(round(k, 6)))
    power = np.array(spectra["error"])
    assert power[shell] == pytest.approx(np.mean(error**2), rel=1e-9)
    assert power.sum() == pytest.approx(np.mean(error**2), rel=1e-9)
    np.testing.assert_allclose(spectra["prediction"], power, rtol=1e-9)
    assert not np.any(spectra["truth"])


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(1e-3, 1e3),
    stretch=st.floats(1e-3, 1e3),
    shape=st.lists(st.integers(2, 9), min_size=1, max_size=3),
)
def test_metrics_scale_as_their_units_do(scale, stretch, shape):
    rng = np.random.default_rng(0)
    truth = rng.normal(1, 1, (3, *shape))
    prediction = truth + rng.normal(0, 0.1, truth.shape)
    one, other = (
        Statistics.of(a * prediction, a * truth, Space(tuple(shape), (h,) * len(shape)))
        for a, h in ((1.0, 1.0), (scale, stretch))
    )
    for metric in METRICS:
        before, after = metric.value(one), metric.value(other)
        if isinstance(before, Absent):
            assert after == before
        else:
            expected = before * scale if metric.physical else before
            assert after == pytest.approx(expected, rel=1e-9)


def test_a_band_without_waves_is_absent_and_says_so():
    statistics = Statistics.of(np.ones((2, 8)), np.zeros((2, 8)), Space((8,), (0.1,)))
    found = {metric.name: metric.value(statistics) for metric in METRICS}
    assert found["fourier_middle_rmse"] == 0  # 4 waves fit, and the error has none of them
    assert found["fourier_high_rmse"] == Absent("grid.too_coarse")


def test_shells_that_no_wave_falls_into_are_left_out():
    space = Space((4, 64), (0.5, 1 / 64))
    numbers = space.shells
    assert len(numbers) < numbers[-1] + 1
    bands = [space.band(name) for name in ("low", "middle", "high")]
    assert [numbers[band].tolist() for band in bands] == [
        [k for k in numbers if low <= k < high] for low, high in ((0, 4), (4, 12), (12, 999))
    ]


def test_each_frame_is_measured_for_itself():
    prediction, truth = np.random.default_rng(0).random((2, 3, 4, 5, 5))
    for frame, statistics in enumerate(of_frames(prediction, truth)):
        expected = torchmetrics.functional.mean_squared_error(
            *(torch.from_numpy(a[:, frame].copy()) for a in (prediction, truth)), squared=False
        )
        assert root_mean(statistics).value() == pytest.approx(expected.item(), rel=1e-6)


def field_on(axes, **more):
    field = Field("t", "K", "t", "output", tuple(axis.name for axis in axes), **more)
    return space_of(field, Schema("s", (field,), axes))


def test_the_grid_is_that_of_the_axes_in_space():
    time = Axis("time", "s", "time", np.array([0.0, 1.0, 9.0]), (0.0, 9.0))
    x = Axis("x", "m", "x", (np.arange(8) + 0.5) / 4, (0.0, 2.0))
    space = field_on((time, x, Axis("y", "m", "y", np.arange(5) * 0.1, (0.0, 0.5))))
    assert space.shape == (8, 5)
    assert space.spacing == pytest.approx((0.25, 0.1))
    assert space.length == pytest.approx(2.0)
    assert len(space.boundary) == 2 * 8 + 2 * 5 - 4


@pytest.mark.parametrize(
    ("points", "more", "reason"),
    [
        ([0.0, 1.0, 3.0], {}, "grid.uneven"),
        ([0.5], {}, "grid.single_point"),
        ([0.0, 1.0], {"gaps": True}, "grid.gaps"),
    ],
)
def test_where_there_is_no_grid_to_measure_on_a_code_says_why(points, more, reason):
    assert field_on((Axis("x", "m", "x", np.array(points), (0.0, 4.0)),), **more) == Absent(reason)


def test_unordered_points_have_no_grid():
    reason = field_on((Axis("point", "1", "point", np.arange(5.0), (0.0, 5.0)),))
    assert reason == Absent("grid.points")
    statistics = Statistics.of(np.ones((2, 5)), np.ones((2, 5)), reason)
    absent = {metric.name for metric in METRICS if metric.value(statistics) == reason}
    assert absent == {
        "boundary_rmse", "conserved_rmse", "relative_h1",
        "fourier_low_rmse", "fourier_middle_rmse", "fourier_high_rmse",
    }  # fmt: skip
    assert spectra_of(statistics) == reason


def values(statistics):
    found = {metric.name: metric.value(statistics) for metric in METRICS}
    return {name: value for name, value in found.items() if not isinstance(value, Absent)}


def unit_square(*shape):
    return Space(shape, tuple(1 / n for n in shape))


def fields(shape, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 2, shape).astype(np.float32)
    return (truth + rng.normal(0, 0.3, shape)).astype(np.float32), truth


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=8), seed=st.integers(0, 2**31))
def test_any_grouping_into_batches_gives_the_same_bits(sizes, seed):
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
    assert values(sum(reversed(parts), Statistics())) == values(whole)


def test_any_number_of_workers_gives_the_same_bits():
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


def test_memory_layout_does_not_change_a_bit():
    prediction, truth = fields((4, 33, 27))
    strided, space = (np.asfortranarray(prediction), np.asfortranarray(truth)), unit_square(33, 27)
    assert values(Statistics.of(*strided, space)) == values(Statistics.of(prediction, truth, space))


def test_a_silent_sample_is_measured_against_the_typical_magnitude():
    truth = np.array([[3.0, 4.0], [0.0, 0.0]])
    per_sample = relative(Statistics.of(np.array([[3.0, 4.0], [0.6, 0.8]]), truth)).per_sample()
    assert per_sample == pytest.approx([0.0, 1.0 / math.sqrt(25 / 2)], rel=1e-14)


def test_zero_truth_everywhere_is_zero_if_met_and_infinite_if_not():
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


def test_constant_fields_and_single_samples_need_no_special_case():
    five, four = np.full((1, 3, 3), 5.0), np.full((1, 3, 3), 4.0)
    assert values(Statistics.of(five, four, unit_square(3, 3))) == pytest.approx(
        {
            "relative_l2": 0.25, "rmse": 1.0, "nrmse": 0.25, "max_error": 1.0,
            "boundary_rmse": 1.0, "conserved_rmse": 1.0, "fourier_low_rmse": 1.0,
            "relative_h1": 0.25,
        },
        rel=1e-14,
    )  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_reported_and_spoils_no_other_sample(bad):
    prediction, truth = fields((3, 32))
    prediction[1, 0] = bad
    statistics = Statistics.of(prediction, truth, unit_square(32))
    assert len(values(statistics)) == len(METRICS)
    assert not any(math.isfinite(value) for value in values(statistics).values())
    for metric in METRICS:
        assert np.isfinite(metric.per_sample(statistics)).tolist() == [True, False, True]


def test_no_samples_give_no_number():
    assert all(math.isnan(value) for value in values(Statistics()).values())
    none = Statistics.of(np.zeros((0, 26)), np.zeros((0, 26)), unit_square(26))
    assert len(values(none)) == len(METRICS)
    assert all(math.isnan(value) for value in values(none).values())
    assert math.isnan(mean(np.array([])))


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        Statistics.of(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"\(3,\); expected the grid's \(4,\)"):
        Statistics.of(np.zeros((2, 3)), np.zeros((2, 3)), unit_square(4))


def test_a_metric_of_one_sample_is_its_own():
    prediction, truth = fields((5, 26, 25))
    space = unit_square(26, 25)
    together = Statistics.of(prediction, truth, space)
    for metric in METRICS:
        alone = [
            metric.value(Statistics.of(prediction[k : k + 1], truth[k : k + 1], space))
            for k in range(5)
        ]
        assert metric.per_sample(together) == pytest.approx(alone, rel=1e-14)
