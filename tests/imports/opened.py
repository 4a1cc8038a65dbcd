"""How tests open files with an importer."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.imports.cage import Cage
from mno.imports.importer import importer_class
from mno.imports.mapping import FieldRule, MappedFile, Mapping

_CAGE = Cage()  # for all tests of a process


def contents_and_values(kind, path, mapping=None, block=3):
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


def fields_of(contents):
    return {field.name: (field.role, field.dims) for field in contents.fields}


def assert_values(found, **expected):
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], np.asarray(array).astype(np.float32), name)


def caged_contents_and_values(kind, path):
    from tests.imports.opened import read_into  # by the name that the child knows, too

    target = path.with_name("read.pickle")
    _CAGE.call(read_into, {"kind": kind, "path": str(path), "target": str(target)}, [path])
    return pickle.loads(target.read_bytes())


def read_into(kind, path, target, progress):
    Path(target).write_bytes(pickle.dumps(contents_and_values(kind, Path(path))))


def refusal(kind, path, mapping=None, *, caged=False):
    with pytest.raises(InputError) as error:
        if caged:
            caged_contents_and_values(kind, path)
        else:
            contents_and_values(kind, path, mapping)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 600 + len(str(path))
    return message


def assert_cuts_are_refused(kind, whole, step):
    raw, path = whole.read_bytes(), whole.with_name(f"cut{whole.suffix}")
    for length in range(0, len(raw) - 8, step):
        path.write_bytes(raw[:length])
        refusal(kind, path, caged=True)


def assert_flips_do_no_harm(kind, whole, places, least):
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


def mapped(kind, path, mapping=None):
    mapping = mapping or Mapping()
    return MappedFile(importer_class(kind)(path, mapping), mapping)


def rules(**given):
    return Mapping(fields={name: FieldRule(**rule) for name, rule in given.items()})
