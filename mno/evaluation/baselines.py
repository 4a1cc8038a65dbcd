"""Guesses that need no model, which a surrogate has to beat: the mean field, and persistence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.data.reading import SampleArray, blocks

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit


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
    """Return the frame that persistence predicts of a state, again and again.

    It is the last given one. A point whose value is missing there keeps its last given value that
    is not; where all are, the mean field's next value takes its place. So the baseline is defined
    everywhere; nothing is filled in in the data, nor in what a model is given.

    Args:
        given: The given frames, shape `(samples, history, *grid)`; NaN where missing.
        expected: The mean field, shape `(samples, frames, *grid)`.

    Returns:
        One frame, shape `(samples, 1, *grid)`.
    """
    kept = given[:, -1:]
    for earlier in reversed(range(given.shape[1] - 1)):
        missing = np.isnan(kept)
        if not missing.any():
            return kept
        kept = np.where(missing, given[:, earlier : earlier + 1], kept)
    return np.where(np.isnan(kept), expected[:, :1], kept) if np.isnan(kept).any() else kept
