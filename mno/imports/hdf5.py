"""HDF5 files whose content is not trusted.

Only what lies in the file itself is read: groups and arrays of real numbers that hang on hard
links. Nothing is walked through recursively, so that cycles of links do no harm. What unpacks to
more than it should, the cage ends.
"""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py.h5l import TYPE_HARD

from mno.core.errors import InputError, reading
from mno.imports.importer import check_numbers, plain
from mno.imports.stored import Box, FileArray

_MAX_ATTRIBUTE = 1024
_MAX_EMPTY = 2**20
_LARGEST_RATIO = 1032  # that deflate reaches


class Hdf5File:
    """An HDF5 file, open for reading until the stack is closed; `root` is its first group.

    It is refused if it is none, or damaged; methods refuse what leads out of it or is unexpected.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        if not h5py.is_hdf5(path):
            raise InputError(f"{path} is not an HDF5 file; expected one: choose another importer")
        with reading(path):
            self.root: h5py.Group = stack.enter_context(h5py.File(path, "r"))

    def members(self, group: h5py.Group) -> list[str]:
        """Return the names of all that is in a group, in order."""
        with reading(self.path, str(group.name)):
            names = sorted(group)
        for name in names:
            self._is_there(group, name)
        return names

    def group(self, parent: h5py.Group, name: str) -> h5py.Group | None:
        """Return a group within another; none if there is none of that name."""
        found = self._member(parent, name)
        if found is not None and not isinstance(found, h5py.Group):
            raise InputError(f"{self.path}: {name} is an array; expected a group: correct the file")
        return found

    def array(self, parent: h5py.Group, name: str) -> FileArray | None:
        """Return an array within a group, its values unread; none if there is none of that name."""
        if (found := self._member(parent, name)) is None:
            return None
        where = f"{parent.name}/{name}".lstrip("/")
        subject = f"{self.path}: {where}"
        if isinstance(found, h5py.Group):
            raise InputError(f"{subject} is a group; expected an array of numbers")
        with reading(self.path, where):
            elsewhere = found.is_virtual or bool(found.external)
            check_numbers(self.path, where, found.dtype)
            stored, claimed = found.id.get_storage_size(), found.nbytes
        if elsewhere:
            raise InputError(
                f"{self.path}: the values of {where} are in other files; expected them in this "
                "one: copy them into it, for example with h5repack"
            )
        if claimed > max(_MAX_EMPTY, stored * _LARGEST_RATIO) or (claimed and not stored):
            raise InputError(
                f"{subject} claims {claimed} bytes of shape {found.shape}, but the file holds "
                f"{stored} of them; expected an array that was written: get the file anew"
            )

        def part(box: Box) -> np.ndarray:
            with reading(self.path, where):
                return found[box]

        return FileArray(self.path, where, found.shape, found.dtype, part, found.chunks)

    def needed(self, parent: h5py.Group, name: str) -> FileArray:
        """Return an array within a group, which must have it."""
        if (found := self.array(parent, name)) is None:
            raise InputError(
                f"{self.path}: {parent.name} has no array {name}; it has "
                f"{', '.join(self.members(parent)[:10]) or 'nothing'}: choose another importer"
            )
        return found

    def is_array(self, parent: h5py.Group, name: str, *, of_numbers: bool = False) -> bool:
        """Whether a member of a group is an array (of real numbers)."""
        found = self._member(parent, name)
        return isinstance(found, h5py.Dataset) and (not of_numbers or found.dtype.kind in "fiub")

    def attribute(self, owner: Any, name: str) -> Any:
        """Return an attribute as plain values: text, numbers or a list; none if it is not plain."""
        try:
            if math.prod(owner.attrs.get_id(name).shape) > _MAX_ATTRIBUTE:
                return None
            return plain(owner.attrs[name])
        except (KeyError, OSError, RuntimeError, TypeError, ValueError):
            return None

    def attributes(self, owner: h5py.Group | h5py.Dataset) -> dict[str, Any]:
        """Return all attributes that are plain values, by name."""
        with reading(self.path, str(owner.name)):
            names = sorted(owner.attrs)[:_MAX_ATTRIBUTE]
        return {name: value for name in names if (value := self.attribute(owner, name)) is not None}

    def _member(self, parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        with reading(self.path, name):
            return parent[name] if self._is_there(parent, name) else None  # type: ignore[return-value]

    def _is_there(self, group: h5py.Group, name: str) -> bool:
        """Return whether there is a link of that name; it leads to something in the file."""
        with reading(self.path, name):
            links, key = group.id.links, name.encode("utf-8", "surrogateescape")
            if not links.exists(key):
                return False
            kind = links.get_info(key).type
        if kind != TYPE_HARD:
            raise InputError(
                f"{self.path}: {name} is a link to something elsewhere; expected the data "
                "themselves: copy them into one file, for example with h5repack or h5copy"
            )
        return True
