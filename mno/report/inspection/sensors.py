"""The sensors of a dataset: points in fixed places, and what is there of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mno.data.reading import Schema
from mno.report.inspection import limits
from mno.report.inspection.presence import Presence

_DATES = 1e8  # seconds; below this a time is not one since 1970


@dataclass(frozen=True, eq=False)
class Sensors:
    """What an inspection knows of data with gaps, or of sensors in fixed places.

    Attributes:
        presence: What is there of each field with gaps or on points.
        places: Where sensors are, shape `(sensors, axes)`; none where they have no fixed places.
        axes: Names of the axes of `places`.
        units: Unit of the places.
        starts: When each sample begins, seconds, NaN where that is not known.
    """

    presence: tuple[Presence, ...]
    places: np.ndarray | None
    axes: tuple[str, ...]
    units: str
    starts: np.ndarray

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
        located = [p for p in self.presence if "point" in p.field.dims and not p.same]
        if not located:
            return np.zeros(0, dtype=bool)
        return ~np.any([p.measured for p in located], axis=0)


def find_sensors(group: Any, schema: Schema, samples: int) -> Sensors | None:
    """Return what is to be measured of a dataset with gaps or with points in fixed places.

    Args:
        group: The Zarr group.
        schema: Of the dataset.
        samples: Their number.

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


def condition(presence: Presence, sensor: int) -> str:
    """Return in one word how a sensor is."""
    if not presence.measured[sensor]:
        return "silent"
    if presence.constant[sensor]:
        return "constant"
    if presence.dead[sensor]:
        return "dead"
    return "mostly missing" if presence.missing[sensor] > limits.MOSTLY_MISSING else "works"
