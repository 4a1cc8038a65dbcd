"""The one figure over all fields by which predictions are judged: the relative L2."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mno.evaluation.metrics import mean_over, relative_l2_per_sample
from mno.evaluation.pooling import Pooled
from mno.evaluation.statistics import Statistics


def relative_l2(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return every sample's relative L2, the mean over fields, shape `(samples,)`.

    Fields may differ in unit, so their relative errors are averaged, not their errors. Fields of
    which a sample has no known truth are left out of its mean, which is NaN where that is all.
    """
    errors = np.array([relative_l2_per_sample(s) for s in statistics.values()])
    known = np.array([s.measured for s in statistics.values()])
    if known.all():
        return np.mean(errors, axis=0)
    counts = known.sum(axis=0)
    return np.where(known, errors, 0.0).sum(axis=0) / np.where(counts, counts, math.nan)


def measured(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return which samples have a true value of any field, shape `(samples,)`, boolean."""
    return np.any([s.measured for s in statistics.values()], axis=0)


def pooled_relative_l2(statistics: Mapping[str, Statistics]) -> Pooled:
    """Return the mean of `relative_l2` over the samples that were measured."""
    return mean_over(relative_l2(statistics), measured(statistics))


def mean_relative_l2(statistics: Mapping[str, Statistics]) -> float:
    """Return that mean as a number; NaN where no sample was measured."""
    return pooled_relative_l2(statistics).value()
