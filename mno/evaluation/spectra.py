"""Mean spectra of the truth, the prediction and the error of a field."""

from __future__ import annotations

import numpy as np

from mno.evaluation.space import Space
from mno.evaluation.statistics import Statistics
from mno.evaluation.waves import shell_numbers


def spectra_of(statistics: Statistics) -> dict[str, list[float]] | str:
    """Return mean spectra over samples and frames, or why there are none.

    Args:
        statistics: Of one field, measured with `spectra`, of one sample or more.

    Returns:
        `wavenumber` k, and for each the share of the mean square in the square of the field's unit
        that lies in waves from k to below k + 1, of `truth`, `prediction` and `error`; see
        `mno.evaluation.waves`. Each is added up in the samples' order.
    """
    if not isinstance(statistics.space, Space):
        return statistics.space
    points = statistics.total("points")
    shares = {
        name: statistics.per_sample(f"{name}_power").cumsum(axis=0)[-1] / points
        for name in ("truth", "prediction", "error")
    }
    numbers: np.ndarray = shell_numbers(statistics.space)
    return {"wavenumber": numbers.tolist()} | {n: v.tolist() for n, v in shares.items()}
