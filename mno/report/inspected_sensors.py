"""Data of sensors: which values are there of each field, and whether they suffice for training.

A sensor is a point of the field. There is but one where the field has no axis of space, or has the
same value at all points: one that holds for all of the plant.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from mno.core.fields import Axis, Field
from mno.core.numbers import number, percent
from mno.data.reading import Schema
from mno.report.inspected_fields import FieldMeasurement, noise_of_differences

DEAD = 0.02  # a sensor is dead whose deviation is below this share of the median sensor's
# Of data of sensors, the largest:
MISSING = 0.3  # share of a field's values that are missing, at the sensors that measure it
LONGEST_GAP = 0.1  # time without a reading of one sensor, as a share of the recorded time
FAULTY = 0.1  # share of sensors that are silent, constant or dead
RATE = 0.3  # share of the variance between neighbouring frames: that of a wave of 8 frames
NOISE = 0.3  # noise, as a share of the standard deviation
RANGE = 0.1  # distance of test values from those trained on, as a share of the range of these
HOLE = 0.6  # diameter without a sensor, as a share of the diagonal of the box around all
WINDOWS = {"train": 30, "validation": 3, "test": 3}  # fewest samples of each split

_COLUMNS = 240  # of the picture of what is there
_DATES = 1e8  # seconds; below this a time is not one since 1970
_LATTICE = {1: 1001, 2: 65, 3: 25}  # places along each axis at which the distance is measured


class Presence:
    """What is there of a field over the samples that were added so far.

    A sample's array has the axes. It begins at its place in `starts`, in the unit of time, shape
    `(samples,)`, NaN where unknown; a gap goes on into a sample that begins where one ended.
    """

    def __init__(self, field: Field, axes: Sequence[Axis], starts: np.ndarray) -> None:
        self.field, self._starts = field, starts
        lengths = [len(axis.points) for axis in axes]
        timed = bool(axes) and axes[0].name == "time" and lengths[0] > 1
        self.frames, *space = lengths if timed else [1, *lengths]  # of a sample
        self.units = axes[0].units if timed else "1"
        self.interval = float(np.median(np.diff(axes[0].points))) if timed else math.nan
        sensors = math.prod(space)
        self.total = 0  # values that each sensor could have
        self.same = True  # whether all points have had the same values so far
        self._count = np.zeros(sensors, dtype=np.int64)
        self._offset = np.full(sensors, np.nan)  # one value of each, from which sums are taken
        self._sums, self._squares = np.zeros((2, sensors))
        self._steps, self._step_count = 0.0, 0
        self._noise: list[float] = []
        self._running, self._longest = np.zeros((2, sensors), dtype=np.int64)
        self._ends = np.zeros((sensors, 2), dtype=np.int64)
        self._filled = np.zeros((sensors, min(_COLUMNS, len(starts))))
        self._cells = np.zeros(self._filled.shape[1])

    def add(self, start: int, values: np.ndarray) -> None:
        """Measure samples that follow each other from one on, shape `(samples, *dims)`."""
        for sample, array in enumerate(values, start=start):
            frames = np.asarray(array, dtype=np.float64).reshape(self.frames, -1)
            here = np.isfinite(frames)
            alike = np.broadcast_to(frames[:, :1], frames.shape)
            self.same = self.same and np.array_equal(frames, alike, equal_nan=True)
            self.total += self.frames
            self._count += here.sum(axis=0)
            first = frames[here.argmax(axis=0), np.arange(here.shape[1])]
            self._offset = np.where(np.isfinite(self._offset), self._offset, first)
            distance = np.where(here, frames - self._offset, 0.0)
            self._sums += distance.sum(axis=0)
            self._squares += np.square(distance).sum(axis=0)
            self._add_gaps(sample, here)
            column = sample * len(self._cells) // len(self._starts)
            self._filled[:, column] += here.mean(axis=0)
            self._cells[column] += 1
            steps = np.diff(frames, axis=0)
            steps = steps[np.isfinite(steps)]
            self._steps += float(np.square(steps).sum())
            self._step_count += len(steps)
            if self.frames > 2:
                self._noise.append(noise_of_differences(frames.T))

    @property
    def sensors(self) -> int:
        """Number of sensors."""
        return min(1, len(self._count)) if self.same else len(self._count)

    @property
    def measured(self) -> np.ndarray:
        """Sensors that have a value at all, shape `(sensors,)`, bool."""
        return self._count[: self.sensors] > 0

    @property
    def missing(self) -> np.ndarray:
        """Share of missing values of each sensor, shape `(sensors,)`."""
        return 1.0 - self._count[: self.sensors] / max(self.total, 1)

    @property
    def share_missing(self) -> float:
        """Share of missing values at the sensors that have any; 1 where none has."""
        return float(self.missing[self.measured].mean()) if self.measured.any() else 1.0

    @property
    def _variances(self) -> np.ndarray:
        count = np.maximum(self._count, 1)
        return np.maximum(self._squares / count - np.square(self._sums / count), 0.0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each sensor over time and samples, shape `(sensors,)`."""
        return np.sqrt(self._variances[: self.sensors])

    @property
    def conditions(self) -> np.ndarray:
        """How each sensor is, in a word, shape `(sensors,)`; dead: others vary, it hardly does."""
        usual = np.median(self.deviation[self.measured]) if self.measured.any() else 0.0
        constant = ((self._count > 1) & (self._squares == 0))[: self.sensors]
        faults = [~self.measured, constant, self.deviation < DEAD * usual]
        return np.select(faults, ["silent", "constant", "dead"], "works")

    @property
    def _variance(self) -> float:
        """Variance over time about each sensor's mean."""
        return float((self._variances * self._count).sum() / max(int(self._count.sum()), 1))

    @property
    def change(self) -> float:
        """Share of the variance over time that lies between neighbouring frames; NaN if unknown.

        Half the mean square of the step from one frame to the next, over the variance about each
        sensor's mean. For a wave of `n` frames it is `1 - cos(2 pi / n)`, for noise it is 1.
        """
        known = self._step_count and self._variance > 0
        return float(self._steps / self._step_count / 2 / self._variance) if known else math.nan

    @property
    def noise(self) -> float:
        """Noise by second differences over time, as a share of the deviation; NaN if unknown."""
        known = [noise for noise in self._noise if math.isfinite(noise)]
        known = known if self._variance > 0 else []
        return float(np.median(known) / math.sqrt(self._variance)) if known else math.nan

    @property
    def gaps(self) -> np.ndarray:
        """Frames of the longest gap of each sensor, shape `(sensors,)`."""
        return self._longest[: self.sensors]

    @property
    def longest_gap(self) -> tuple[int, int, int, int] | None:
        """Frames, sensor, last sample and frame of the longest gap, of those that measure."""
        lengths = np.where(self.measured, self.gaps, 0)
        if not lengths.any():
            return None
        sensor = int(np.argmax(lengths))
        return int(lengths[sensor]), sensor, *self._ends[sensor].tolist()

    @property
    def picture(self) -> np.ndarray:
        """Share of values that are there, shape `(sensors, samples or fewer columns)`."""
        return self._filled[: self.sensors] / np.maximum(self._cells, 1)

    def _add_gaps(self, sample: int, here: np.ndarray) -> None:
        between = -1  # frames since the sample before, if that is of the same run
        if sample:
            elapsed = (self._starts[sample] - self._starts[sample - 1]) / self.interval
            between = round(elapsed) - self.frames if math.isfinite(elapsed) else -1
        goes_on = 0 <= between <= self.frames
        self._running = self._running + between if goes_on else np.zeros_like(self._running)
        for frame, there in enumerate(here):
            self._running = np.where(there, 0, self._running + 1)
            longer = self._running > self._longest
            self._longest = np.where(longer, self._running, self._longest)
            self._ends[longer] = sample, frame


@dataclass(frozen=True, eq=False)
class Sensors:
    """What an inspection knows of data with gaps, or of sensors in fixed places."""

    presence: tuple[Presence, ...]  # of each field with gaps or on points
    places: np.ndarray | None  # shape (sensors, axes); none where they have no fixed places
    axes: tuple[str, ...]  # names of those of the places
    starts: np.ndarray  # when each sample begins, seconds; NaN where that is not known

    def name(self, presence: Presence, sensor: int) -> str:
        """Return what a sensor is called: by its place, or its number."""
        if presence.sensors == 1:
            return presence.field.name
        if self.places is None or len(self.places) != presence.sensors:
            return f"point {sensor}"
        at = zip(self.axes, self.places[sensor], strict=True)
        return ", ".join(f"{axis}={value:.4g}" for axis, value in at)

    def moment(self, presence: Presence, sample: int, frame: int) -> str:
        """Return when a frame is, as a date where that is known."""
        seconds = float(self.starts[sample]) + frame * presence.interval
        if not math.isfinite(seconds):
            return f"sample {sample}, frame {frame}"
        if seconds < _DATES:
            return f"{seconds:.6g} s"
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"

    def silent(self) -> np.ndarray:
        """Points at which no field that differs among them has a value, shape `(points,)`, bool."""
        located = [p.measured for p in self.presence if "point" in p.field.dims and not p.same]
        return ~np.any(located, axis=0) if located else np.zeros(0, dtype=bool)


def find_sensors(group: Any, schema: Schema, samples: int) -> Sensors | None:
    """Return what to measure of data with gaps or points in fixed places; none of solved ones."""
    if schema.resolution is not None:
        return None
    axes = {axis.name: axis for axis in schema.axes}
    places = _places(group, schema, samples)
    fixed = places is not None
    starts = np.full(samples, np.nan)
    if "start" in group and "time" in axes and axes["time"].units == "s":
        starts = np.asarray(group["start"][:], dtype=np.float64)
    presence = tuple(
        Presence(field, [axes[name] for name in field.dims], starts)
        for field in schema.fields
        if field.gaps or (field.role != "coordinate" and "point" in field.dims and fixed)
    )
    names = tuple(field.name for field in schema.coordinates)
    return Sensors(presence, places, names, starts) if presence else None


def _places(group: Any, schema: Schema, samples: int) -> np.ndarray | None:
    """Return where points are, shape `(points, axes)`, if they are there in all samples."""
    columns = []
    for field in schema.coordinates:
        array = group[field.name]
        size = (array.shards or array.chunks)[0]
        first = np.asarray(array[0])
        for start in range(0, samples, size):
            if not (np.asarray(array[start : start + size]) == first).all():
                return None
        columns.append(first.astype(np.float64))
    return np.stack(columns, axis=-1) if columns else None


class Judgement(NamedTuple):
    """One thing that data must keep."""

    subject: str  # the field that it is of, or `sensors`, `samples`
    what: str
    figure: str  # what was found
    limit: str  # what is expected
    holds: bool
    lacking: str  # what is missing, for the verdict


def judge(
    sensors: Sensors, fields: Sequence[FieldMeasurement], split_counts: Mapping[str, int]
) -> tuple[Judgement, ...]:
    """Compare what was measured with the limits above."""
    measured = {m.field.name: m for m in fields}
    found: list[Judgement] = []
    for presence in sensors.presence:
        found += _of_values(sensors, presence)
        found += _of_range(measured[presence.field.name])
    silent, places = sensors.silent(), sensors.places
    if places is not None and not (len(silent) and silent.all()):
        hole = largest_hole(places[~silent] if len(silent) else places)
        lacking = f"sensors in the largest hole, {percent(hole)} of the box around all"
        what, of = "largest hole between them", " of the box around them"
        found.append(_share("sensors", what, hole, HOLE, lacking, of))
    for split, fewest in WINDOWS.items():
        count = split_counts.get(split, 0)
        lacking = f"{count} samples in {split}: record for longer, or take fewer frames a sample"
        what, limit = f"in {split}", f"at least {fewest}"
        found.append(Judgement("samples", what, str(count), limit, count >= fewest, lacking))
    return tuple(found)


def _share(
    subject: str, what: str, share: float, limit: float, lacking: str, of: str = ""
) -> Judgement:
    """Judge a share that must not be above a limit, which is of something."""
    expected = f"at most {percent(limit)}{of}"
    return Judgement(subject, what, percent(share), expected, share <= limit, lacking)


def _of_values(sensors: Sensors, presence: Presence) -> Iterator[Judgement]:
    name, share = presence.field.name, presence.share_missing
    lacking = f"{percent(share)} of the values are missing"
    yield _share(name, "values missing", share, MISSING, lacking)
    gap = presence.longest_gap
    if gap is not None and presence.frames > 1:
        frames, sensor, *end = gap
        length, recorded = frames * presence.interval, presence.total * presence.interval
        lasts = f"{length:.6g} {presence.units}"
        where = f"{sensors.name(presence, sensor)}, until {sensors.moment(presence, *end)}"
        yield Judgement(
            name, "longest gap",
            f"{lasts} ({percent(length / recorded)} of the time; {where})",
            f"at most {percent(LONGEST_GAP)} of the time",
            length <= LONGEST_GAP * recorded, f"nothing for {lasts} at {where}",
        )  # fmt: skip
    located = "point" in presence.field.dims and not presence.same
    silent = sensors.silent() if located else ~presence.measured
    words = presence.conditions
    faulty = np.flatnonzero(silent | (words == "constant") | (words == "dead")).tolist()
    listed = "; ".join(f"({sensors.name(presence, n)}) is {words[n]}" for n in faulty[:5])
    listed += f" and {len(faulty) - 5} more" if len(faulty) > 5 else ""
    count = int((presence.measured | silent).sum())
    yield Judgement(
        name, "sensors silent, constant or dead",
        f"{len(faulty)} of {count}" + (f" ({listed})" if listed else ""),
        f"at most {percent(FAULTY)} of them", len(faulty) <= FAULTY * count,
        f"sensors do not work: {listed}",
    )  # fmt: skip
    if presence.field.role == "state" and math.isfinite(change := presence.change):
        what, of = "variance between neighbouring frames", " (a wave of 8 frames)"
        lacking = f"a higher rate: {percent(change)} of the variance is between neighbouring frames"
        yield _share(name, what, change, RATE, lacking, of)
    if presence.field.role == "state" and math.isfinite(noise := presence.noise):
        lacking = f"less noise: it is {percent(noise)} of the deviation (fast changes count)"
        yield _share(name, "noise over deviation", noise, NOISE, lacking)


def _of_range(measured: FieldMeasurement) -> Iterator[Judgement]:
    train, test = (measured.moments.get(split) for split in ("train", "test"))
    if train is None or test is None or not train.count or not test.count:
        return
    beyond = max(train.min - test.min, test.max - train.max, 0.0)
    width = train.max - train.min
    share = beyond / width if width > 0 else (math.inf if beyond else 0.0)
    lacking = f"the range of the test in training: values lie {percent(share)} beyond it"
    of = f" of the range ({number(train.min, 3)} to {number(train.max, 3)})"
    what = "test beyond the range of training"
    yield _share(measured.field.name, what, share, RANGE, lacking, of)


def largest_hole(places: np.ndarray) -> float:
    """Return the largest diameter without a sensor over the diagonal of the box around all.

    Of sensors on one line it is the widest distance between neighbours, as a share of the whole; of
    a single one it is 1. Places have the shape `(sensors, axes)`, one to three axes.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    wide = high > low
    if not wide.any():
        return 1.0
    places, low, high = places[:, wide], low[wide], high[wide]
    points = _LATTICE[places.shape[1]]
    steps = np.indices((points,) * len(low)).reshape(len(low), -1).T / (points - 1)
    distances, _ = KDTree(places).query(low + (high - low) * steps)
    return float(2 * distances.max() / np.linalg.norm(high - low))
