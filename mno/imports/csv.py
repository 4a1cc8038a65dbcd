"""Sensor logs: scattered readings become windows of frames on points, with gaps where none was.

A frame's value at a point is the mean of the readings whose time is nearest to that frame; nothing
is interpolated, neither in time nor in space. What holds for all of the plant, a reading without a
position, becomes an input over time. With `interval: readings` every moment of reading is a frame
of its own, and a field says when it is; time, where it is used, goes on by the mean interval.

A run is what was recorded without a pause longer than a window. Its frames are `interval` apart and
begin with its first reading; a window is so many frames, one behind the other.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from mno.core.fields import Axis, Field
from mno.imports.cage import make_room
from mno.imports.importer import MAX_SAMPLES, Importer, Layout
from mno.imports.mapping import Mapping
from mno.imports.readings import NOWHERE, Log, field_name, posix_seconds

CHUNK = 500_000  # readings that are looked at together
_BYTES_OF_A_BYTE = 4  # at most, of memory for one of the file
_FEW = 3  # intervals without a reading between; more are a pause
_CLOSE = 3e-4
_ROUNDS = 4
_MOST_FRAMES = 1e15  # between the first reading and the last; a float counts no further
_FEWEST_GROUPS, _BLOCKS = 10, 20
_SAME = 0.01  # of a sensor's interval: within it, readings are of one moment
_ELAPSED = Field("elapsed", "s", "time since the first frame", "times", ("time",))
_FEWEST_FRAMES = 2  # with readings; one frame says nothing of what follows it


class _Quantity(NamedTuple):
    field: Field  # a state on points, or an input over time that holds for all of the plant
    name: str  # in the file
    number: int  # in the log
    points: int  # at which it is measured; 0 if it holds for all of the plant


class SensorLog(Importer):
    """A CSV file of readings; see `Importer`."""

    kind = "csv"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Read the file, and bring its readings into windows."""
        rules = mapping.sensors
        make_room(_BYTES_OF_A_BYTE * self.path.stat().st_size)
        log = Log(self.path, rules, mapping.units_in_file)
        del log.uncertainty
        own_times = [_ELAPSED.name] if rules.interval == "readings" else []
        self._taken = (*log.axes, *own_times)
        self._find_places(log)
        self._rate = _median_interval(log, np.flatnonzero(self._point >= 0).tolist())
        interval = self._rate if rules.interval in (None, "readings") else rules.interval
        if interval is None:
            raise self.error(
                "no sensor was read twice, so that its rate is not known; give "
                "`sensors: {interval: …}`, the seconds between frames, in a mapping file"
            )
        moments = None
        if rules.interval == "readings":
            moments, log.time, interval = _moments(log.time, _SAME * interval, rules.frames)
        self._timeline = Timeline.of(log.time, interval, rules.frames, self.error)
        self._times = None if moments is None else self._timeline.spread(*moments)
        self._put_in_order(log)
        self.check_sample("the log", (rules.frames, len(self._places)), len(self._kept))
        for place, axis in enumerate(log.axes):
            field = Field(axis, rules.position_units, axis, "coordinate", ("point",))
            row = self._places[:, place]
            self.add(field, axis, lambda start, stop, row=row: np.tile(row, (stop - start, 1)))
        if self._times is not None:
            elapsed = (self._times - self._times[:, :1])[self._kept]
            self.add(_ELAPSED, _ELAPSED.name, lambda start, stop: elapsed[start:stop])
        for one in self._quantities:
            self.add(one.field, one.name, partial(self._means, one))
        return self._described(log)

    def _find_places(self, log: Log) -> None:
        """Make points of places, and fields of quantities.

        `_places` has the coordinates of the points, in ascending order, shape `(points, axes)`;
        `_point` and `_quantity` the point of each series (`NOWHERE` for one that holds for all of
        the plant) and its quantity.
        """
        if not log.places:
            raise self.error(
                "no reading has a position; expected columns x (and y, z), or x in "
                "`sensors: {columns: …}` of a mapping file: say where the sensors are"
            )
        places = np.array(list(log.places), dtype=np.float64)
        order = np.lexsort(places.T[::-1])
        _, place, self._quantity = np.array(list(log.series), dtype=np.int64).T
        self._point = np.append(np.argsort(order), NOWHERE)[place]
        self._places = places[order]
        self._quantities: list[_Quantity] = []
        known: dict[str, str] = {}
        for name, number in log.quantities.items():
            at = np.unique(self._point[self._quantity == number])
            if NOWHERE in at and len(at) > 1:
                raise self.error(
                    f"{name} has readings with a position and readings without; expected one or "
                    "the other: add the position, or call what holds for all of the plant otherwise"
                )
            points = 0 if NOWHERE in at else len(at)
            label = field_name(name)
            label = f"{label}_value" if label in self._taken else label
            if known.setdefault(label, name) != name:
                raise self.error(
                    f"quantities {known[label]!r} and {name!r} would be one field; expected names "
                    "that differ in letters or digits: rename one"
                )
            role = "state" if points else "input"
            field = Field(label, log.units[name], name, role, ("time", "point"), gaps=True)
            self._quantities.append(_Quantity(field, name, number, points))

    def _put_in_order(self, log: Log) -> None:
        """Bring the readings of each window together, and find the windows that have enough."""
        frames, total = self._timeline.frames, int(self._timeline.windows.sum())
        window, self._frame = self._timeline.place(log.time)
        self._window, self._series, self._value = window, log.numbers, log.value
        del log.time, log.numbers, log.value
        if (np.diff(window) < 0).any():
            order = np.argsort(window, kind="stable")
            for name in ("_window", "_frame", "_series", "_value"):
                setattr(self, name, getattr(self, name)[order])
            del order, window
        # A cell is one frame of one quantity at one point.
        pairs = np.stack([self._quantity, self._point], axis=1)
        pairs, pair = np.unique(pairs, axis=0, return_inverse=True)
        cells = (self._window * np.int64(frames) + self._frame) * len(pairs)
        cells = np.unique(cells + pair[self._series])
        read = np.unique(cells // len(pairs)) // frames
        keep = np.bincount(read, minlength=total) >= _FEWEST_FRAMES
        cells = cells[keep[cells // (frames * len(pairs))]]
        self._filled = np.bincount(pairs[cells % len(pairs), 0], minlength=len(self._quantities))
        self._kept = np.flatnonzero(keep)
        if not len(self._kept):
            raise self.error(
                f"no window of {frames} frames of {self._timeline.interval:g} s has readings in "
                f"{_FEWEST_FRAMES} of them; give a shorter sensors.interval, or more "
                "sensors.frames, in a mapping file"
            )

    def _means(self, quantity: _Quantity, start: int, stop: int) -> np.ndarray:
        """Return the mean of the readings of each frame and point, NaN where there is none.

        Shape `(stop - start, frames, points)`; equal at all points for a quantity of all the plant.
        """
        frames, points = self._timeline.frames, len(self._places) if quantity.points else 1
        kept = self._kept[start:stop]
        rows = slice(*np.searchsorted(self._window, [kept[0], kept[-1] + 1]).tolist())
        window, series = self._window[rows], self._series[rows]
        sample = np.searchsorted(kept, window)
        wanted = (self._quantity[series] == quantity.number) & (kept[sample] == window)
        cell = (sample * frames + self._frame[rows]) * points
        if quantity.points:
            cell += self._point[series]
        cell, shape = cell[wanted], (len(kept), frames, points)
        sums = np.bincount(cell, self._value[rows][wanted], minlength=np.prod(shape))
        counts = np.bincount(cell, minlength=sums.size)
        means = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
        return np.broadcast_to(means.reshape(shape), (*shape[:2], len(self._places)))

    def _described(self, log: Log) -> Layout:
        timeline, points = self._timeline, len(self._places)
        times = timeline.interval * np.arange(timeline.frames)
        axes = (
            Axis("time", "s", "time", times, (0.0, float(times[-1]))),
            Axis("point", "1", "number of the point", np.arange(float(points)), (0.0, points)),
        )
        facts: dict[str, Any] = {"readings": len(self._value), "sensors": len(log.sensors)}
        facts |= {"interval": timeline.interval, "frames": timeline.frames}
        epoch = log.clock.date(0.0)
        facts |= {"epoch": epoch} if epoch else {}
        runs, starts = timeline.windows_of_runs()
        starts = starts if self._times is None else self._times[:, 0]
        groups, block = groups_of(runs[self._kept])
        self.remarks += self._remarks(log, block)
        starts = starts[self._kept] + posix_seconds(epoch)
        return self.layout(len(self._kept), axes, facts, groups, starts)

    def _remarks(self, log: Log, block: int) -> Iterator[str]:
        samples, frames, interval = len(self._kept), self._timeline.frames, self._timeline.interval
        yield (
            f"{len(self._value)} readings by {len(log.sensors)} sensors in {len(self._places)} "
            f"places; {log.unreadable} cells without one"
        )
        rate = f"every {self._rate:g} s (median)" if self._rate else "once"
        kind, of = f"frames of {interval:g} s", "nearest to each frame"
        if self._times is not None:
            kind, of = f"moments of reading, {interval:g} s apart in the mean", "of each"
        yield (
            f"sensors were read {rate}; a sample is {frames} {kind}, and has the mean of the "
            f"readings {of}"
        )
        for one in self._quantities:
            missing = 1 - int(self._filled[one.number]) / (samples * frames * max(one.points, 1))
            yield f"{one.field.name}: {missing:.2%} of its values are missing; none is filled in"
        if left_out := int(self._timeline.windows.sum()) - samples:
            yield f"{left_out} windows with readings in less than two frames are left out"
        drawn = ": runs, not windows, are drawn for the splits"
        if block:
            drawn = (
                f", cut into blocks of {block} windows: blocks, not windows, are drawn for the "
                "splits; `split: {by: time}` parts the log more strictly"
            )
        runs = len(self._timeline.begins)
        yield f"{runs} runs without a pause longer than {frames * interval:g} s{drawn}"
        if log.ignored:
            yield f"columns that are not used: {', '.join(log.ignored)[:200]}"


def _median_interval(log: Log, of: list[int]) -> float | None:
    """Return the median over series of the seconds between their readings; None if all have one.

    Readings jitter and some are lost, so that a series' interval is the time between its first and
    last reading over the number of intervals between them, long pauses left out, in the first part
    of the log in which it was read twice. The median has as few digits as are right to 3 in 10,000.
    """
    intervals: dict[int, float] = {}
    for first in range(0, len(log.time), CHUNK):
        part = slice(first, first + CHUNK)
        order = np.argsort(log.numbers[part], kind="stable")
        numbers, begins = np.unique(log.numbers[part][order], return_index=True)
        each = np.split(log.time[part][order], begins[1:])
        for number, times in zip(numbers.tolist(), each, strict=True):
            steps = np.diff(np.unique(times))
            if not len(steps) or number in intervals:
                continue
            interval = float(np.median(steps))
            for _ in range(_ROUNDS):
                count = np.maximum(np.rint(steps / interval), 1)
                few = count <= _FEW
                interval = float(steps[few].sum() / count[few].sum()) if few.any() else interval
            intervals[number] = interval
    if not (known := [intervals[number] for number in of if number in intervals]):
        return None
    exact = float(np.median(known))
    rounded = (float(f"{exact:.{digits}g}") for digits in range(1, 5))
    return next((r for r in rounded if abs(r - exact) <= _CLOSE * exact), exact)


def _moments(
    times: np.ndarray, same: float, frames: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, float]:
    """Bring readings to a timeline of even steps, one for each moment of reading.

    Returns:
        The time of each moment, and where it is on that timeline; where each reading is; and the
        mean interval of moments, which is the timeline's. Pauses of more frames remain uncounted.
    """
    known = np.unique(times)
    begins = np.diff(known, prepend=-np.inf) > same
    # Readings that follow each other closely for long are parted, too.
    since = known - known[begins][np.cumsum(begins) - 1]
    moments = known[begins | (np.diff(since // same, prepend=0.0) != 0)]
    moments = moments[np.diff(moments, prepend=-np.inf) > same / 2]
    steps, interval = np.diff(moments), np.inf
    for _ in range(_ROUNDS):
        interval = float(f"{steps[steps <= frames * interval].mean():.4g}")
    pauses = np.cumsum(np.diff(moments, prepend=moments[0]) > frames * interval)
    even = (np.arange(len(moments)) + frames * pauses) * interval
    return (moments, even), even[np.searchsorted(moments, times, side="right") - 1], interval


class Timeline(NamedTuple):
    """The frames and windows of a recording."""

    interval: float  # seconds from frame to frame
    frames: int  # of a window
    begins: np.ndarray  # first frame of each run, seconds, (runs,), ascending
    windows: np.ndarray  # of each run, (runs,)

    @classmethod
    def of(cls, times: np.ndarray, interval: float, frames: int, error: Callable) -> Self:
        """Find the runs of readings with these times, in any order; refuse too many by `error`."""
        times = np.sort(times)
        if (times[-1] - times[0]) / interval > _MOST_FRAMES:
            raise error(
                f"readings from {times[0]:g} to {times[-1]:g} s in frames of {interval:g} s; "
                "expected fewer frames: correct the times, or give a longer sensors.interval"
            )
        pauses = np.flatnonzero(np.diff(times) > frames * interval)
        begins, ends = times[np.r_[0, pauses + 1]], times[np.r_[pauses, len(times) - 1]]
        windows = np.rint((ends - begins) / interval).astype(np.int64) // frames + 1
        if windows.sum() > MAX_SAMPLES:
            raise error(
                f"{windows.sum()} windows of {frames} frames of {interval:g} s; expected at most "
                f"{MAX_SAMPLES}: give a longer sensors.interval, or more sensors.frames"
            )
        return cls(interval, frames, begins, windows)

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the window of each time, and which frame of it is nearest, int32."""
        window, frame = np.empty((2, len(times)), dtype=np.int32)
        first = np.cumsum(self.windows) - self.windows
        for start in range(0, len(times), CHUNK):
            part = slice(start, start + CHUNK)
            run = np.searchsorted(self.begins, times[part], side="right") - 1
            number = np.rint((times[part] - self.begins[run]) / self.interval).astype(np.int64)
            window[part], frame[part] = first[run] + number // self.frames, number % self.frames
        return window, frame

    def spread(self, values: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return the value of each frame of each window, given those at all times of some.

        Behind them, where a run's last window has no more, frames go on by the interval.
        """
        found = np.full((int(self.windows.sum()), self.frames), np.nan)
        window, frame = self.place(times)
        found[window, frame] = values
        counts = np.bincount(window)[:, None]
        beyond = np.arange(self.frames) - counts + 1
        last = np.take_along_axis(found, counts - 1, axis=1)
        return np.where(beyond > 0, last + beyond * self.interval, found)

    def windows_of_runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the run of each window, and its first frame in seconds, shape `(windows,)`."""
        runs = np.repeat(np.arange(len(self.windows)), self.windows)
        within = np.arange(len(runs)) - (np.cumsum(self.windows) - self.windows)[runs]
        return runs, self.begins[runs] + within * (self.frames * self.interval)


def groups_of(runs: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the group of each window, int64, and of how many neighbouring windows a group is.

    Windows of one run (given for each window, ascending) resemble each other, so that a run is a
    group: all of it is trained on, or tested on; the number is 0. A recording of fewer than ten
    runs would leave nothing to choose from; its runs are cut into some twenty blocks of
    neighbouring windows. Then only windows on both sides of a cut resemble each other across
    splits; a split by time has but two such cuts.
    """
    names, group, counts = np.unique(runs, return_inverse=True, return_counts=True)
    if len(names) >= _FEWEST_GROUPS:
        return group.astype(np.int64), 0
    size = max(1, len(runs) // _BLOCKS)
    within = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
    edges = (within % size == 0) | (np.diff(group, prepend=-1) != 0)
    return np.cumsum(edges).astype(np.int64) - 1, size


IMPORTER = SensorLog
