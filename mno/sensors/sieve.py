"""Which readings can be compared, and why others cannot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import InputError

if TYPE_CHECKING:
    from mno.imports.sensors.readings import Readings

SAME = 1e-6  # of an interval: nearer than this, a time is that of the frame


class Sieve:
    """Leaves out readings for one reason after the other; each counts for the first alone.

    Args:
        readings: The readings.

    Attributes:
        kept: Which are still to be compared, shape `(readings,)`.
        left_out: Number of those that are not, by the reason.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self.kept = np.ones(len(readings), dtype=bool)
        self.left_out: dict[str, int] = {}

    def leave_out(self, reason: str, series: np.ndarray) -> None:
        """Leave out all readings of some series, bool of shape `(series,)`."""
        self.leave_out_rows(reason, series[self._readings.series])

    def leave_out_rows(self, reason: str, rows: np.ndarray) -> None:
        """Leave out some readings, bool of shape `(readings,)`."""
        count = int(np.count_nonzero(self.kept & rows))
        if count:
            self.left_out[reason] = count
        self.kept &= ~rows

    def leave_out_repeated(self) -> None:
        """Leave out readings of the time and the series of one before."""
        readings = self._readings
        order = np.lexsort((readings.series, readings.time))
        time, series = readings.time[order], readings.series[order]
        repeated = np.zeros(len(readings), dtype=bool)
        repeated[order[1:]] = (np.diff(time) == 0) & (np.diff(series) == 0)
        self.leave_out_rows("again of the same time and sensor", repeated)

    def leave_out_of_time(
        self, moving: np.ndarray, time: np.ndarray, times: np.ndarray, known_until: float
    ) -> None:
        """Leave out readings of the time of what is given, and after what is predicted.

        Args:
            moving: Which series are of fields over time, shape `(series,)`.
            time: When each reading was taken, in the unit of the prediction's times.
            times: When the frames are: the last one given, then those predicted.
            known_until: Up to when readings may be among what is given.
        """
        if not moving.any():
            return
        margin, moves = SAME * (times[1] - times[0]), moving[self._readings.series]
        early, late = time <= known_until + margin, time > times[-1] + margin
        self.leave_out_rows("from the time of the frames that are given", moves & early)
        self.leave_out_rows("after the last frame that is predicted", moves & late)

    def require_some(self) -> None:
        """Refuse to go on with no reading.

        Raises:
            InputError: None can be compared; the message counts the reasons.
        """
        if not self.kept.any():
            told = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            raise InputError(
                f"none of {len(self.kept)} readings can be compared ({told}); check positions, "
                "position_units and --start"
            )


def among(names: Sequence[str], chosen: Collection[str]) -> np.ndarray:
    """Return which names are among those chosen, bool of shape `(names,)`."""
    return np.array([name in chosen for name in names])
