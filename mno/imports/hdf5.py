"""HDF5 files whose content is not trusted.

Only what lies in the file itself is read: groups and arrays of real numbers that hang on hard
links. Nothing is walked through recursively, so that cycles of links do no harm. What unpacks to
more than it should, the cage ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from h5py.h5l import TYPE_HARD

from mno.core.errors import InputError, first_line
from mno.imports.importer import MAX_SAMPLE_BYTES, MAX_SAMPLES, check_numbers, plain
from mno.imports.tiles import Box, SampleTiles, boxes, pieces, shifted

_CACHE_BYTES = 64 * 2**20  # what HDF5 keeps of the chunks of one array
_MAX_COORDINATES = 16 * 2**20
_MAX_ATTRIBUTE = 1024
_MAX_EMPTY = 2**20
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_LARGEST_RATIO = 1032  # that deflate reaches
_MARGIN = 65_536  # what a checksum, or data that cannot be compressed, may add


class Hdf5File:
    """An HDF5 file, open for reading; `root` is its first group.

    Raises:
        InputError: It is no HDF5 file, or a damaged one; so do all methods, where something leads
            out of the file or is not what it should be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not h5py.is_hdf5(path):
            raise InputError(f"{path} is not an HDF5 file; expected one: choose another importer")
        with readable(path, "the file"):
            # Slots: a prime about a hundred times the number of chunks that fit, so that none
            # evicts another.
            self.root: h5py.Group = h5py.File(
                path, "r", rdcc_nbytes=_CACHE_BYTES, rdcc_nslots=100_003, rdcc_w0=1.0
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.root.file.close()

    def members(self, group: h5py.Group) -> list[str]:
        """Return the names of all that is in a group, in order."""
        with readable(self.path, str(group.name)):
            if len(group) > MAX_SAMPLES:
                raise InputError(
                    f"{self.path}: {group.name} has {len(group)} members; expected at most "
                    f"{MAX_SAMPLES}: split the file"
                )
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

    def array(self, parent: h5py.Group, name: str) -> StoredArray | None:
        """Return an array within a group, its values unread; none if there is none of that name."""
        found = self._member(parent, name)
        where = f"{parent.name}/{name}".lstrip("/")
        if isinstance(found, h5py.Group):
            raise InputError(f"{self.path}: {where} is a group; expected an array of numbers")
        with readable(self.path, where):
            return None if found is None else StoredArray(self.path, where, found)

    def needed(self, parent: h5py.Group, name: str) -> StoredArray:
        """Return an array within a group, which must have it."""
        found = self.array(parent, name)
        if found is None:
            raise InputError(
                f"{self.path}: {parent.name} has no array {name}; it has "
                f"{', '.join(self.members(parent)[:10]) or 'nothing'}: choose another importer"
            )
        return found

    def is_array(self, parent: h5py.Group, name: str) -> bool:
        """Whether a member of a group is an array."""
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
        with readable(self.path, str(owner.name)):
            names = sorted(owner.attrs)[:_MAX_ATTRIBUTE]
        values = {name: self.attribute(owner, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _member(self, parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        with readable(self.path, name):
            return parent[name] if self._is_there(parent, name) else None  # type: ignore[return-value]

    def _is_there(self, group: h5py.Group, name: str) -> bool:
        """Return whether there is a link of that name; it leads to something in the file."""
        with readable(self.path, name):
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


class StoredArray:
    """An array of an HDF5 file that has been found to be sound; its first axis is the samples'.

    Raises:
        InputError: It holds no real numbers, or cannot be what it claims to be; methods that read
            raise it where the file is damaged.
    """

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset) -> None:
        self.path, self.name, self.dataset = path, name, dataset
        self.shape: tuple[int, ...] = dataset.shape
        if dataset.is_virtual or dataset.external:
            raise InputError(
                f"{path}: the values of {name} are in other files; expected them in this one: "
                "copy them into it, for example with h5repack"
            )
        check_numbers(path, name, dataset.dtype)
        stored, claimed = dataset.id.get_storage_size(), dataset.nbytes
        if claimed > max(_MAX_EMPTY, stored * _LARGEST_RATIO) or (claimed and not stored):
            raise InputError(
                f"{path}: {name} claims {claimed} bytes of shape {dataset.shape}, but the file "
                f"holds {stored} of them; expected an array that was written: get the file anew"
            )
        self._check_chunks()

    def whole(self) -> np.ndarray:
        """Return all values, float64: for coordinates and the like, of which there are few."""
        if math.prod(self.shape) > _MAX_COORDINATES:
            raise InputError(
                f"{self.path}: {self.name} has shape {self.shape}; expected coordinates or numbers "
                "of samples: correct the file"
            )
        return np.asarray(self.part(...), dtype=np.float64)

    def read(self, where: Sequence[slice], pick: tuple[int, ...] = ()) -> np.ndarray:
        """Return a part of the array, float32.

        Args:
            where: Which part of the leading axes, from number to number.
            pick: Which element of each trailing axis.
        """
        out = np.empty([part.stop - part.start for part in where], dtype=np.float32)
        trailing = self.shape[len(where) :]
        if self.dataset.dtype == np.float32 and not trailing and not self._is_scattered:
            with readable(self.path, self.name):
                self.dataset.read_direct(out, tuple(where))
            return out
        for piece in pieces(out.shape, self.dataset.dtype.itemsize * math.prod(trailing)):
            with np.errstate(over="ignore"):
                out[piece] = self._piece(shifted(piece, where))[(..., *pick)]
        return out

    def read_channels(self, out: np.ndarray) -> None:
        """Read all of the array, whose last axis is that of the channels.

        Args:
            out: Where to put the values, shape `(channels, …)`, float32.
        """
        for piece in pieces(self.shape[:-1], self.dataset.dtype.itemsize * self.shape[-1]):
            values = self._piece(piece)
            with np.errstate(over="ignore"):
                for channel, target in enumerate(out):
                    target[piece] = values[..., channel]

    def samples(self, start: int, stop: int, pick: tuple[int, ...] = ()) -> np.ndarray:
        """Return some samples; `pick` as for `read`."""
        middle = self.shape[1 : len(self.shape) - len(pick)]
        return self.read((slice(start, stop), *(slice(0, length) for length in middle)), pick)

    def part(self, where: Any) -> np.ndarray:
        """Return a part of the array as it is stored; `where`: slices of leading axes, or `...`."""
        with readable(self.path, self.name):
            return self.dataset[where]

    def boxes(self, fastest: Iterable[int]) -> Iterator[Box]:
        """Cut the array into boxes of whole chunks; see `tiles.boxes`."""
        return boxes(self.shape, self.dataset.chunks, self.dataset.dtype.itemsize, fastest)

    def _piece(self, where: Box) -> np.ndarray:
        if not self._is_scattered:
            return self.part(where)
        return self._tiles.read(where[0].start, where[0].stop)[(slice(None), *where[1:])]

    @property
    def _is_scattered(self) -> bool:
        """Whether reading block after block would decompress the same chunks again and again."""
        chunks = self.dataset.chunks
        if not chunks or chunks[0] == 1:
            return False
        return math.prod((*self.shape[1:], chunks[0], self.dataset.dtype.itemsize)) > _CACHE_BYTES

    @cached_property
    def _tiles(self) -> SampleTiles:
        parts = ((box, self.part(box)) for box in self.boxes(range(len(self.shape))))
        return SampleTiles(self.path, self.shape, parts)

    def _check_chunks(self) -> None:
        """Refuse chunks that are too large, and filters that are not known to do no harm."""
        where, chunks = f"{self.path}: ", self.dataset.chunks
        chunk_bytes = math.prod(chunks or ()) * self.dataset.dtype.itemsize
        properties = self.dataset.id.get_create_plist()
        filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
        codes = [code for code, *_ in filters]
        compressions = codes.count(_DEFLATE) + codes.count(_LZF)
        if set(codes) - {_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF} or compressions > 1:
            raise InputError(
                f"{where}{self.name} is compressed by HDF5 filters {codes}; expected gzip "
                f"({_DEFLATE}) or lzf ({_LZF}): convert the file by h5repack -f GZIP=1"
            )
        if chunk_bytes > MAX_SAMPLE_BYTES:
            raise InputError(
                f"{where}{self.name} has chunks of shape {chunks}; expected at most "
                f"{MAX_SAMPLE_BYTES // 2**20} MiB each: write it in smaller ones"
            )
        sizes: list[int] = []
        if compressions:
            self.dataset.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
        lzf = [values[2:3] for code, _, values, _ in filters if code == _LZF]
        largest = chunk_bytes * 1.01 + _MARGIN
        if max(sizes, default=0) > largest or lzf not in ([], [(chunk_bytes,)]):
            raise InputError(
                f"{where}a chunk of {self.name} unpacks to more than its {chunk_bytes} bytes; "
                "expected a sound file: get it anew, or convert it by h5repack -f GZIP=1"
            )


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises over damaged files into one line."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: {what} cannot be read ({first_line(error)}); expected an undamaged HDF5 "
            "file: get it anew"
        ) from None
