"""Data of sensors: which values are there of each field, a part of it at a time.

A sensor is a point of the field. There is but one where the field has no axis of space, or has the
same value at all points: one that holds for all of the plant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.report.inspected_fields import noise_of_differences

DEAD = 0.02
"""A sensor is dead whose deviation is below this share of the median sensor's."""
MOSTLY_MISSING = 0.5
"""A sensor is named whose share of missing values is above this."""

_COLUMNS, _ROWS = 240, 200  # of the picture of what is there
_DATES = 1e8  # seconds; below this a time is not one since 1970


class Gap(NamedTuple):
    """A time without a reading of one sensor, and where it ends."""

    frames: int
    sensor: int
    sample: int
    frame: int


class Presence:
    """What is there of a field over the samples that were added so far.

    Args:
        field: The field.
        axes: Of one sample's array, in order.
        starts: When each sample begins, in the unit of time, shape `(samples,)`; NaN where that is
            not known. A gap goes on into a sample that begins where the one before ended.
    """

    def __init__(self, field: Field, axes: Sequence[Axis], starts: np.ndarray) -> None:
        self.field = field
        lengths = [len(axis.points) for axis in axes]
        timed = bool(axes) and axes[0].name == "time" and lengths[0] > 1
        self.frames, *space = lengths if timed else [1, *lengths]  # of a sample
        self.interval = float(np.median(np.diff(axes[0].points))) if timed else math.nan
        sensors = math.prod(space)
        self.total, self._starts = 0, starts  # values that each sensor could have
        self.same = True  # whether all points have had the same values so far
        self._count = np.zeros(sensors, dtype=np.int64)
        self._mean, self._squares = np.zeros(sensors), np.zeros(sensors)
        self._low, self._high = np.full(sensors, np.inf), np.full(sensors, -np.inf)
        self._steps, self._step_count = 0.0, 0
        self._noise: list[float] = []
        self._running, self._longest = np.zeros((2, sensors), dtype=np.int64)
        self._ends = np.zeros((sensors, 2), dtype=np.int64)
        self._columns, self._rows = min(_COLUMNS, len(starts)), min(_ROWS, sensors)
        self._filled, self._cells = np.zeros((2, self._rows, self._columns), dtype=np.int64)

    def add(self, start: int, values: np.ndarray) -> None:
        """Measure samples that follow each other from one on, shape `(samples, *dims)`."""
        for sample, array in enumerate(values, start=start):
            frames = np.asarray(array, dtype=np.float64).reshape(self.frames, -1)
            here = np.isfinite(frames)
            self.same = self.same and np.array_equal(
                frames, np.broadcast_to(frames[:, :1], frames.shape), equal_nan=True
            )
            self._add_moments(frames, here)
            self._add_gaps(sample, here)
            column = sample * self._columns // len(self._starts)
            rows = np.arange(here.shape[1]) * self._rows // max(here.shape[1], 1)
            np.add.at(self._filled[:, column], rows, here.sum(axis=0))
            np.add.at(self._cells[:, column], rows, self.frames)
            if self.frames > 1:
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
    def count(self) -> np.ndarray:
        """Values of each sensor, shape `(sensors,)`."""
        return self._count[: self.sensors]

    @property
    def measured(self) -> np.ndarray:
        """Sensors that have a value at all, shape `(sensors,)`, bool."""
        return self.count > 0

    @property
    def missing(self) -> np.ndarray:
        """Share of missing values of each sensor, shape `(sensors,)`."""
        return 1.0 - self.count / max(self.total, 1)

    @property
    def share_missing(self) -> float:
        """Share of missing values at the sensors that have any; 1 where none has."""
        return float(self.missing[self.measured].mean()) if self.measured.any() else 1.0

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each sensor over time and samples, shape `(sensors,)`."""
        return np.sqrt(self._squares[: self.sensors] / np.maximum(self.count, 1))

    @property
    def constant(self) -> np.ndarray:
        """Sensors of which all values are the same, shape `(sensors,)`, bool."""
        return (self.count > 1) & (self._low == self._high)[: self.sensors]

    @property
    def dead(self) -> np.ndarray:
        """Sensors that hardly vary where others do, shape `(sensors,)`, bool."""
        usual = np.median(self.deviation[self.measured]) if self.measured.any() else 0.0
        return self.measured & ~self.constant & (self.deviation < DEAD * usual)

    @property
    def _variance(self) -> float:
        return self._squares.sum() / max(int(self._count.sum()), 1)

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
        if not known or not self._variance > 0:
            return math.nan
        return float(np.median(known) / math.sqrt(self._variance))

    @property
    def gaps(self) -> np.ndarray:
        """Frames of the longest gap of each sensor, shape `(sensors,)`."""
        return self._longest[: self.sensors]

    @property
    def longest_gap(self) -> Gap | None:
        """The longest gap of a sensor that has values at all; None where nothing is missing."""
        lengths = np.where(self.measured, self.gaps, 0)
        if not lengths.any():
            return None
        sensor = int(np.argmax(lengths))
        return Gap(int(lengths[sensor]), sensor, *self._ends[sensor].tolist())

    @property
    def picture(self) -> np.ndarray:
        """Share of values that are there, shape `(sensors or fewer rows, samples or columns)`."""
        rows = 1 if self.same else self._rows
        return self._filled[:rows] / np.maximum(self._cells[:rows], 1)

    def _add_moments(self, frames: np.ndarray, here: np.ndarray) -> None:
        self.total += self.frames
        count = here.sum(axis=0)
        values = np.where(here, frames, 0.0)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        squares = (np.square(values - mean) * here).sum(axis=0)
        both = np.maximum(self._count + count, 1)
        step = np.where(count > 0, mean - self._mean, 0.0)
        self._squares += squares + step**2 * self._count * count / both
        self._mean += step * count / both
        self._count += count
        self._low = np.minimum(self._low, np.where(here, frames, np.inf).min(axis=0))
        self._high = np.maximum(self._high, np.where(here, frames, -np.inf).max(axis=0))

    def _add_gaps(self, sample: int, here: np.ndarray) -> None:
        between = self._frames_between(sample)
        self._running = self._running + between if between >= 0 else np.zeros_like(self._running)
        for frame, there in enumerate(here):
            self._running = np.where(there, 0, self._running + 1)
            longer = self._running > self._longest
            self._longest = np.where(longer, self._running, self._longest)
            self._ends[longer] = sample, frame

    def _frames_between(self, sample: int) -> int:
        """Return the frames between a sample and the one before; -1 if it is not of that run."""
        if not sample:
            return -1
        elapsed = (self._starts[sample] - self._starts[sample - 1]) / self.interval
        frames = round(elapsed) - self.frames if math.isfinite(elapsed) else -1
        return frames if 0 <= frames <= self.frames else -1


def condition(presence: Presence, sensor: int) -> str:
    """Return in one word how a sensor is."""
    if not presence.measured[sensor]:
        return "silent"
    if presence.constant[sensor]:
        return "constant"
    if presence.dead[sensor]:
        return "dead"
    return "mostly missing" if presence.missing[sensor] > MOSTLY_MISSING else "works"


@dataclass(frozen=True, eq=False)
class Sensors:
    """What an inspection knows of data with gaps, or of sensors in fixed places."""

    presence: tuple[Presence, ...]  # of each field with gaps or on points
    places: np.ndarray | None  # shape (sensors, axes); none where they have no fixed places
    axes: tuple[str, ...]  # names of those of the places
    units: str  # of the places
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
    """Return what is to be measured of so many samples with gaps or with points in fixed places.

    Returns:
        Sensors of which nothing has been measured yet; None for complete data on a grid, or on
        points that move from sample to sample.
    """
    axes = {axis.name: axis for axis in schema.axes}
    places = _places(group, schema, samples)
    starts = np.full(samples, np.nan)
    if "start" in group and "time" in axes and axes["time"].units == "s":
        starts = np.asarray(group["start"][:], dtype=np.float64)
    presence = tuple(
        Presence(field, [axes[name] for name in field.dims], starts)
        for field in schema.fields
        if field.gaps
        or (field.role != "coordinate" and "point" in field.dims and places is not None)
    )
    if not presence:
        return None
    coordinates = schema.coordinates
    units = coordinates[0].units if coordinates else "1"
    return Sensors(presence, places, tuple(field.name for field in coordinates), units, starts)


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
