"""How tests open files with an importer."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mno.imports.cage import Cage
from mno.imports.importer import Contents, importer_class
from mno.imports.mapping import Mapping

_CAGE = Cage()  # for all tests of a process


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


def caged_contents_and_values(kind: str, path: Path) -> tuple[Contents, dict[str, np.ndarray]]:
    """Return the same, read in a cage as commands do."""
    from tests.imports.opened import read_into  # by the name that the child knows, too

    target = path.with_name("read.pickle")
    arguments = {"kind": kind, "path": str(path), "target": str(target)}
    _CAGE.call(read_into, arguments, [path])
    return pickle.loads(target.read_bytes())


def read_into(kind: str, path: str, target: str, progress: Callable) -> None:
    Path(target).write_bytes(pickle.dumps(contents_and_values(kind, Path(path))))
