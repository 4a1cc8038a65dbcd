"""Errors of single predictions, which bounds are calibrated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A measure of the error of one field of one sample.

    Attributes:
        name: Key in `reports/trust.json`, and the end of an array's name in a store.
        words: What it is, for attributes and tables.
        physical: Whether it carries the field's unit; otherwise it is a fraction.
        by_frame: Whether a state has one for each frame, rather than one for all together.
    """

    name: str
    words: str
    physical: bool
    by_frame: bool


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("rmse", "root mean square error", physical=True, by_frame=True),
        Measure("max_error", "largest error", physical=True, by_frame=True),
        Measure("relative_l2", "relative L2 error", physical=False, by_frame=False),
    )
}


def sample_errors(predicted: np.ndarray, truth: np.ndarray, state: bool) -> dict[str, np.ndarray]:
    """Measure each prediction of one field.

    Args:
        predicted: Shape `(samples, *dims)`, a state `(samples, frames, *grid)`.
        truth: Likewise; NaN where it is missing, which is not compared.
        state: Whether the second axis is one of frames.

    Returns:
        By measure, shape `(samples, frames)`, or `(samples, 1)` where there is one error for all of
        a sample. NaN where no truth is known; infinite where a prediction is not finite, or the
        truth is zero everywhere and the error is relative to it.
    """
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    samples = len(p)
    whole = (samples, 1, -1)
    frames = (samples, p.shape[1], -1) if state else whole
    known = ~np.isnan(t)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.where(known, np.abs(p - np.where(known, t, 0.0)), 0.0)
        error[np.isnan(error)] = np.inf
        squared, by_frame = error**2, known.reshape(frames).any(axis=2)
        counts = known.reshape(frames).sum(axis=2)
        rmse = np.sqrt(squared.reshape(frames).sum(axis=2) / np.maximum(counts, 1))
        norm = np.sqrt(squared.reshape(whole).sum(axis=2))
        size = np.sqrt((np.where(known, t, 0.0).reshape(whole) ** 2).sum(axis=2))
        relative = np.where(norm == 0.0, 0.0, norm / size)
    return {
        "rmse": np.where(by_frame, rmse, np.nan),
        "max_error": np.where(by_frame, error.reshape(frames).max(axis=2), np.nan),
        "relative_l2": np.where(known.reshape(whole).any(axis=2), relative, np.nan),
    }


def size(predicted: np.ndarray) -> np.ndarray:
    """Return the root mean square of each prediction of one field, shape `(samples,)`."""
    flat = predicted.reshape(len(predicted), -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sqrt(np.mean(flat**2, axis=1))
