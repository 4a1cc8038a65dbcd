"""Where errors sit: the root mean square error at each point of space, over a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mno.core.fields import Field


class ErrorMap:
    """Sums of squared errors at each point, of samples and frames; added batch by batch.

    Args:
        field: The predicted field. Of unordered points, which differ from sample to sample, there
            is no map.
    """

    def __init__(self, field: Field) -> None:
        self._axis = 1 if "time" in field.dims else None
        self._squares: np.ndarray | None = None
        self._counts: np.ndarray | None = None

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Add a batch, of shape `(samples, *dims)`; a missing truth, NaN, does not count."""
        known = ~np.isnan(truth)
        error = np.where(known, predicted - np.where(known, truth, 0.0), 0.0).astype(np.float64)
        axes = (0,) if self._axis is None else (0, self._axis)
        squares, counts = np.sum(error**2, axis=axes), np.sum(known, axis=axes)
        if self._squares is None or self._counts is None:
            self._squares, self._counts = squares, counts
        else:
            self._squares, self._counts = self._squares + squares, self._counts + counts

    def rmse(self) -> np.ndarray:
        """Return the root mean square error at each point; NaN where no truth is known."""
        if self._squares is None or self._counts is None:
            raise ValueError("no batch was added; expected one at least")
        mean = self._squares / np.where(self._counts, self._counts, 1)
        return np.where(self._counts, np.sqrt(mean), np.nan)
