"""Zarr groups, of version 2 or 3: ours, xarray's, or any other with arrays of numbers.

Arrays are told apart by the names of their axes; where none has any, by shapes, as in npz files. A
dataset that we released comes back as it was; what is read of it is compared with the checksums
recorded at its release, since Zarr reads a missing file as missing values.

Codecs can run code (numcodecs has one that unpickles): an array is opened only if all of its codecs
are known to do no more than compress numbers.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, reading
from mno.core.files import file_sha256
from mno.imports.arrays import Array, Role, arrange, meaning_of, rule_of
from mno.imports.importer import Importer, Layout, plain
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.packing import Packing
from mno.imports.stored import Box, FileArray

_EXPECTED = "the folder of a Zarr group (version 2 or 3)"
_LONGEST_TEXT = 200
_MOST_PARAMETERS = 64
_COMPRESSORS = ("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma")
_FILTERS = ("shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "crc32", "crc32c")
_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "vlen-utf8", *_COMPRESSORS, *_FILTERS),
    *(f"numcodecs.{name}" for name in (*_COMPRESSORS, *_FILTERS)),
}


class ZarrGroup(Importer):
    """An open Zarr group; `default` is the role of arrays of which nothing tells it, if given."""

    kind = "zarr"
    version = 3

    def __init__(self, path: Path, mapping: FieldMapping, default: Role | None = None) -> None:
        self._default: Role | None = default
        super().__init__(path, mapping)

    @classmethod
    def require(cls, path: Path) -> Path:
        """Return the path; refuse what is no folder, or one without the metadata of a group."""
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; expected {_EXPECTED}")
        if not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
            raise InputError(
                f"{path} cannot be read: it has neither zarr.json nor .zgroup; expected {_EXPECTED}"
            )
        return path

    def lay_out(self, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Read the metadata and find out what the arrays are."""
        self._check_links()
        with reading(self.path, expected=_EXPECTED):
            group = zarr.open_group(self.path, mode="r", use_consolidated=False)
            attributes: dict[str, Any] = dict(group.attrs)
            self._marker = "zarr.json" if group.metadata.zarr_format == 3 else ".zarray"
            names = sorted(p.name for p in self.path.iterdir() if (p / self._marker).exists())
        self._recorded = _mapping(attributes.get("shards"))
        listed = attributes.get("fields")
        listed = listed if isinstance(listed, list) else []  # by a dataset of ours
        self._texts: dict[str, zarr.Array] = {}
        found: dict[str, Array] = {}
        rates = attributes.get("rates")
        beside = ["identity", "round", "score", *(rates if isinstance(rates, list) else ())]
        for name in dict.fromkeys([*(name for name in listed if name in names), *names]):
            # What tells which samples of our dataset have equal inputs, or were chosen, and the
            # rates of its fields, are no fields: they belong to that dataset, not to the samples.
            ours = name in beside and bool(listed) and name not in listed
            array = None if ours or rule_of(mapping, name).drop else self._opened(name)
            if array is not None and array.dtype.kind in "SUTO":
                self._texts[name] = array
            elif array is not None:
                found[name] = self._array(name, array)
        contents, readers = arrange(
            self, found, mapping, parameters=_parameters(attributes),
            extent=_mapping(attributes.get("extent")), default=self._default,
        )  # fmt: skip
        texts = (f"{name} is left out: it holds text" for name in self._texts)
        return replace(contents, remarks=(*contents.remarks, *texts)), readers

    def labels(self, name: str) -> np.ndarray | None:
        """Return the text that an array holds for each sample, dtype object, if it holds any."""
        array = self._texts.get(name)
        if array is None or array.shape != (self.contents.samples,):
            return None
        with reading(self.path, name):
            return np.array([str(label) for label in np.asarray(array[...])], object)

    def _check_links(self) -> None:
        """Refuse links that lead out of the store, and pipes, which never end."""
        root = self.path.resolve()
        for folder, folders, files in os.walk(self.path):
            for file in (Path(folder, name) for name in (*folders, *files)):
                leads_out = file.is_symlink() and not file.resolve().is_relative_to(root)
                if leads_out or not (file.is_file() or file.is_dir()):
                    raise InputError(
                        f"{file} is {'a link that leads out of the store' if leads_out else 'odd'}"
                        "; expected files and folders only: put what belongs there in its place"
                    )

    def _opened(self, name: str) -> zarr.Array | None:
        """Open an array of known codecs; none if it is a group."""
        with reading(self.path, name):
            metadata = json.loads((self.path / name / self._marker).read_text(encoding="utf-8"))
            if metadata.get("node_type") == "group":
                return None
            if unknown := sorted(set(_codecs(metadata)) - _CODECS):
                raise self.error(
                    f"{name} has the codec {unknown[0][:40]!r}; expected only those that compress "
                    "numbers, such as zstd, gzip or blosc: write it anew with one of them"
                )
            return zarr.open_array(self.path / name, mode="r", zarr_format=metadata["zarr_format"])

    def _array(self, name: str, array: zarr.Array) -> Array:
        metadata: Any = array.metadata
        said: dict[str, Any] = dict(array.attrs)
        given = said.pop("_ARRAY_DIMENSIONS", None)
        given = given if metadata.zarr_format == 2 else metadata.dimension_names
        dims = tuple(given) if isinstance(given, (list, tuple)) else None
        if dims and (len(dims) != array.ndim or not all(isinstance(dim, str) for dim in dims)):
            dims = None
        # In version 2, xarray stores `_FillValue` as the array's own; of other writers that is 0
        # where nobody chose it.
        fill = plain(metadata.fill_value) if metadata.zarr_format == 2 else None
        packing = Packing.of(said, array.dtype, fill or None)
        meanings = [meaning_of(dim) for dim in dims or ()]
        axis = meanings.index("sample") if "sample" in meanings else 0
        of_samples = dims is None or "sample" in meanings
        size = (array.shards or array.chunks or (1,))[axis] if array.ndim else 1
        unchecked: dict[int, list[str]] = defaultdict(list)
        for file in self._recorded if of_samples else ():
            parts = file.split("/")
            if parts[:2] == [name, "c"] and len(parts) > 2 and parts[2].isdecimal():
                unchecked[int(parts[2])].append(file)

        def part(where: Box) -> np.ndarray:
            with reading(self.path, name):
                if where and unchecked:
                    for number in range(where[axis].start // size, -(-where[axis].stop // size)):
                        self._check(unchecked.pop(number, []))
                return packing.unpack(np.asarray(array[where]))

        order = (axis, *(i for i in range(array.ndim) if i != axis)) if array.ndim else ()
        chunks = array.chunks if all(array.chunks) else None
        stored = FileArray(self.path, name, array.shape, array.dtype, part, chunks, order)
        gaps = bool(said.get("gaps")) or bool(packing.missing)
        return Array(stored, dims, {**said, "gaps": gaps})

    def _check(self, names: list[str]) -> None:
        """Compare files that hold some samples with what the group records."""
        for name in names:
            file = self.path / name
            if not file.is_file() or file_sha256(file) != self._recorded[name]:
                raise self.error(
                    f"{name} is {'altered' if file.exists() else 'missing'} since the dataset was "
                    "released; get or make it anew"
                )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all that an array's bytes go through, those within shards included."""
    groups = [metadata.get(key) or () for key in ("codecs", "index_codecs", "filters")]
    for codec in (*(codec for group in groups for codec in group), metadata.get("compressor")):
        if isinstance(codec, dict):
            yield str(codec.get("name", codec.get("id")))
            yield from _codecs(_mapping(codec.get("configuration")))
        elif codec:
            yield str(codec)


def _parameters(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attributes say in plain values: of our datasets, the scenario's, too."""
    said = {
        name: value
        for name, value in {**_mapping(attributes.get("parameters")), **attributes}.items()
        if isinstance(value, (int, float)) or isinstance(value, str) and len(value) <= _LONGEST_TEXT
    }
    return dict(list(said.items())[:_MOST_PARAMETERS])


IMPORTER = ZarrGroup
