"""How tests open files with an importer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.imports import importer_class
from mno.imports.base import Contents
from mno.imports.mapping import Mapping


def contents_and_values(
    kind: str, path: Path, mapping: Mapping | None = None, block: int = 3
) -> tuple[Contents, dict[str, np.ndarray]]:
    """Return what a file holds, and all its values, read in blocks."""
    with importer_class(kind)(path, mapping or Mapping()) as importer:
        contents = importer.contents
        values = {}
        lengths = {axis.name: len(axis.points) for axis in contents.axes}
        for field in contents.fields:
            starts = range(0, contents.samples, block)
            parts = [importer.read(field.name, i, min(i + block, contents.samples)) for i in starts]
            values[field.name] = np.concatenate(parts)
            assert values[field.name].dtype == np.float32
            shape = (contents.samples, *(lengths[dim] for dim in field.dims))
            assert values[field.name].shape == shape
    return contents, values
