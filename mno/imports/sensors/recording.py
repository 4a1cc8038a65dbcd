"""A sensor log in windows: which there are, what they lack, the values of some of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.imports.mapping import SensorRules
from mno.imports.sensors.fields import Quantity, lay_out
from mno.imports.sensors.parse import CHUNK, Parser
from mno.imports.sensors.readings import count_duplicates
from mno.imports.sensors.spill import Spill
from mno.imports.sensors.windows import Rates, Timeline

_FEWEST_FRAMES = 2  # with readings; one frame says nothing of what follows it


class Recording:
    """An open log; memory does not grow with the number of its readings.

    Args:
        path: The file.
        rules: How readings become samples.
        units: Units that quantities are to have.

    Attributes:
        parser: What was found as the file was read: names, units, dates.
        layout: Points and quantities.
        rate: Seconds between readings of a sensor, the median; None where none was read twice.
        timeline: Frames and windows.
        kept: Numbers of the windows that are samples.
        duplicates: Readings of the same time and series as another.
        filled: Values, that are not missing, of each quantity in windows that are kept.

    Raises:
        InputError: The file is not one of readings, or no window can be made of it.
        MnoError: There is no room for it on the disk.
    """

    def __init__(self, path: Path, rules: SensorRules, units: Mapping[str, str]) -> None:
        self.parser = Parser(path, rules, units)
        self._path = path
        self._rows = Spill()
        try:
            rates, low, high = Rates(), np.inf, -np.inf
            for rows in self.parser.chunks():
                self._rows.append(rows)
                rates.add(rows)
                low, high = min(low, rows["time"].min()), max(high, rows["time"].max())
            self.layout = lay_out(path, self.parser.catalogue, self.parser.axes)
            self.rate = rates.interval(self.layout.placed)
            interval = rules.interval or self.rate
            if interval is None:
                raise InputError(
                    f"{path}: no sensor was read twice, so that its rate is not known; give "
                    "`sensors: {interval: …}`, the seconds between frames, in a mapping file"
                )
            times = (rows["time"] for rows in self._rows.rows(0, len(self._rows)))
            self.timeline = Timeline.of(
                path, times, float(low), float(high), interval, rules.frames
            )
            self._put_in_order()
            self._measure()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Number of readings."""
        return len(self._rows)

    def close(self) -> None:
        """Forget the readings."""
        self._rows.close()

    def means(self, quantity: Quantity, start: int, stop: int) -> np.ndarray:
        """Return the mean of the readings of each frame and point, NaN where there is none.

        Args:
            quantity: Of which quantity.
            start: The first sample.
            stop: One behind the last.

        Returns:
            Shape `(stop - start, frames, points)`, float32; equal at all points for a quantity
            that holds for all of the plant.
        """
        frames, points = self.timeline.frames, len(self.layout.places) if quantity.points else 1
        windows = self.kept[start:stop]
        sums = np.zeros(len(windows) * frames * points)
        counts = np.zeros(sums.size, dtype=np.int64)
        for rows in self._rows.rows(*self._first[[windows[0], windows[-1] + 1]].tolist()):
            window, frame = self.timeline.place(rows["time"])
            sample = np.searchsorted(windows, window)
            wanted = (self.layout.quantity[rows["series"]] == quantity.number) & (
                windows[sample] == window
            )
            cell = (sample * frames + frame)[wanted] * points
            if quantity.points:
                cell += self.layout.point[rows["series"][wanted]]
            np.add.at(sums, cell, rows["value"][wanted])
            np.add.at(counts, cell, 1)
        means = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
        cells = means.astype(np.float32).reshape(len(windows), frames, points)
        return np.broadcast_to(cells, (*cells.shape[:2], len(self.layout.places)))

    def _put_in_order(self) -> None:
        """Bring the readings of each window together; `_first` says where they begin."""
        counts = np.zeros(int(self.timeline.windows.sum()), dtype=np.int64)
        sorted_already, before = True, -1
        for rows in self._rows.rows(0, len(self._rows)):
            windows = self._windows(rows)
            counts += np.bincount(windows, minlength=len(counts))
            sorted_already &= bool((np.diff(windows, prepend=before) >= 0).all())
            before = int(windows[-1])
        self._first = np.concatenate([[0], np.cumsum(counts)])
        if not sorted_already:
            self._rows = self._rows.ordered(self._windows, counts)

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        return self.timeline.place(rows["time"])[0]

    def _measure(self) -> None:
        """Find the windows to keep, duplicates and gaps, a batch of whole windows at a time."""
        frames, quantities = self.timeline.frames, len(self.layout.quantities)
        points = len(self.layout.places) + 1  # and one for all of the plant
        kept, filled, start, total = [], np.zeros(quantities, np.int64), 0, len(self._first) - 1
        self.duplicates = 0
        while start < total:
            end = np.searchsorted(self._first, self._first[start] + CHUNK, side="right") - 1
            stop = min(max(int(end), start + 1), total)
            cells = np.zeros(0, dtype=np.int64)
            for rows in self._rows.rows(self._first[start], self._first[stop]):
                self.duplicates += count_duplicates(rows)
                window, frame = self.timeline.place(rows["time"])
                of, at = self.layout.quantity[rows["series"]], self.layout.point[rows["series"]] + 1
                cell = (((window - start) * frames + frame) * quantities + of) * points + at
                cells = np.union1d(cells, cell)
            known = np.unique(cells // (quantities * points)) // frames
            keep = np.bincount(known, minlength=stop - start) >= _FEWEST_FRAMES
            cells = cells[keep[cells // (frames * quantities * points)]]
            filled += np.bincount(cells // points % quantities, minlength=quantities)
            kept.append(start + np.flatnonzero(keep))
            start = stop
        self.kept = np.concatenate(kept)
        self.filled = {q.number: int(filled[q.number]) for q in self.layout.quantities}
        if not len(self.kept):
            raise InputError(
                f"{self._path}: no window of {frames} frames of {self.timeline.interval:g} s has "
                f"readings in {_FEWEST_FRAMES} of them; give a shorter sensors.interval, or more "
                "sensors.frames, in a mapping file"
            )
