"""What a Zarr group says of its arrays, read as plain JSON before anything else opens it.

Codecs can run code (numcodecs has one that unpickles), so that an array is opened only if all of
its codecs are known to do no more than compress numbers.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError, first_line
from mno.imports.base import MAX_SAMPLE_BYTES

_EXPECTED = "the folder of a Zarr group (version 2 or 3)"
_LARGEST_TEXT = 64 * 2**20
_MOST_ARRAYS = 1000
_MOST_CHUNKS_OF_A_FILE = 2**20
_COMPRESSORS = {"blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"}
_FILTERS = {"shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "crc32", "crc32c"}
_PLAIN = {"bytes", "transpose", "gzip", "zstd", "blosc", "crc32c"}
_OF_NUMCODECS = {f"numcodecs.{name}" for name in _COMPRESSORS | _FILTERS}
_TEXT = ("string", "fixed_length_utf32", "variable_length_bytes", "null_terminated_bytes")


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
    _check_files(path)
    try:
        attributes, arrays = _read(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)[:200]}); expected {_EXPECTED}"
        ) from None
    return attributes, arrays


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


def _check_files(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; expected {_EXPECTED}")
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
    dims = attributes.pop("_ARRAY_DIMENSIONS", None)
    dtype = content["dtype"]
    names = [str(codec["id"]) for codec in codecs if codec]
    return ArrayMetadata(
        name=folder.name,
        zarr_format=2,
        shape=_lengths(content["shape"]),
        dtype=dtype if isinstance(dtype, str) else "records",
        dims=_names(dims, len(content["shape"])),
        attributes=attributes,
        chunks=_lengths(content["chunks"]),
        fill_value=content.get("fill_value"),
        text=isinstance(dtype, str) and (dtype[1:2] in "US" or "vlen-utf8" in names),
        codecs=tuple(names),
        files=_lengths(content["chunks"]),
    )


def _version_3(folder: Path) -> ArrayMetadata | None:
    content = _json(folder / "zarr.json")
    if content.get("node_type") != "array":
        return None
    dtype = content["data_type"]
    name = dtype if isinstance(dtype, str) else str(dtype.get("name"))
    grid = content["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError(f"{folder.name} has a chunk grid of the kind {grid['name']!r}")
    outer = _lengths(grid["configuration"]["chunk_shape"])
    names, chunks = _codecs(content["codecs"], outer)
    return ArrayMetadata(
        name=folder.name,
        zarr_format=3,
        shape=_lengths(content["shape"]),
        dtype=name,
        dims=_names(content.get("dimension_names"), len(content["shape"])),
        attributes=content.get("attributes", {}),
        chunks=chunks,
        fill_value=content.get("fill_value"),
        text=name in _TEXT,
        codecs=tuple(names),
        files=outer,
    )


def _codecs(codecs: list[Any], chunks: tuple[int, ...]) -> tuple[list[str], tuple[int, ...]]:
    """Return the names of codecs, those inside shards, too, and the chunks that are read."""
    names: list[str] = []
    for codec in codecs:
        if _name(codec) != "sharding_indexed":
            names.append(_name(codec))
            continue
        inside = codec["configuration"]
        chunks = _lengths(inside["chunk_shape"])
        # Shards in shards stay in the list, and are refused.
        names += [_name(within) for within in [*inside["index_codecs"], *inside["codecs"]]]
    return names, chunks


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
    if path.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not a mapping")
    return content
