"""How tests open files with an importer."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.imports.cage import Cage
from mno.imports.importer import Contents, importer_class
from mno.imports.mapping import FieldRule, MappedFile, Mapping

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


def fields_of(contents: Contents) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return role and axes of each field."""
    return {field.name: (field.role, field.dims) for field in contents.fields}


def assert_values(found: dict[str, np.ndarray], **expected: np.ndarray) -> None:
    """Assert that fields have these values, as float32."""
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], np.asarray(array).astype(np.float32), name)


def caged_contents_and_values(kind: str, path: Path) -> tuple[Contents, dict[str, np.ndarray]]:
    """Return the same, read in a cage as commands do."""
    from tests.imports.opened import read_into  # by the name that the child knows, too

    target = path.with_name("read.pickle")
    arguments = {"kind": kind, "path": str(path), "target": str(target)}
    _CAGE.call(read_into, arguments, [path])
    return pickle.loads(target.read_bytes())


def read_into(kind: str, path: str, target: str, progress: Callable) -> None:
    Path(target).write_bytes(pickle.dumps(contents_and_values(kind, Path(path))))


def refusal(kind: str, path: Path, mapping: Mapping | None = None, *, caged: bool = False) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(InputError) as error:
        if caged:
            caged_contents_and_values(kind, path)
        else:
            contents_and_values(kind, path, mapping)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 600 + len(str(path))
    return message


def assert_cuts_are_refused(kind: str, whole: Path, step: int) -> None:
    """Assert that a file is refused in one line wherever it ends too early."""
    raw, path = whole.read_bytes(), whole.with_name(f"cut{whole.suffix}")
    for length in range(0, len(raw) - 8, step):
        path.write_bytes(raw[:length])
        refusal(kind, path, caged=True)


def assert_flips_do_no_harm(kind: str, whole: Path, places: Iterable[int], least: int) -> None:
    """Assert that a file with one altered byte is read or refused; the latter at least so often."""
    raw, path, refused = whole.read_bytes(), whole.with_name(f"flipped{whole.suffix}"), 0
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 0x55
        path.write_bytes(flipped)
        try:
            caged_contents_and_values(kind, path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > least


def mapped(kind: str, path: Path, mapping: Mapping | None = None) -> MappedFile:
    """Open a file and see it through a mapping."""
    mapping = mapping or Mapping()
    return MappedFile(importer_class(kind)(path, mapping), mapping)


def rules(**given: dict[str, Any]) -> Mapping:
    """Return the mapping with these rules for fields."""
    return Mapping(fields={name: FieldRule(**rule) for name, rule in given.items()})
