"""Sensor logs: scattered readings become windows of frames on points, with gaps where none was.

A frame's value at a point is the mean of the readings whose time is nearest to that frame; nothing
is interpolated, neither in time nor in space. What holds for all of the plant, a reading without a
position, becomes an input over time.

A run is what was recorded without a pause longer than a window. Frames of a run are `interval`
apart and begin with its first reading; a window is so many frames, one behind the other. The file
is read once, when it is opened; its readings are then on the disk, in a temporary file, by window,
so that memory does not grow with their number.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.imports.importer import MAX_SAMPLES, Contents, Importer, Layout, Reader, check_sample
from mno.imports.mapping import Mapping
from mno.imports.readings import (
    CHUNK,
    NOWHERE,
    ROW,
    Catalogue,
    Parser,
    count_duplicates,
    field_name,
    posix_seconds,
)

_FEW = 3  # intervals without a reading between; more are a pause
_CLOSE = 3e-4
_ROUNDS = 4
_MOST_FRAMES = 1e15  # between the first reading and the last; a float counts no further
_FEWEST_GROUPS, _BLOCKS = 10, 20
_FEWEST_FRAMES = 2  # with readings; one frame says nothing of what follows it


class SensorLog(Importer):
    """A CSV file of readings; see `Importer`."""

    kind = "csv"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Read the file, and bring its readings into windows."""
        units = {name: rule.given_in or rule.units for name, rule in mapping.fields.items()}
        wanted = {name: unit for name, unit in units.items() if unit}
        rules = mapping.sensors
        parser = self._parser = Parser(self.path, rules, wanted)
        self._rows = Spill()
        rates, low, high = Rates(), np.inf, -np.inf
        for rows in parser.chunks():
            self._rows.append(rows)
            rates.add(rows)
            low, high = min(low, rows["time"].min()), max(high, rows["time"].max())
        self._find_places(parser.catalogue)
        placed = np.flatnonzero(self._point >= 0).tolist()
        self._rate = rates.interval(placed)
        interval = rules.interval or self._rate
        if interval is None:
            raise InputError(
                f"{self.path}: no sensor was read twice, so that its rate is not known; give "
                "`sensors: {interval: …}`, the seconds between frames, in a mapping file"
            )
        times = (rows["time"] for rows in self._rows.rows(0, len(self._rows)))
        self._timeline = Timeline.of(
            self.path, times, float(low), float(high), interval, rules.frames
        )
        self._put_in_order()
        self._measure()
        check_sample(self.path, "the log", (rules.frames, len(self._places)), len(self._kept))
        readers: dict[str, Reader] = {
            axis: partial(_repeated, self._places[:, place].astype(np.float32))
            for place, axis in enumerate(parser.axes)
        }
        readers |= {one.field.name: partial(self._means, one) for one in self._quantities}
        return self._describe(rules.position_units), readers

    def close(self) -> None:
        """Forget the readings."""
        if hasattr(self, "_rows"):
            self._rows.close()
        super().close()

    def _find_places(self, found: Catalogue) -> None:
        """Make points of places, and fields of quantities.

        `_places` has the coordinates of the points, in ascending order, shape `(points, axes)`;
        `_point` and `_quantity` the point of each series (-1 for one that holds for all of the
        plant) and its quantity.
        """
        if not found.places:
            raise InputError(
                f"{self.path}: no reading has a position; expected columns x (and y, z), or x in "
                "`sensors: {columns: …}` of a mapping file: say where the sensors are"
            )
        places = np.array(list(found.places), dtype=np.float64)
        order = np.lexsort(places.T[::-1])
        _, place, self._quantity = np.array(list(found.series), dtype=np.int64).T
        self._point = np.append(np.argsort(order), NOWHERE)[place]
        self._places = places[order]
        self._quantities: list[Quantity] = []
        for name, number in found.quantities.items():
            at = np.unique(self._point[self._quantity == number])
            if NOWHERE in at and len(at) > 1:
                raise InputError(
                    f"{self.path}: {name} has readings with a position and readings without; "
                    "expected one or the other: add the position, or call what holds for all of "
                    "the plant otherwise"
                )
            points = 0 if NOWHERE in at else len(at)
            label = field_name(name)
            label = f"{label}_value" if label in self._parser.axes else label
            role = "state" if points else "input"
            field = Field(label, found.units[name], name, role, ("time", "point"), gaps=True)
            self._quantities.append(Quantity(field, name, number, points))
        names = [one.field.name for one in self._quantities]
        twice = [one.name for one in self._quantities if names.count(one.field.name) > 1]
        if twice:
            raise InputError(
                f"{self.path}: quantities {' and '.join(map(repr, twice[:2]))} would be one field; "
                "expected names that differ in letters or digits: rename one"
            )

    def _means(self, quantity: Quantity, start: int, stop: int) -> np.ndarray:
        """Return the mean of the readings of each frame and point, NaN where there is none.

        Returns:
            Shape `(stop - start, frames, points)`, float32; equal at all points for a quantity
            that holds for all of the plant.
        """
        frames, points = self._timeline.frames, len(self._places) if quantity.points else 1
        windows = self._kept[start:stop]
        sums = np.zeros(len(windows) * frames * points)
        counts = np.zeros(sums.size, dtype=np.int64)
        for rows in self._rows.rows(*self._first[[windows[0], windows[-1] + 1]].tolist()):
            window, frame = self._timeline.place(rows["time"])
            sample = np.searchsorted(windows, window)
            wanted = (self._quantity[rows["series"]] == quantity.number) & (
                windows[sample] == window
            )
            cell = (sample * frames + frame)[wanted] * points
            if quantity.points:
                cell += self._point[rows["series"][wanted]]
            np.add.at(sums, cell, rows["value"][wanted])
            np.add.at(counts, cell, 1)
        means = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
        cells = means.astype(np.float32).reshape(len(windows), frames, points)
        return np.broadcast_to(cells, (*cells.shape[:2], len(self._places)))

    def _put_in_order(self) -> None:
        """Bring the readings of each window together; `_first` says where they begin."""
        counts = np.zeros(int(self._timeline.windows.sum()), dtype=np.int64)
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
        return self._timeline.place(rows["time"])[0]

    def _measure(self) -> None:
        """Find the windows to keep, duplicates and gaps, a batch of whole windows at a time."""
        frames, quantities = self._timeline.frames, len(self._quantities)
        points = len(self._places) + 1  # and one for all of the plant
        kept, filled, start, total = [], np.zeros(quantities, np.int64), 0, len(self._first) - 1
        self._duplicates = 0
        while start < total:
            end = np.searchsorted(self._first, self._first[start] + CHUNK, side="right") - 1
            stop = min(max(int(end), start + 1), total)
            cells = np.zeros(0, dtype=np.int64)
            for rows in self._rows.rows(self._first[start], self._first[stop]):
                self._duplicates += count_duplicates(rows)
                window, frame = self._timeline.place(rows["time"])
                of, at = self._quantity[rows["series"]], self._point[rows["series"]] + 1
                cell = (((window - start) * frames + frame) * quantities + of) * points + at
                cells = np.union1d(cells, cell)
            known = np.unique(cells // (quantities * points)) // frames
            keep = np.bincount(known, minlength=stop - start) >= _FEWEST_FRAMES
            cells = cells[keep[cells // (frames * quantities * points)]]
            filled += np.bincount(cells // points % quantities, minlength=quantities)
            kept.append(start + np.flatnonzero(keep))
            start = stop
        self._kept, self._filled = np.concatenate(kept), filled
        if not len(self._kept):
            raise InputError(
                f"{self.path}: no window of {frames} frames of {self._timeline.interval:g} s has "
                f"readings in {_FEWEST_FRAMES} of them; give a shorter sensors.interval, or more "
                "sensors.frames, in a mapping file"
            )

    def _describe(self, position_units: str) -> Contents:
        parser, timeline = self._parser, self._timeline
        times = timeline.interval * np.arange(timeline.frames)
        points = len(self._places)
        places = [Field(a, position_units, a, "coordinate", ("point",)) for a in parser.axes]
        sources = {axis: axis for axis in parser.axes}
        sources |= {one.field.name: one.name for one in self._quantities}
        epoch = parser.clock.epoch(0.0)
        groups, block = groups_of(timeline.runs[self._kept])
        facts: dict[str, Any] = {
            "readings": len(self._rows),
            "sensors": len(parser.catalogue.sensors),
            "interval": timeline.interval,
            "frames": timeline.frames,
        }
        return Contents(
            samples=len(self._kept),
            axes=(
                Axis("time", "s", "time", times, (0.0, float(times[-1]))),
                Axis("point", "1", "number of the point", np.arange(float(points)), (0.0, points)),
            ),
            fields=(*places, *(one.field for one in self._quantities)),
            sources=sources,
            parameters=facts | ({"epoch": epoch} if epoch else {}),
            groups=groups,
            starts=timeline.starts[self._kept] + posix_seconds(epoch),
            remarks=tuple(self._remarks(block)),
        )

    def _remarks(self, block: int) -> Iterator[str]:
        parser, timeline = self._parser, self._timeline
        samples, frames, runs = len(self._kept), timeline.frames, len(timeline.begins)
        yield (
            f"{len(self._rows)} readings by {len(parser.catalogue.sensors)} sensors in "
            f"{len(self._places)} places; {parser.unreadable} cells without one"
        )
        rate = f"every {self._rate:g} s (median)" if self._rate else "once"
        yield (
            f"sensors were read {rate}; a sample is {frames} frames of {timeline.interval:g} s, "
            "and has the mean of the readings nearest to each frame"
        )
        for quantity in self._quantities:
            cells = samples * frames * max(quantity.points, 1)
            missing = 1 - int(self._filled[quantity.number]) / cells
            yield (
                f"{quantity.field.name}: {missing:.2%} of its values are missing; none is filled in"
            )
        if self._duplicates:
            yield (
                f"{self._duplicates} readings have the time and sensor of another; their mean "
                "is taken"
            )
        left_out = int(timeline.windows.sum()) - samples
        if left_out:
            yield f"{left_out} windows with readings in less than two frames are left out"
        yield f"{runs} runs without a pause longer than {frames * timeline.interval:g} s" + (
            f", cut into blocks of {block} windows: blocks, not windows, are drawn for the splits; "
            "`split: {by: time}` parts the log more strictly"
            if block
            else ": runs, not windows, are drawn for the splits"
        )
        if parser.ignored:
            yield f"columns that are not used: {', '.join(parser.ignored)[:200]}"


class Quantity(NamedTuple):
    """A quantity as a field.

    Attributes:
        field: Its field: a state on points, or an input over time that holds for all of the plant.
        name: Its name in the file.
        number: Its number in the catalogue.
        points: Number of points at which it is measured; 0 if it holds for all of the plant.
    """

    field: Field
    name: str
    number: int
    points: int


def _repeated(values: np.ndarray, start: int, stop: int) -> np.ndarray:
    return np.broadcast_to(values, (stop - start, len(values))).copy()


class Spill:
    """Rows of dtype `ROW` in a file without a name, which is gone when it is closed.

    Raises:
        MnoError: There is no room for it; so do its methods.
    """

    def __init__(self) -> None:
        with _room():
            self._file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - kept open
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Write rows behind the others."""
        self._write(rows, self._count)
        self._count += len(rows)

    def rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the rows from `start` to before `stop`, at most `CHUNK` at a time."""
        for first in range(start, stop, CHUNK):
            with _room():
                self._file.seek(first * ROW.itemsize)
                yield np.fromfile(self._file, ROW, min(CHUNK, stop - first))

    def ordered(self, window: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> Spill:
        """Return the same rows by window; those of one window keep their order. This one is closed.

        Args:
            window: Returns the window of each of some rows.
            counts: Rows in each window.
        """
        result = Spill()
        free = np.concatenate([[0], np.cumsum(counts)[:-1]])  # where the next row of each goes
        for rows in self.rows(0, len(self)):
            windows = window(rows)
            order = np.argsort(windows, kind="stable")
            rows, windows = rows[order], windows[order]
            firsts = np.flatnonzero(np.diff(windows, prepend=-1))
            for first, last in zip(firsts, [*firsts[1:], len(rows)], strict=True):
                result._write(rows[first:last], int(free[windows[first]]))
                free[windows[first]] += last - first
        result._count = len(self)
        self.close()
        return result

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def _write(self, rows: np.ndarray, at: int) -> None:
        data, offset = memoryview(rows.tobytes()), at * ROW.itemsize
        while data:
            with _room():
                written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MnoError(
            f"cannot keep readings in {tempfile.gettempdir()}: {error.strerror or error}; make "
            "room there, or set TMPDIR to a folder with room"
        ) from None


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


IMPORTER = SensorLog
