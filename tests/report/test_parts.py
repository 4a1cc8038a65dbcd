"""Histograms, spectra and estimates of noise: against what is known of the fields."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mno.report.inspected_fields import BINS, Histogram, Spectrum, noise_of_differences

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(floats, min_size=1, max_size=60), st.integers(1, 5))
def test_a_histogram_does_not_depend_on_the_parts(values: list[float], parts: int) -> None:
    whole = np.array(values, np.float32)
    ours = reduce(add, map(Histogram.of, np.array_split(whole, parts)))
    theirs = Histogram.of(whole)
    assert (ours.exponent, ours.first) == (theirs.exponent, theirs.first)
    assert np.array_equal(ours.counts, theirs.counts)


@given(st.lists(floats, min_size=1, max_size=60))
def test_a_histogram_is_numpys_on_its_edges(values: list[float]) -> None:
    whole = np.array(values, np.float32)
    histogram = Histogram.of(whole)
    assert 1 <= len(histogram.counts) <= BINS and histogram.counts.sum() == len(values)
    assert histogram.counts[0] and histogram.counts[-1], "it is no wider than the values are"
    places = np.searchsorted(histogram.edges, whole.astype(np.float64), side="right") - 1
    assert np.array_equal(np.bincount(places, minlength=len(histogram.counts)), histogram.counts)


def test_a_histogram_leaves_out_what_is_not_finite() -> None:
    nothing = Histogram.of(np.array([np.nan, np.inf]))
    assert nothing.counts.size == 0 and (nothing + nothing).counts.size == 0
    something = Histogram.of(np.array([1.0, np.nan, 2.0]))
    assert something.counts.sum() == 2
    assert (nothing + something).edges[0] == something.edges[0] == 1.0


def waves(grid: tuple[int, ...], lengths: tuple[float, ...], k: float) -> np.ndarray:
    """One frame of a wave along the first axis, with so many cycles per unit of length."""
    x = (np.arange(grid[0]) + 0.5) * lengths[0] / grid[0]
    wave = np.sin(2 * np.pi * k * x).reshape(-1, *[1] * (len(grid) - 1))
    return np.broadcast_to(wave, (1, *grid))


@pytest.mark.parametrize(
    ("grid", "lengths"), [((64,), (2.0,)), ((48, 40), (2.0, 1.0)), ((24, 16, 20), (2.0, 1.0, 1.0))]
)
def test_a_wave_is_found_at_its_wavenumber_and_noise_at_its_deviation(
    grid: tuple[int, ...], lengths: tuple[float, ...]
) -> None:
    spacing = [length / n for n, length in zip(grid, lengths, strict=True)]
    wave = Spectrum.of(waves(grid, lengths, 3.0), spacing)
    assert wave.wavenumbers[np.argmax(wave.variance)] == 3.0
    assert wave.wavenumbers[-1] == pytest.approx(min(1 / (2 * h) for h in spacing), abs=1.0)
    assert wave.share_at_cutoff < 1e-6

    noise = 0.3 * np.random.default_rng(0).normal(size=(60, *grid))
    found = Spectrum.of(noise, spacing)
    assert found.noise == pytest.approx(0.3, rel=0.05)
    assert np.median([noise_of_differences(one[None]) for one in noise]) == pytest.approx(
        0.3, rel=0.05
    )
    # Power of white noise is the same everywhere, so that shares are those of the modes.
    below = found.modes[found.wavenumbers <= 2 / 3 * found.wavenumbers[-1]].sum()
    assert found.share_at_cutoff == pytest.approx(1 - below / math.prod(grid), abs=0.03)
    assert found.total / found.count == pytest.approx(0.09, rel=0.05)


def test_spectra_of_parts_add_to_that_of_the_whole() -> None:
    fields = np.random.default_rng(1).normal(size=(30, 16, 12))
    parts = [Spectrum.of(part, (0.1, 0.2)) for part in np.array_split(fields, 4)]
    total, whole = reduce(add, parts), Spectrum.of(fields, (0.1, 0.2))
    assert total.count == whole.count == 30
    assert np.allclose(total.power, whole.power, rtol=1e-12)
    assert total.share_at_cutoff == pytest.approx(whole.share_at_cutoff, rel=1e-12)


def test_frames_with_gaps_are_left_out_of_spectra() -> None:
    fields = np.random.default_rng(1).normal(size=(3, 16))
    gap = fields.copy()
    gap[1, 5] = np.nan
    assert np.allclose(
        Spectrum.of(gap, (0.1,)).variance, Spectrum.of(fields[[0, 2]], (0.1,)).variance
    )


def test_few_jumps_mislead_the_spectrum_but_not_the_differences() -> None:
    steps = np.zeros((1, 64, 64))
    steps[:, 20:, :], steps[:, :, 40:] = 5.0, -3.0
    assert noise_of_differences(steps) == 0.0
    assert Spectrum.of(steps, (1.0, 1.0)).noise > 0.3
    noisy = steps + 0.1 * np.random.default_rng(2).normal(size=steps.shape)
    assert noise_of_differences(noisy) == pytest.approx(0.1, rel=0.1)


def test_curvature_counts_as_noise_and_shrinks_with_the_spacing() -> None:
    def estimate(n: int) -> float:
        return noise_of_differences(np.sin(3 * (np.arange(n) + 0.5) / n)[None])

    assert 0 < estimate(128) < 1e-3
    assert estimate(64) / estimate(128) == pytest.approx(4.0, rel=0.1)
