"""Splits of a dataset as operators of its fields or of its readings see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mno.core.readings import Layout, Part, check_part, is_reading
from mno.data.reading import Split, StoredSplit, open_splits


def seen(split: Split | StoredSplit, part: Part) -> Split | StoredSplit:
    """Return a split as operators of a part see it; itself where it has no readings.

    Raises:
        InputError: Readings are asked for, and there are none.
    """
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
    return Split(split.name, there, layout.of(arrays), split.indices)


def open_parts(
    store: Path, part: Part, first: str, *others: str
) -> list[Split] | list[StoredSplit]:
    """Open several splits as `mno.data.reading.open_splits` does, as operators of a part see them.

    Raises:
        InputError: Readings are asked for, and there are none; or what that function raises.
    """
    found: Any = [seen(split, part) for split in open_splits(store, first, *others)]
    return found
