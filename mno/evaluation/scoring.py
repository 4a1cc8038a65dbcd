"""The one figure by which two models are compared: relative L2 on a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.evaluation.metrics import mean
from mno.evaluation.result import relative_l2
from mno.evaluation.statistics import Statistics

if TYPE_CHECKING:
    from mno.data.reading import Split

Predict = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def split_relative_l2(predict: Predict, split: Split, batch_size: int) -> float:
    """Return the mean relative L2 error of a model on a split, as `evaluate` measures it.

    Args:
        predict: Takes input fields of shape `(samples, *dims)`, returns output fields.
        split: Samples with their truth.
        batch_size: Samples per call.
    """
    totals = {field.name: Statistics() for field in split.schema.outputs}
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        predicted = predict({f.name: split.fields[f.name][part] for f in split.schema.inputs})
        for name in totals:
            totals[name] += Statistics.of(np.asarray(predicted[name]), split.fields[name][part])
    return mean(relative_l2(totals))
