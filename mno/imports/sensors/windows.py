"""Windows of frames: which readings make which sample.

A run is what was recorded without a pause longer than a window. Frames of a run are `interval`
apart and begin with its first reading; a window is so many frames, one behind the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.imports.base import MAX_SAMPLES

_FEW = 3  # intervals without a reading between; more are a pause
_CLOSE = 3e-4
_ROUNDS = 4
_MOST_FRAMES = 1e15  # between the first reading and the last; a float counts no further
_FEWEST_GROUPS = 10
_BLOCKS = 20


class Rates:
    """How often sensors are read: the median over sensors of each one's interval.

    Readings jitter and some are lost, so that a sensor's interval is the time between its first
    and last reading over the number of intervals between them, long pauses left out.
    """

    def __init__(self) -> None:
        self._intervals: dict[int, float] = {}

    def add(self, rows: np.ndarray) -> None:
        """Take note of a part of the readings that is long against the number of sensors."""
        order = np.argsort(rows["series"], kind="stable")
        series, times = rows["series"][order], rows["time"][order]
        firsts = np.flatnonzero(np.diff(series, prepend=-1))
        for first, last in zip(firsts, [*firsts[1:], len(series)], strict=True):
            steps = np.diff(np.unique(times[first:last]))
            if len(steps) and int(series[first]) not in self._intervals:
                self._intervals[int(series[first])] = _interval(steps)

    def interval(self, series: Iterable[int]) -> float | None:
        """Return the median of some series; None if no series has two readings.

        It has as few digits as it needs to be right to 3 in 10,000.
        """
        known = [self._intervals[number] for number in series if number in self._intervals]
        if not known:
            return None
        exact = float(np.median(known))
        rounded = (float(f"{exact:.{digits}g}") for digits in range(1, 5))
        return next((r for r in rounded if abs(r - exact) <= _CLOSE * exact), exact)


def _interval(steps: np.ndarray) -> float:
    """Return the interval of a schedule from the times between its readings."""
    interval = float(np.median(steps))
    for _ in range(_ROUNDS):
        count = np.maximum(np.rint(steps / interval), 1)
        few = count <= _FEW
        interval = float(steps[few].sum() / count[few].sum()) if few.any() else interval
    return interval


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames and windows of a recording.

    Attributes:
        interval: Seconds from frame to frame.
        frames: Frames of a window.
        begins: First frame of each run, seconds, shape `(runs,)`, ascending.
        windows: Windows of each run, shape `(runs,)`.
    """

    interval: float
    frames: int
    begins: np.ndarray
    windows: np.ndarray

    @classmethod
    def of(
        cls, path: Path, parts: Iterable[np.ndarray], begin: float, end: float, interval: float,
        frames: int,
    ) -> Timeline:  # fmt: skip
        """Find the runs of a recording.

        Args:
            path: The file, for messages.
            parts: Times of all readings, in any order, a part at a time.
            begin: The first.
            end: The last.
            interval: Seconds from frame to frame.
            frames: Frames of a window.

        Raises:
            InputError: There would be more windows than a dataset has samples.
        """
        if (end - begin) / interval > _MOST_FRAMES:
            raise InputError(
                f"{path}: readings from {begin:g} to {end:g} s in frames of {interval:g} s; "
                "expected fewer frames: correct the times, or give a longer sensors.interval"
            )
        width = frames * interval
        bins, low, high = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        for times in parts:
            bins = np.concatenate([bins, ((times - begin) / width).astype(np.int64)])
            order = np.argsort(bins, kind="stable")
            low, high = np.concatenate([low, times])[order], np.concatenate([high, times])[order]
            firsts = np.flatnonzero(np.diff(bins[order], prepend=-1))
            bins = bins[order][firsts]
            low, high = np.minimum.reduceat(low, firsts), np.maximum.reduceat(high, firsts)
        pauses = np.flatnonzero(low[1:] - high[:-1] > width)
        begins, ends = low[np.r_[0, pauses + 1]], high[np.r_[pauses, len(high) - 1]]
        windows = np.rint((ends - begins) / interval).astype(np.int64) // frames + 1
        if windows.sum() > MAX_SAMPLES:
            raise InputError(
                f"{path}: {windows.sum()} windows of {frames} frames of {interval:g} s; expected "
                f"at most {MAX_SAMPLES}: give a longer sensors.interval, or more sensors.frames"
            )
        return cls(interval, frames, begins, windows)

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the window of each time, and which frame of it is nearest."""
        run = np.searchsorted(self.begins, times, side="right") - 1
        frame = np.rint((times - self.begins[run]) / self.interval).astype(np.int64)
        first = np.cumsum(self.windows) - self.windows
        return first[run] + frame // self.frames, frame % self.frames

    @property
    def runs(self) -> np.ndarray:
        """Run of each window, shape `(windows,)`."""
        return np.repeat(np.arange(len(self.windows)), self.windows)

    @property
    def starts(self) -> np.ndarray:
        """First frame of each window, seconds, shape `(windows,)`."""
        within = np.arange(int(self.windows.sum())) - np.repeat(
            np.cumsum(self.windows) - self.windows, self.windows
        )
        return self.begins[self.runs] + within * (self.frames * self.interval)


def groups_of(runs: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the group of each window, int64, and of how many neighbouring windows a group is.

    Windows of one run resemble each other, so that a run is a group: all of it is trained on, or
    tested on. A recording of fewer than ten runs would leave nothing to choose from; its runs are
    cut into some twenty blocks of neighbouring windows. Then only windows on both sides of a cut
    resemble each other across splits; a split by time has but two such cuts.

    Args:
        runs: Run of each window, ascending, shape `(windows,)`.

    Returns:
        The groups, and the windows of a block; 0 where groups are runs.
    """
    names, group, counts = np.unique(runs, return_inverse=True, return_counts=True)
    if len(names) >= _FEWEST_GROUPS:
        return group.astype(np.int64), 0
    size = max(1, len(runs) // _BLOCKS)
    within = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
    edges = (within % size == 0) | (np.diff(group, prepend=-1) != 0)
    return np.cumsum(edges).astype(np.int64) - 1, size
