"""The one figure by which two models are compared: relative L2 on a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import InputError
from mno.evaluation.overall import pooled_relative_l2
from mno.evaluation.pooling import Pooled
from mno.evaluation.statistics import Statistics

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit

Predict = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def split_relative_l2(
    predict: Predict,
    split: Split | StoredSplit,
    batch_size: int,
    history: int = 0,
    first: int = 0,
) -> float:
    """Return the mean relative L2 error of a model on a split; see `split_error`."""
    return split_error(predict, split, batch_size, history, first).value()


def split_error(
    predict: Predict,
    split: Split | StoredSplit,
    batch_size: int,
    history: int = 0,
    first: int = 0,
) -> Pooled:
    """Return the relative L2 error of a model on a split, as `evaluate` measures it, by sample.

    Args:
        predict: Takes input fields of shape `(samples, *dims)`, returns output fields.
        split: Samples with their truth; one in files is read batch by batch.
        batch_size: Samples per call.
        history: Frames of a state that the model is given.
        first: Frame from which on states are compared, counted from 0; `history` or later.

    Raises:
        InputError: The model predicts other frames than those.
    """
    states = {field.name for field in split.schema.fields if field.role == "state"}
    totals = {field.name: Statistics() for field in split.schema.outputs}
    for start in range(0, len(split), batch_size):
        fields = {name: field[start : start + batch_size] for name, field in split.fields.items()}
        given = {f.name: fields[f.name] for f in (*split.schema.inputs, *split.schema.coordinates)}
        predicted = predict({n: x[:, :history] if n in states else x for n, x in given.items()})
        for name in totals:
            found, truth = np.asarray(predicted[name]), fields[name]
            if name in states:
                missing = truth.shape[1] - history - found.shape[1]
                if first < history or missing:
                    raise InputError(
                        f"the model predicts frames {history} to {history + found.shape[1] - 1} of "
                        f"{name}; expected all from {first} to {truth.shape[1] - 1}"
                    )
                found, truth = found[:, first - history :], truth[:, first:]
            totals[name] += Statistics.of(found, truth)
    return pooled_relative_l2(totals)
