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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, first_line
from mno.core.files import file_sha256
from mno.imports.bare_arrays import Found, Role, arrange, rule_of
from mno.imports.importer import MAX_SAMPLE_BYTES, Importer, Layout, leave_out, piece_readers
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.named_arrays import NamedArrays, Packing, Variable, meaning_of
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
_OF_NUMCODECS = {f"numcodecs.{name}" for name in _COMPRESSORS | _FILTERS}
_TEXT = ("string", "fixed_length_utf32", "variable_length_bytes", "null_terminated_bytes")


class ZarrGroup(Importer):
    """An open Zarr group.

    Args:
        path: Its folder.
        mapping: What the user says of it.
        default: Role of arrays of which nothing tells it; they are refused if not given.
    """

    kind = "zarr"
    version = 2

    def __init__(self, path: Path, mapping: FieldMapping, default: Role | None = None) -> None:
        self._default: Role | None = default
        super().__init__(path, mapping)

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Read the metadata and find out what the arrays are."""
        attributes, arrays = read_group(self.path)
        self._texts = {name: array for name, array in arrays.items() if array.text}
        recorded = _mapping(attributes.get("shards"))
        listed = attributes.get("fields")
        listed = listed if isinstance(listed, list) else []  # by a dataset of ours
        first = [name for name in listed if isinstance(name, str) and name in arrays]
        numbers: dict[str, Found] = {}
        self._arrays: dict[str, ZarrRows] = {}
        for name in dict.fromkeys([*first, *arrays]):
            array = arrays[name]
            # What tells which samples of our dataset have equal inputs, or were chosen, is no
            # field: it belongs to that dataset, not to the samples.
            ours = name in ("identity", "round", "score") and bool(listed) and name not in listed
            if rule_of(mapping, name).drop or array.text or ours:
                continue
            if array.number_type is None:
                raise InputError(
                    f"{self.path}: {name} holds {array.dtype[:40]!r}; expected real numbers: "
                    f"{leave_out(name)}"
                )
            check_array(self.path, array)
            numbers[name] = Found(array.shape, array.number_type)
            self._arrays[name] = ZarrRows(self.path, array, _sample_axis(array), recorded)
        if not any(arrays[name].dims is not None for name in numbers if arrays[name].shape):
            contents, pieces = arrange(self.path, numbers, mapping, self._whole)
        else:
            variables = {
                name: Variable(found.shape, found.dtype, self._dims(arrays[name]), self._said(name))
                for name, found in numbers.items()
            }
            extent = _mapping(attributes.get("extent"))
            contents, pieces = NamedArrays(
                self.path, variables, extent, mapping, self._whole, self._default
            ).arrange()
        texts = tuple(f"{name} is left out: it holds text" for name in self._texts)
        parameters = {**_plain(attributes), **contents.parameters}
        remarks = (*contents.remarks, *texts)
        contents = replace(contents, parameters=parameters, remarks=remarks)
        return contents, piece_readers(pieces, lambda name, *where: self._arrays[name].read(*where))

    def labels(self, name: str) -> np.ndarray | None:
        """Return the text that an array holds for each sample, dtype object; none if it has none.

        Raises:
            InputError: It cannot be read.
        """
        array = self._texts.get(name)
        if array is None or array.shape != (self.contents.samples,):
            return None
        check_array(self.path, array)
        return np.array([str(label) for label in ZarrRows(self.path, array, 0, {}).whole()], object)

    def _whole(self, array: str) -> np.ndarray:
        return self._arrays[array].whole()

    def _dims(self, array: ArrayMetadata) -> tuple[str, ...]:
        if array.dims is None and array.shape:
            raise InputError(
                f"{self.path}: the axes of {array.name} have no names, as those of other arrays "
                "have; name them (dimension_names, or _ARRAY_DIMENSIONS in version 2)"
            )
        return array.dims or ()

    def _said(self, name: str) -> dict[str, Any]:
        rows = self._arrays[name]
        said = rows.array.attributes
        return {**said, "gaps": bool(said.get("gaps")) or bool(rows.packing.missing)}


@dataclass(frozen=True)
class ArrayMetadata:
    """What the metadata say of an array.

    Attributes:
        name: Its name in the group.
        zarr_format: 2 or 3.
        shape: Of the array.
        dtype: Of its elements, as the file calls it.
        dims: Names of its axes; none if it has none.
        attributes: Its own.
        chunks: What is read at a time.
        fill_value: What stands for missing chunks.
        text: Whether it holds text.
        codecs: Names of all that its bytes go through.
        files: What one file holds: a chunk, or a shard of chunks.
    """

    name: str
    zarr_format: int
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] | None
    attributes: Mapping[str, Any]
    chunks: tuple[int, ...]
    fill_value: Any
    text: bool
    codecs: tuple[str, ...]
    files: tuple[int, ...]

    @property
    def number_type(self) -> np.dtype | None:
        """Type of its elements; none if they are no numbers."""
        try:
            dtype = np.dtype(self.dtype)
        except (TypeError, ValueError, SyntaxError):
            return None
        return dtype if dtype.kind in "fiubc" and not dtype.shape else None


def read_group(path: Path) -> tuple[dict[str, Any], dict[str, ArrayMetadata]]:
    """Read the attributes of a group and the metadata of the arrays in it.

    Raises:
        InputError: It is no group, or its folder holds what no store has: links that lead out of
            it, devices, pipes.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; expected {_EXPECTED}")
    _check_files(path)
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)[:200]}); expected {_EXPECTED}"
        ) from None


def check_array(path: Path, array: ArrayMetadata) -> None:
    """Refuse an array that cannot be read safely, or not in little memory.

    Raises:
        InputError: It has unknown codecs, or chunks that are too large or none.
    """
    known = _PLAIN | _OF_NUMCODECS if array.zarr_format == 3 else _COMPRESSORS | _FILTERS
    if array.text:
        known = known | {"vlen-utf8"}
    unknown = [name for name in array.codecs if name not in known]
    if unknown:
        raise InputError(
            f"{path}: {array.name} has the codec {unknown[0][:40]!r}; expected only "
            f"{', '.join(sorted(_PLAIN if array.zarr_format == 3 else known))}: write it anew with "
            "one of them"
        )
    dtype = array.number_type
    size = math.prod(array.chunks) * (dtype.itemsize if dtype else 1)
    in_a_file = math.prod(array.files) // max(1, math.prod(array.chunks))
    if (
        not len(array.chunks) == len(array.files) == len(array.shape)
        or min(array.chunks, default=1) < 1
        or size > MAX_SAMPLE_BYTES
        or any(m % n for m, n in zip(array.files, array.chunks, strict=True))
        or not 0 < in_a_file <= _MOST_CHUNKS_OF_A_FILE
    ):
        raise InputError(
            f"{path}: {array.name} has chunks of shape {array.chunks}, {size} bytes each, "
            f"{in_a_file} in a file; expected at most {MAX_SAMPLE_BYTES // 2**20} "
            "MiB: write it anew with smaller chunks"
        )


class ZarrRows:
    """An array whose samples are read a few at a time, though a chunk may hold many.

    Args:
        path: The group's folder.
        array: What is known of the array.
        axis: Its axis of samples; where it has none, all samples have the same values.
        recorded: SHA-256 of files in the group, where it records any, by path.
    """

    def __init__(
        self, path: Path, array: ArrayMetadata, axis: int | None, recorded: Mapping[str, Any]
    ) -> None:
        self._path, self.array, self._axis = path, array, axis
        # In version 2, xarray stores `_FillValue` as the array's own; of other writers that is 0
        # where nobody chose it.
        fill = array.fill_value if array.zarr_format == 2 and array.fill_value else None
        self.packing = Packing.of(array.attributes, fill)
        self._opened: Any = None
        self._kept = (0, 0, np.empty(0))
        self._tiles: SampleTiles | None = None
        self._unchecked: dict[int, list[str]] = defaultdict(list)
        self._recorded = recorded
        for name in recorded:
            parts = name.split("/")
            if parts[:2] == [array.name, "c"] and len(parts) > 2 and parts[2].isdigit():
                self._unchecked[int(parts[2])].append(name)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some samples, shape `(stop - start, *)`.

        Raises:
            InputError: They cannot be read, or are not as recorded.
        """
        if self._axis is None:
            whole = self.packing.unpack(self.whole())
            return np.broadcast_to(whole, (stop - start, *whole.shape))
        self._check(start, stop)
        return self.packing.unpack(self._rows(start, stop))

    def whole(self) -> np.ndarray:
        """Read the whole array, as it is stored."""
        return self._read(...)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows, from chunks that are read once for all that ask for a part of them."""
        axis = self._axis or 0
        length, size = self.array.shape[axis], self.array.chunks[axis]
        first, last = start // size * size, min(-(-stop // size) * size, length)
        if (first, last) == (start, stop):
            return self._slab(start, stop)
        low, high, kept = self._kept
        if not (low <= start and stop <= high):
            row = math.prod(self.array.shape) // length * np.dtype(self.array.dtype).itemsize
            if (last - first) * row > _KEPT:
                return self._tiled(start, stop)
            self._kept = (0, 0, np.empty(0))
            kept, low = self._slab(first, last), first
            self._kept = (first, last, kept)
        return kept[start - low : stop - low]

    def _tiled(self, start: int, stop: int) -> np.ndarray:
        """Return rows of an array whose chunks hold too many to be kept in memory."""
        if self._tiles is None:
            shape, axis = self.array.shape, self._axis or 0
            order = (axis, *(i for i in range(len(shape)) if i != axis))
            rows = tuple(shape[i] for i in order)
            item = np.dtype(self.array.dtype).itemsize

            def parts() -> Iterator[tuple[Box, np.ndarray]]:
                self._check(0, shape[axis])
                for box in boxes(shape, self.array.chunks, item, order):
                    yield tuple(box[i] for i in order), self._read(box).transpose(order)

            self._tiles = SampleTiles(self._path, rows, parts())
        return self._tiles.read(start, stop)

    def _slab(self, start: int, stop: int) -> np.ndarray:
        """Read rows, the axis of samples first."""
        axis = self._axis or 0
        return np.moveaxis(self._read((slice(None),) * axis + (slice(start, stop),)), axis, 0)

    def _read(self, selection: Any) -> np.ndarray:
        name = self.array.name
        try:
            if self._opened is None:
                version: Any = self.array.zarr_format
                self._opened = zarr.open_array(self._path / name, mode="r", zarr_format=version)
            return np.asarray(self._opened[selection])
        except Exception as error:  # of damaged files it may be any
            reason = first_line(error)[:200] or type(error).__name__
            raise InputError(
                f"{self._path}: {name} cannot be read ({reason}); get the store anew"
            ) from None

    def _check(self, start: int, stop: int) -> None:
        """Compare the files that hold some samples with what the group records, once.

        Raises:
            InputError: One is missing or altered.
        """
        size = self.array.files[0]
        for number in range(start // size, -(-stop // size)):
            for name in self._unchecked.pop(number, ()):
                file = self._path / name
                if not file.is_file() or file_sha256(file) != self._recorded[name]:
                    raise InputError(
                        f"{self._path}: {name} is {'altered' if file.exists() else 'missing'} "
                        "since the dataset was released; get or make it anew"
                    )


def _sample_axis(array: ArrayMetadata) -> int | None:
    if array.dims is None:
        return 0
    meanings = [meaning_of(dim) for dim in array.dims]
    return meanings.index("sample") if "sample" in meanings else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attributes say in plain values: of our datasets, the scenario's, too."""
    said = {**_mapping(attributes.get("parameters")), **attributes}
    said = {
        name: value
        for name, value in said.items()
        if isinstance(value, (bool, int, float))
        or isinstance(value, str)
        and len(value) <= _LONGEST_TEXT
    }
    return {name: said[name] for name in list(said)[:_MOST_PARAMETERS]}


def _check_files(path: Path) -> None:
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, ArrayMetadata]]:
    if (path / "zarr.json").exists():
        root = _json(path / "zarr.json")
        if root.get("node_type") != "group":
            raise ValueError(f"it is a Zarr {root.get('node_type')}, not a group")
        attributes = root.get("attributes", {})
        read, marker = _version_3, "zarr.json"
    elif (path / ".zgroup").exists():
        attributes = _json(path / ".zattrs") if (path / ".zattrs").exists() else {}
        read, marker = _version_2, ".zarray"
    else:
        raise ValueError("there is neither zarr.json nor .zgroup in it")
    folders = sorted(entry for entry in path.iterdir() if (entry / marker).exists())
    if len(folders) > _MOST_ARRAYS:
        raise ValueError(f"it has {len(folders)} arrays; at most {_MOST_ARRAYS} are read")
    arrays = (read(folder) for folder in folders)
    return dict(attributes), {array.name: array for array in arrays if array}


def _version_2(folder: Path) -> ArrayMetadata:
    content = _json(folder / ".zarray")
    attributes = _json(folder / ".zattrs") if (folder / ".zattrs").exists() else {}
    codecs = [content.get("compressor"), *(content.get("filters") or [])]
    names = [str(codec["id"]) for codec in codecs if codec]
    dtype, shape, chunks = content["dtype"], _lengths(content["shape"]), content["chunks"]
    return ArrayMetadata(
        name=folder.name,
        zarr_format=2,
        shape=shape,
        dtype=dtype if isinstance(dtype, str) else "records",
        dims=_names(attributes.pop("_ARRAY_DIMENSIONS", None), len(shape)),
        attributes=attributes,
        chunks=_lengths(chunks),
        fill_value=content.get("fill_value"),
        text=isinstance(dtype, str) and (dtype[1:2] in "US" or "vlen-utf8" in names),
        codecs=tuple(names),
        files=_lengths(chunks),
    )


def _version_3(folder: Path) -> ArrayMetadata | None:
    content = _json(folder / "zarr.json")
    if content.get("node_type") != "array":
        return None
    dtype = content["data_type"]
    dtype = dtype if isinstance(dtype, str) else str(dtype.get("name"))
    grid, shape = content["chunk_grid"], _lengths(content["shape"])
    if grid["name"] != "regular":
        raise ValueError(f"{folder.name} has a chunk grid of the kind {grid['name']!r}")
    files = chunks = _lengths(grid["configuration"]["chunk_shape"])
    names: list[str] = []
    for codec in content["codecs"]:
        if _name(codec) != "sharding_indexed":
            names.append(_name(codec))
            continue
        inside = codec["configuration"]
        chunks = _lengths(inside["chunk_shape"])
        # Shards in shards stay in the list, and are refused.
        names += [_name(within) for within in [*inside["index_codecs"], *inside["codecs"]]]
    return ArrayMetadata(
        name=folder.name,
        zarr_format=3,
        shape=shape,
        dtype=dtype,
        dims=_names(content.get("dimension_names"), len(shape)),
        attributes=content.get("attributes", {}),
        chunks=chunks,
        fill_value=content.get("fill_value"),
        text=dtype in _TEXT,
        codecs=tuple(names),
        files=files,
    )


def _name(codec: Any) -> str:
    return codec if isinstance(codec, str) else str(codec["name"])


def _lengths(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{str(values)[:80]} is no shape")
    return tuple(values)


def _names(dims: Any, count: int) -> tuple[str, ...] | None:
    if not isinstance(dims, list) or not all(isinstance(name, str) for name in dims):
        return None
    if len(dims) != count:
        raise ValueError(f"{len(dims)} names are given for {count} axes")
    return tuple(dims)


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_METADATA:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not a mapping")
    return content


IMPORTER = ZarrGroup
