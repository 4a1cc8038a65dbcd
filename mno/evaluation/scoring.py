"""Scores of a model on a split, and of the guesses that need no model, which it has to beat.

The one figure by which models are compared is the relative L2; the guesses are the mean field of
the training split, and persistence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mno.core.errors import InputError
from mno.data.reading import SampleArray, Split, StoredSplit, blocks
from mno.evaluation.metrics import Pooled, measured, pooled_relative_l2, relative_l2
from mno.evaluation.result import Errors
from mno.evaluation.statistics import Statistics
from mno.surrogate.surrogate import Surrogate

Predict = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def split_error(
    predict: Predict, split: Split | StoredSplit, batch_size: int, history: int = 0, first: int = 0
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


def mean_fields(split: Split | StoredSplit) -> dict[str, np.ndarray]:
    """Return the mean over a split's samples of each output field, float64.

    Of a state it is that of each frame. Missing values (NaN) do not count; at a point without any
    value it is the mean of the whole field. Handed the training split, it is the baseline that a
    surrogate has to beat. A split in files is read block by block.
    """
    return {field.name: _mean(split.fields[field.name]) for field in split.schema.outputs}


def _mean(field: SampleArray) -> np.ndarray:
    totals = np.zeros(field.shape[1:])
    counts = np.zeros(field.shape[1:], dtype=np.int64)
    for rows in blocks(field):
        values = field[rows]
        missing = np.isnan(values)
        present = np.where(missing, np.float32(0), values) if missing.any() else values
        totals += present.sum(axis=0, dtype=np.float64)
        counts += len(values) - missing.sum(axis=0)
    whole = totals.sum() / max(int(counts.sum()), 1)
    return np.where(counts, totals / np.maximum(counts, 1), whole)


def kept_frame(given: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the frame that persistence predicts of a state again and again: the last given one.

    A point whose value is missing there keeps its last given value that is not; where all are, the
    mean field's next value takes its place. So the baseline is defined everywhere; nothing is
    filled in in the data, nor in what a model is given.

    Args:
        given: The given frames, shape `(samples, history, *grid)`; NaN where missing.
        expected: The mean field, shape `(samples, frames, *grid)`.

    Returns:
        One frame, shape `(samples, 1, *grid)`.
    """
    kept = given[:, -1:]
    for earlier in (*reversed(range(given.shape[1] - 1)), None):
        missing = np.isnan(kept)
        if not missing.any():
            return kept
        other = expected[:, :1] if earlier is None else given[:, earlier : earlier + 1]
        kept = np.where(missing, other, kept)
    return kept


def some_samples(split: Split | StoredSplit, count: int) -> Split:
    """Return at most so many samples of a split, evenly spread over it."""
    total = len(split)
    rows = np.arange(min(count, total)) * total // max(min(count, total), 1)
    fields = {name: np.asarray(array[rows]) for name, array in split.fields.items()}
    return Split(split.name, split.schema, fields, split.indices[rows])


def sample_errors(surrogate: Surrogate, split: Split | StoredSplit, batch_size: int) -> np.ndarray:
    """Return the relative L2 of each sample that has a known truth, as `evaluate` measures it.

    Of a split of the dataset that the surrogate was trained on, in memory or in files; shape
    `(samples,)`, NaN or infinite where a prediction is.
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
