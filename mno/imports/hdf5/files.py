"""HDF5 files whose content is not trusted.

Only what lies in the file itself is read: groups and arrays of real numbers that hang on hard
links. Nothing is walked through recursively, so that cycles of links do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py.h5l import TYPE_HARD

from mno.core.errors import InputError, first_line
from mno.imports.base import MAX_SAMPLES, check_numbers
from mno.imports.hdf5.array import CACHE_BYTES, StoredArray
from mno.imports.hdf5.chunks import RATIOS

_MAX_ATTRIBUTE = 1024
_MAX_TEXT = 65_536
_MAX_EMPTY = 2**20


class Hdf5File:
    """An HDF5 file, open for reading.

    Args:
        path: The file.

    Raises:
        InputError: It is no HDF5 file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not h5py.is_hdf5(path):
            raise InputError(f"{path} is not an HDF5 file; expected one: choose another importer")
        with self._reading("the file"):
            # Slots: a prime about a hundred times the number of chunks that fit, so that none
            # evicts another.
            self.root: h5py.Group = h5py.File(
                path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=100_003, rdcc_w0=1.0
            )

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self.root.file.close()

    def members(self, group: h5py.Group) -> list[str]:
        """Return the names of all that is in a group, in order.

        Raises:
            InputError: There is a link that leads elsewhere, or too much.
        """
        with self._reading(str(group.name)):
            if len(group) > MAX_SAMPLES:
                raise InputError(
                    f"{self.path}: {group.name} has {len(group)} members; expected at most "
                    f"{MAX_SAMPLES}: split the file"
                )
            names = sorted(group)
        for name in names:
            self._check_link(group, name)
        return names

    def group(self, parent: h5py.Group, name: str) -> h5py.Group | None:
        """Return a group within another; none if there is none of that name.

        Raises:
            InputError: There is something else.
        """
        found = self._member(parent, name)
        if found is not None and not isinstance(found, h5py.Group):
            raise InputError(f"{self.path}: {name} is an array; expected a group: correct the file")
        return found

    def array(self, parent: h5py.Group, name: str) -> StoredArray | None:
        """Return an array within a group, its values unread; none if there is none of that name.

        Raises:
            InputError: There is something else, or an array that cannot be trusted.
        """
        found = self._member(parent, name)
        if found is None:
            return None
        where = f"{parent.name}/{name}".lstrip("/")
        if not isinstance(found, h5py.Dataset):
            raise InputError(f"{self.path}: {where} is a group; expected an array of numbers")
        with self._reading(where):
            self._check_dataset(where, found)
            return StoredArray(self.path, where, found)

    def needed(self, parent: h5py.Group, name: str) -> StoredArray:
        """Return an array within a group.

        Raises:
            InputError: There is none, or one that cannot be trusted.
        """
        found = self.array(parent, name)
        if found is None:
            raise InputError(
                f"{self.path}: {parent.name} has no array {name}; it has "
                f"{', '.join(self.members(parent)[:10]) or 'nothing'}: choose another importer"
            )
        return found

    def is_array(self, parent: h5py.Group, name: str) -> bool:
        """Whether a member of a group is an array, of whatever."""
        return isinstance(self._member(parent, name), h5py.Dataset)

    def is_numeric(self, parent: h5py.Group, name: str) -> bool:
        """Whether a member of a group is an array of real numbers."""
        found = self._member(parent, name)
        return isinstance(found, h5py.Dataset) and found.dtype.kind in "fiub"

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
        with self._reading(str(owner.name)):
            names = sorted(owner.attrs)[:_MAX_ATTRIBUTE]
        values = {name: self.attribute(owner, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _member(self, parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        with self._reading(name):
            if not self._check_link(parent, name):
                return None
            return parent[name]  # type: ignore[return-value]

    def _check_link(self, group: h5py.Group, name: str) -> bool:
        """Return whether there is a link of that name; it leads to something in the file."""
        with self._reading(name):
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

    def _check_dataset(self, name: str, dataset: h5py.Dataset) -> None:
        if dataset.is_virtual or dataset.external:
            raise InputError(
                f"{self.path}: the values of {name} are in other files; expected them in this one: "
                "copy them into it, for example with h5repack"
            )
        check_numbers(self.path, name, dataset.dtype)
        stored = dataset.id.get_storage_size()
        claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
        if claimed > max(_MAX_EMPTY, stored * max(RATIOS.values())) or (claimed and not stored):
            raise InputError(
                f"{self.path}: {name} claims {claimed} bytes of shape {dataset.shape}, but the "
                f"file holds {stored} of them; expected an array that was written: get the file "
                "anew"
            )

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        with readable(self.path, what):
            yield


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises over damaged files into one line.

    Raises:
        InputError: Something was raised.
    """
    try:
        yield
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: {what} cannot be read ({first_line(error)}); expected an undamaged HDF5 "
            "file: get it anew"
        ) from None


def plain(value: Any) -> Any:
    """Return a value of an attribute as text, number or list of these; none if it is neither."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return _plain_list(value.ravel().tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _plain_list(values: Sequence[Any]) -> Any:
    items = [plain(value) for value in values]
    if any(item is None for item in items):
        return None
    return items[0] if len(items) == 1 else items
