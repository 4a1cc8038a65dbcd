"""Zarr groups, of version 2 or 3: ours, xarray's, or any other with arrays of numbers.

Arrays are told apart by the names of their axes; where none has any, by shapes, as in npz files. A
dataset that we released comes back as it was; what is read of it is compared with the checksums
recorded at its release, since Zarr reads a missing file as missing values.

Codecs can run code (numcodecs has one that unpickles): metadata are read as plain JSON first, and
an array is opened only if all of its codecs are known to do no more than compress numbers.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from mno.core.errors import InputError, first_line
from mno.core.files import file_sha256
from mno.imports.arrays import Array, Packing, Role, arrange, meaning_of, rule_of
from mno.imports.importer import MAX_SAMPLE_BYTES, Importer, Layout, leave_out
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.tiles import Box, SampleTiles, boxes

_EXPECTED = "the folder of a Zarr group (version 2 or 3)"
_LARGEST_METADATA = 64 * 2**20
_MOST_ARRAYS = 1000
_MOST_CHUNKS_OF_A_FILE = 2**20
_KEPT = 32 * 2**20  # bytes of chunks that reach beyond what was asked for
_LONGEST_TEXT = 200
_MOST_PARAMETERS = 64
_COMPRESSORS = {"blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"}
_FILTERS = {"shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "crc32", "crc32c"}
_PLAIN = {"bytes", "transpose", "gzip", "zstd", "blosc", "crc32c"}
_KNOWN = {
    2: _COMPRESSORS | _FILTERS,
    3: _PLAIN | {f"numcodecs.{name}" for name in _COMPRESSORS | _FILTERS},
}
_TEXT = ("string", "fixed_length_utf32", "variable_length_bytes", "null_terminated_bytes")


class ZarrGroup(Importer):
    """An open Zarr group; `default` is the role of arrays of which nothing tells it, if given."""

    kind = "zarr"
    version = 2

    def __init__(self, path: Path, mapping: FieldMapping, default: Role | None = None) -> None:
        self._default: Role | None = default
        super().__init__(path, mapping)

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Read the metadata and find out what the arrays are."""
        attributes, arrays = _read_group(self.path)
        self._texts = {name: array for name, array in arrays.items() if array.text}
        recorded = _mapping(attributes.get("shards"))
        listed = attributes.get("fields")
        listed = listed if isinstance(listed, list) else []  # by a dataset of ours
        first = [name for name in listed if isinstance(name, str) and name in arrays]
        found: dict[str, Array] = {}
        self._arrays: dict[str, _Rows] = {}
        for name in dict.fromkeys([*first, *arrays]):
            array = arrays[name]
            # What tells which samples of our dataset have equal inputs, or were chosen, is no
            # field: it belongs to that dataset, not to the samples.
            ours = name in ("identity", "round", "score") and bool(listed) and name not in listed
            if rule_of(mapping, name).drop or array.text or ours:
                continue
            dtype = _number_type(array.dtype)
            if dtype is None:
                raise self.error(
                    f"{name} holds {array.dtype[:40]!r}; expected real numbers: {leave_out(name)}"
                )
            rows = self._arrays[name] = _Rows(self.path, name, array, dtype, recorded)
            said = dict(array.attributes)
            said["gaps"] = bool(said.get("gaps")) or bool(rows.packing.missing)
            found[name] = Array(array.shape, dtype, array.dims, said)
        contents, readers = arrange(
            self, found, mapping, lambda name: self._arrays[name].whole(),
            lambda name, *of: self._arrays[name].read(*of), parameters=_plain(attributes),
            extent=_mapping(attributes.get("extent")), default=self._default,
        )  # fmt: skip
        texts = (f"{name} is left out: it holds text" for name in self._texts)
        return replace(contents, remarks=(*contents.remarks, *texts)), readers

    def labels(self, name: str) -> np.ndarray | None:
        """Return the text that an array holds for each sample, dtype object, if it holds any."""
        array = self._texts.get(name)
        if array is None or array.shape != (self.contents.samples,):
            return None
        texts = _Rows(self.path, name, array, np.dtype("u1"), {}).whole()
        return np.array([str(label) for label in texts], object)


class _Metadata(NamedTuple):
    """What the metadata say of an array."""

    zarr_format: int
    shape: tuple[int, ...]
    dtype: str  # as the file calls it
    dims: tuple[str, ...] | None  # names of its axes
    fill_value: Any  # of missing chunks
    attributes: Mapping[str, Any]
    chunks: tuple[int, ...]  # what is read at a time
    files: tuple[int, ...]  # what one file holds: a chunk, or a shard of chunks
    codecs: list[str]  # names of all that its bytes go through
    text: bool  # whether it holds text


class _Rows:
    """An array whose samples are read a few at a time, though a chunk may hold many.

    Where it has no axis of samples, all have the same values. `recorded` are SHA-256 of files in
    the group, where it records any, by path.
    """

    def __init__(
        self, path: Path, name: str, array: _Metadata, dtype: np.dtype, recorded: Mapping[str, Any]
    ) -> None:
        self._path, self._name, self._array, self._itemsize = path, name, array, dtype.itemsize
        self._check_storage()
        meanings = [meaning_of(dim) for dim in array.dims or ()]
        first = None if array.dims is not None else 0
        self._axis = meanings.index("sample") if "sample" in meanings else first
        # In version 2, xarray stores `_FillValue` as the array's own; of other writers that is 0
        # where nobody chose it.
        fill = array.fill_value if array.zarr_format == 2 and array.fill_value else None
        self.packing = Packing.of(array.attributes, dtype, fill)
        self._opened: Any = None
        self._kept = (0, 0, np.empty(0))
        self._tiles: SampleTiles | None = None
        self._unchecked: dict[int, list[str]] = defaultdict(list)
        self._recorded = recorded
        for file in recorded:
            parts = file.split("/")
            if parts[:2] == [name, "c"] and len(parts) > 2 and parts[2].isdigit():
                self._unchecked[int(parts[2])].append(file)

    def _check_storage(self) -> None:
        array = self._array
        known = _KNOWN[array.zarr_format] | ({"vlen-utf8"} if array.text else set())
        unknown = [codec for codec in array.codecs if codec not in known]
        if unknown:
            usual = _PLAIN if array.zarr_format == 3 else known
            raise InputError(
                f"{self._path}: {self._name} has the codec {unknown[0][:40]!r}; expected only "
                f"{', '.join(sorted(usual))}: write it anew with one of them"
            )
        size = math.prod(array.chunks) * self._itemsize
        in_a_file = math.prod(array.files) // max(1, math.prod(array.chunks))
        if (
            not len(array.chunks) == len(array.files) == len(array.shape)
            or min(array.chunks, default=1) < 1
            or size > MAX_SAMPLE_BYTES
            or any(m % n for m, n in zip(array.files, array.chunks, strict=True))
            or not 0 < in_a_file <= _MOST_CHUNKS_OF_A_FILE
        ):
            raise InputError(
                f"{self._path}: {self._name} has chunks of shape {array.chunks}, {size} bytes "
                f"each, {in_a_file} in a file; expected at most {MAX_SAMPLE_BYTES // 2**20} MiB: "
                "write it anew with smaller chunks"
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some samples, shape `(stop - start, *)`, if they are as recorded."""
        if self._axis is None:
            whole = self.packing.unpack(self.whole())
            return np.broadcast_to(whole, (stop - start, *whole.shape))
        self._check(start, stop)
        return self.packing.unpack(self._rows(start, stop, self._axis))

    def whole(self) -> np.ndarray:
        """Read the whole array, as it is stored."""
        return self._read(...)

    def _rows(self, start: int, stop: int, axis: int) -> np.ndarray:
        """Return rows, from chunks that are read once for all that ask for a part of them."""
        shape, size = self._array.shape, self._array.chunks[axis]
        first, last = start // size * size, min(-(-stop // size) * size, shape[axis])
        if (first, last) == (start, stop):
            return self._slab(start, stop, axis)
        low, high, kept = self._kept
        if not (low <= start and stop <= high):
            if (last - first) * math.prod(shape) // shape[axis] * self._itemsize > _KEPT:
                return self._tiled(start, stop, axis)
            self._kept = (0, 0, np.empty(0))
            kept, low = self._slab(first, last, axis), first
            self._kept = (first, last, kept)
        return kept[start - low : stop - low]

    def _tiled(self, start: int, stop: int, axis: int) -> np.ndarray:
        """Return rows of an array whose chunks hold too many to be kept in memory."""
        if self._tiles is None:
            shape = self._array.shape
            order = (axis, *(i for i in range(len(shape)) if i != axis))

            def parts() -> Iterator[tuple[Box, np.ndarray]]:
                self._check(0, shape[axis])
                for box in boxes(shape, self._array.chunks, self._itemsize, order):
                    yield tuple(box[i] for i in order), self._read(box).transpose(order)

            self._tiles = SampleTiles(self._path, [shape[i] for i in order], parts())
        return self._tiles.read(start, stop)

    def _slab(self, start: int, stop: int, axis: int) -> np.ndarray:
        """Read rows, the axis of samples first."""
        return np.moveaxis(self._read((slice(None),) * axis + (slice(start, stop),)), axis, 0)

    def _read(self, selection: Any) -> np.ndarray:
        try:
            if self._opened is None:
                version: Any = self._array.zarr_format
                folder = self._path / self._name
                self._opened = zarr.open_array(folder, mode="r", zarr_format=version)
            return np.asarray(self._opened[selection])
        except Exception as error:  # of damaged files it may be any
            reason = first_line(error)[:200] or type(error).__name__
            raise InputError(
                f"{self._path}: {self._name} cannot be read ({reason}); get the store anew"
            ) from None

    def _check(self, start: int, stop: int) -> None:
        """Compare the files that hold some samples with what the group records, once."""
        size = self._array.files[0]
        for number in range(start // size, -(-stop // size)):
            for name in self._unchecked.pop(number, ()):
                file = self._path / name
                if not file.is_file() or file_sha256(file) != self._recorded[name]:
                    raise InputError(
                        f"{self._path}: {name} is {'altered' if file.exists() else 'missing'} "
                        "since the dataset was released; get or make it anew"
                    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number_type(name: str) -> np.dtype | None:
    """Return a type of numbers; none if it is another."""
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return None
    return dtype if dtype.kind in "fiubc" and not dtype.shape else None


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attributes say in plain values: of our datasets, the scenario's, too."""
    said = {
        name: value
        for name, value in {**_mapping(attributes.get("parameters")), **attributes}.items()
        if isinstance(value, (bool, int, float))
        or isinstance(value, str)
        and len(value) <= _LONGEST_TEXT
    }
    return {name: said[name] for name in list(said)[:_MOST_PARAMETERS]}


def _read_group(path: Path) -> tuple[dict[str, Any], dict[str, _Metadata]]:
    """Read the attributes of a group and the metadata of the arrays in it."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; expected {_EXPECTED}")
    _check_files(path)
    try:
        if (path / "zarr.json").exists():
            root = _json(path / "zarr.json")
            if root.get("node_type") != "group":
                raise ValueError(f"it is a Zarr {root.get('node_type')}, not a group")
            attributes, read, marker = root.get("attributes", {}), _version_3, "zarr.json"
        elif (path / ".zgroup").exists():
            attributes, read, marker = _json(path / ".zattrs"), _version_2, ".zarray"
        else:
            raise ValueError("there is neither zarr.json nor .zgroup in it")
        folders = sorted(entry for entry in path.iterdir() if (entry / marker).exists())
        if len(folders) > _MOST_ARRAYS:
            raise ValueError(f"it has {len(folders)} arrays; at most {_MOST_ARRAYS} are read")
        arrays = {folder.name: read(folder) for folder in folders}
        return dict(attributes), {name: array for name, array in arrays.items() if array}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)[:200]}); expected {_EXPECTED}"
        ) from None


def _check_files(path: Path) -> None:
    """Refuse what no store has: links that lead out of it, devices, pipes."""
    root = path.resolve()
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            file = Path(folder, name)
            mode = file.lstat().st_mode
            if stat.S_ISLNK(mode) and not file.resolve().is_relative_to(root):
                raise InputError(
                    f"{file} is a link that leads out of the store; expected files and folders "
                    "only: copy what it leads to in its place, if that belongs there"
                )
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise InputError(f"{file} is no file; expected files and folders only: remove it")


def _version_2(folder: Path) -> _Metadata:
    content, attributes = _json(folder / ".zarray"), _json(folder / ".zattrs")
    dims, dtype = attributes.pop("_ARRAY_DIMENSIONS", None), content["dtype"]
    filters = [content.get("compressor"), *(content.get("filters") or [])]
    codecs = [str(codec["id"]) for codec in filters if codec]
    text = isinstance(dtype, str) and (dtype[1:2] in "US" or "vlen-utf8" in codecs)
    dtype, chunks = dtype if isinstance(dtype, str) else "records", _lengths(content["chunks"])
    return _metadata(2, content, dtype, dims, attributes, chunks, chunks, codecs, text)


def _version_3(folder: Path) -> _Metadata | None:
    content = _json(folder / "zarr.json")
    if content.get("node_type") != "array":
        return None
    dtype, grid = content["data_type"], content["chunk_grid"]
    dtype = dtype if isinstance(dtype, str) else str(dtype.get("name"))
    if grid["name"] != "regular":
        raise ValueError(f"{folder.name} has a chunk grid of the kind {grid['name']!r}")
    files = chunks = _lengths(grid["configuration"]["chunk_shape"])
    codecs: list[Any] = []
    for codec in content["codecs"]:
        if not isinstance(codec, dict) or codec["name"] != "sharding_indexed":
            codecs.append(codec)
            continue
        inside = codec["configuration"]
        chunks = _lengths(inside["chunk_shape"])
        # Shards in shards stay in the list, and are refused.
        codecs += [*inside["index_codecs"], *inside["codecs"]]
    names = [codec if isinstance(codec, str) else str(codec["name"]) for codec in codecs]
    dims, said = content.get("dimension_names"), content.get("attributes", {})
    return _metadata(3, content, dtype, dims, said, chunks, files, names, dtype in _TEXT)


def _metadata(
    version: int, content: dict[str, Any], dtype: str, dims: Any, *rest: Any
) -> _Metadata:
    shape = _lengths(content["shape"])
    if not isinstance(dims, list) or not all(isinstance(name, str) for name in dims):
        dims = None
    elif len(dims) != len(shape):
        raise ValueError(f"{len(dims)} names are given for {len(shape)} axes")
    names = None if dims is None else tuple(dims)
    return _Metadata(version, shape, dtype, names, content.get("fill_value"), *rest)


def _lengths(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{str(values)[:80]} is no shape")
    return tuple(values)


def _json(path: Path) -> dict[str, Any]:
    """Read metadata, which are a mapping; an empty one where there are no attributes."""
    if path.name == ".zattrs" and not path.exists():
        return {}
    if path.stat().st_size > _LARGEST_METADATA:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not a mapping")
    return content


IMPORTER = ZarrGroup
