"""Sensor logs: scattered readings become windows of frames on points, with gaps where none was.

A frame's value at a point is the mean of the readings whose time is nearest to that frame; nothing
is interpolated, neither in time nor in space. What holds for all of the plant, a reading without a
position, becomes an input over time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mno.core.fields import Axis, Field
from mno.imports.base import Contents, Importer, check_sample
from mno.imports.mapping import Mapping
from mno.imports.sensors.recording import Recording
from mno.imports.sensors.times import posix_seconds
from mno.imports.sensors.windows import groups_of


class SensorLog(Importer):
    """A CSV file of readings; see `Importer`.

    The file is read once, when it is opened; its readings are then on the disk, in a temporary
    file, by window.
    """

    kind: ClassVar[str] = "csv"
    version: ClassVar[int] = 1

    def __init__(self, path: Path, mapping: Mapping) -> None:
        units = {name: rule.given_in or rule.units for name, rule in mapping.fields.items()}
        wanted = {name: unit for name, unit in units.items() if unit}
        self._rules = mapping.sensors
        self._recording = Recording(path, mapping.sensors, wanted)
        points, frames = len(self._recording.layout.places), mapping.sensors.frames
        try:
            check_sample(path, "the log", (frames, points), len(self._recording.kept))
            self._contents = self._describe()
        except BaseException:
            self.close()
            raise

    @property
    def contents(self) -> Contents:
        """What the file holds."""
        return self._contents

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read a field of some windows; see `Importer.read`."""
        axes, places = self._recording.parser.axes, self._recording.layout.places
        if name in axes:
            at = places[:, axes.index(name)].astype(np.float32)
            return np.broadcast_to(at, (stop - start, len(at))).copy()
        for quantity in self._recording.layout.quantities:
            if quantity.field.name == name:
                return self._recording.means(quantity, start, stop)
        raise KeyError(name)

    def close(self) -> None:
        """Forget the readings."""
        self._recording.close()

    def _describe(self) -> Contents:
        recording, parser = self._recording, self._recording.parser
        timeline, layout = recording.timeline, recording.layout
        times = timeline.interval * np.arange(timeline.frames)
        points = len(layout.places)
        fields = [
            Field(axis, self._rules.position_units, axis, "coordinate", ("point",))
            for axis in parser.axes
        ]
        sources = {axis: axis for axis in parser.axes}
        sources |= {quantity.field.name: quantity.name for quantity in layout.quantities}
        epoch = parser.clock.epoch(0.0)
        groups, block = groups_of(timeline.runs[recording.kept])
        facts: dict[str, Any] = {
            "readings": len(recording),
            "sensors": len(parser.catalogue.sensors),
            "interval": timeline.interval,
            "frames": timeline.frames,
        }
        return Contents(
            samples=len(recording.kept),
            axes=(
                Axis("time", "s", "time", times, (0.0, float(times[-1]))),
                Axis("point", "1", "number of the point", np.arange(float(points)), (0.0, points)),
            ),
            fields=(*fields, *(quantity.field for quantity in layout.quantities)),
            sources=sources,
            parameters=facts | ({"epoch": epoch} if epoch else {}),
            groups=groups,
            starts=timeline.starts[recording.kept] + posix_seconds(epoch),
            remarks=tuple(self._remarks(block)),
        )

    def _remarks(self, block: int) -> Iterator[str]:
        recording, parser = self._recording, self._recording.parser
        timeline, layout, catalogue = recording.timeline, recording.layout, parser.catalogue
        samples, frames, runs = len(recording.kept), timeline.frames, len(timeline.begins)
        yield (
            f"{len(recording)} readings by {len(catalogue.sensors)} sensors in "
            f"{len(layout.places)} places; {parser.unreadable} cells without one"
        )
        rate = f"every {recording.rate:g} s (median)" if recording.rate else "once"
        yield (
            f"sensors were read {rate}; a sample is {frames} frames of {timeline.interval:g} s, "
            "and has the mean of the readings nearest to each frame"
        )
        for quantity in layout.quantities:
            cells = samples * frames * max(quantity.points, 1)
            share = 1 - recording.filled[quantity.number] / cells
            yield f"{quantity.field.name}: {share:.2%} of its values are missing; none is filled in"
        if recording.duplicates:
            yield (
                f"{recording.duplicates} readings have the time and sensor of another; their mean "
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


IMPORTER = SensorLog
