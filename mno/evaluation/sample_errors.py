"""The relative L2 error of every sample of a split, and their mean with its uncertainty."""

from __future__ import annotations

import math

import numpy as np

from mno.data.reading import Split, StoredSplit
from mno.evaluation.errors import Errors
from mno.evaluation.overall import measured, relative_l2
from mno.surrogate.surrogate import Surrogate


def sample_errors(surrogate: Surrogate, split: Split | StoredSplit, batch_size: int) -> np.ndarray:
    """Return the relative L2 of each sample that has a known truth, as `evaluate` measures it.

    Args:
        surrogate: The trained operator.
        split: The samples to predict, of the dataset that it was trained on, in memory or in files.
        batch_size: Samples per forward pass.

    Returns:
        Shape `(samples,)`; NaN or infinite where a prediction is.
    """
    description = surrogate.description
    errors = Errors(description.outputs, ())
    for first in range(0, len(split), batch_size):
        rows = slice(first, first + batch_size)
        fields = {name: array[rows] for name, array in split.fields.items()}
        given = description.given(fields)
        errors.add(surrogate.predict(given, batch_size), description.truth(fields))
    return relative_l2(errors.whole)[measured(errors.whole)]


def mean_error(errors: np.ndarray) -> dict[str, float | int | None]:
    """Return the mean of errors, its standard error and their number, for JSON.

    Both are None where an error is not finite or there is none; the standard error also of one
    sample, which says nothing of it.
    """
    mean = float(errors.mean()) if len(errors) else math.nan
    with np.errstate(invalid="ignore"):
        spread = float(errors.std(ddof=1)) if len(errors) > 1 else math.nan
    deviation = spread / math.sqrt(max(len(errors), 1))
    return {
        "relative_l2": mean if math.isfinite(mean) else None,
        "standard_error": deviation if math.isfinite(deviation) else None,
        "measured": len(errors),
    }
