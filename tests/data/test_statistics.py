"""Additive statistics: whatever the parts, the whole is the same."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import numpy as np
import pytest

from mno.data.statistics import Margins, Moments


def test_moments_count_what_is_not_finite_and_measure_the_rest():
    values = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    values[1, 3], values[2, :] = np.inf, np.nan
    total = reduce(add, map(Moments.of, values))
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (total.count, total.missing) == (149, 51)
    assert (total.min, total.max) == (finite.min(), finite.max())
    assert total.mean == pytest.approx(finite.mean(), rel=1e-13)
    assert total.std == pytest.approx(finite.std(), rel=1e-13)


def test_moments_of_nothing_finite_have_no_spread_and_change_no_sum():
    nothing, something = Moments.of(np.full(3, np.nan)), Moments.of(np.arange(4.0))
    assert math.isnan(nothing.std) and (nothing + nothing).missing == 6
    assert nothing + something == something + nothing
    assert (nothing + something).std == something.std


def test_margins_say_where_values_lie_below_their_limit():
    limit = 3e-5
    values = np.array([0.0, 1e-9, 1.0, 0.5, 0.011, 0.0099, 1.0001, math.nan]) * limit
    margins = Margins.of(values, limit)
    assert sum(margins.counts) == len(values)
    found = {place: count for place, count in enumerate(margins.counts) if count}
    # Steps of a quarter of a decade: the limit itself is in the 32nd, what exceeds it in the 33rd.
    assert found == {0: 2, 24: 1, 25: 1, 31: 1, 32: 1, 33: 2}


def test_margins_of_parts_add_to_those_of_the_whole():
    values = 10 ** np.random.default_rng(1).uniform(-12, 1, size=300)
    parts = [Margins.of(part, 1.0) for part in np.array_split(values, 7)]
    assert len(parts) > 1
    assert reduce(add, parts) == Margins.of(values, 1.0)


def test_a_limit_of_zero_that_is_kept_counts_as_far_below():
    margins = Margins.of(np.array([0.0, -1.0, 0.1]), 0.0)
    assert (margins.counts[0], margins.counts[-1], sum(margins.counts)) == (2, 1, 3)
