"""Splits of a dataset as operators of its fields or of its readings see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mno.core.forecast import TaskConfig
from mno.core.observing import READ, observing_of
from mno.core.readings import Layout, Part, check_part, is_reading
from mno.data.reading import Split, StoredSplit, open_splits


def seen(
    split: Split | StoredSplit,
    part: Part,
    skip: int = 0,
    sensors: Mapping[str, Any] | None = None,
    hidden: Sequence[str] = (),
) -> Split | StoredSplit:
    """Return a split as operators of a part see it; itself where it has no readings.

    Rates are those of fields; other parts have none.

    Of fields over time, so many first frames are left out. With `sensors` it is what an observer
    sees; where none are said, they are those that the dataset has.

    Raises:
        InputError: There are no readings, or not what observers are given, where they are asked.
    """
    if sensors is not None:
        return _observed(seen(split, part, skip), sensors, hidden)
    if skip:
        split = _later(split, skip)
    schema = split.schema
    check_part(part, schema.fields, schema.scenario)
    layout = Layout(part, schema.fields, schema.axes)
    if not layout.changes:
        return split
    needed = {field.name for field in layout.fields} | set(layout.readings)
    needed |= {field.name for field in schema.fields if part == "fields" and is_reading(field)}
    arrays = {name: array[:] for name, array in split.fields.items() if name in needed}
    there = replace(
        schema, fields=layout.fields, axes=layout.axes, symmetries=(), part=part,
        readings=layout.readings, grid=layout.grid,
    )  # fmt: skip
    rates = {name: array[:] for name, array in split.rates.items() if part == "fields"}
    if rates:  # a direction is a sample of its own to a layout
        stacked = next(iter(rates.values())).shape[:2]
        flat = layout.of({n: rate.reshape(-1, *rate.shape[2:]) for n, rate in rates.items()})
        rates = {name: rate.reshape(*stacked, *rate.shape[1:]) for name, rate in flat.items()}
    return Split(split.name, there, layout.of(arrays), split.indices, rates)


def _observed(
    split: Split | StoredSplit, sensors: Mapping[str, Any], hidden: Sequence[str]
) -> Split:
    schema = split.schema
    observing = observing_of(schema.fields, sensors, hidden, schema.observe)
    readings = dict(schema.readings)
    of_plant = [place for place in readings.values() if not place[0]]
    if readings and of_plant:
        readings |= {n: of_plant[0] for n in observing.hidden if n not in readings}
    readings |= {n + READ: readings[n] for n in observing.sensors if n in readings}
    own = {name: slice(*place[1:]) for name, place in readings.items()}
    arrays = observing.of({n: a[:] for n, a in split.fields.items()}, split.indices.tolist(), own)
    there = replace(
        schema, fields=observing.fields, symmetries=(), readings=readings,
        observing=observing,
    )  # fmt: skip
    return Split(split.name, there, arrays, split.indices)


def _later(split: Split | StoredSplit, skip: int) -> Split:
    """Return a split, in memory, without its first frames."""
    schema = split.schema
    over_time = {field.name for field in schema.fields if field.dims[:1] == ("time",)}
    fields = {n: a[:][:, skip:] if n in over_time else a[:] for n, a in split.fields.items()}
    axes = (replace(a, points=a.points[skip:]) if a.name == "time" else a for a in schema.axes)
    return Split(split.name, replace(schema, axes=tuple(axes)), fields, split.indices)


def open_parts(
    store: Path, task: TaskConfig, first: str, *others: str
) -> list[Split] | list[StoredSplit]:
    """Open several splits as `mno.data.reading.open_splits` does, `as_seen` by a task's operators.

    An `InputError` says that readings are asked for, and there are none, or what these two raise.
    """
    return as_seen(open_splits(store, first, *others), task)


def as_seen(splits: Sequence[Split | StoredSplit], task: TaskConfig) -> list[Any]:
    """Return splits as operators of a task see them, which are `Split` or `StoredSplit`.

    The training split has all its frames, the others those that the task does not skip.
    """
    sensors, found = task.sensors if task.observes else None, list[Any]()
    for split in splits:
        skip = 0 if split.name == "train" else task.skip
        found.append(seen(split, task.part, skip, sensors, task.hidden))
    return found
