"""Read a released dataset: its schema, and the samples of one split, checked before use.

A chunk is one sample, so any sample is one read from a shard, whose index says where it lies.
Nothing stays open and no thread is started between two reads: an array may be used after a fork,
and it is handed to other processes as a path and some numbers.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.zstd import decompress

from mno.core.errors import InputError, MnoError
from mno.core.fields import PLAIN, RATE, Axis, Field, HasFields, difference_from
from mno.core.files import file_sha256, metadata_sha256
from mno.core.memory import fits_in_memory
from mno.core.observing import Observing
from mno.core.readings import Part
from mno.data.shard_file import content_size, read_index

BLOCK_BYTES = 2**26


def blocks(array: "SampleArray") -> Iterator[slice]:
    """Yield slices that cover all samples in order, each of at most 64 MiB or one sample.

    They depend on the array's shape and type alone, and not on where it lies.
    """
    size = math.prod(array.shape[1:]) * array.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(size, 1))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))


_ROOT_FILE = "zarr.json"
REPAIR = 'make the dataset again with "mno generate --repair"'
_AT_ONCE = 256  # samples, so that not too many files are open
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


class StoredArray:
    """A field of samples with the numbers `indices`, float32: `array[numbers]` reads some.

    Raises:
        InputError: The dataset does not store the field as this version does.
        MnoError: A file is missing or damaged, found when it is read.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, store: Path, name: str, indices: np.ndarray) -> None:
        self.folder = store / name
        self.indices = np.asarray(indices, dtype=np.int64)
        try:
            metadata = json.loads((self.folder / "zarr.json").read_text(encoding="utf-8"))
            self.sample_shape, self._shard_size = _layout(metadata)
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            raise InputError(
                f"{self.folder} is not stored as this version stores fields (float32, one sample a "
                f"chunk, zstd); {REPAIR}"
            ) from None
        self._indexes: dict[int, list[list[int]]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, and the shape of one."""
        return len(self.indices), *self.sample_shape

    @property
    def nbytes(self) -> int:
        """What all of it takes in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, numbers: np.ndarray | slice) -> np.ndarray:
        """Read samples by their numbers among the chosen ones, shape `(numbers, *sample)`."""
        samples = self.indices[numbers].tolist()
        values = np.empty((len(samples), *self.sample_shape), self.dtype)
        for start in range(0, len(samples), _AT_ONCE):
            self._read(samples[start : start + _AT_ONCE], values[start : start + _AT_ONCE])
        return values

    def _read(self, samples: list[int], values: np.ndarray) -> None:
        opened: dict[int, tuple[Path, int]] = {}
        places, size = [], values[:1].nbytes
        with ExitStack() as files:
            # The system is told of all reads before the first one is waited for.
            for sample in samples:
                shard, row = divmod(sample, self._shard_size)
                if shard not in opened:
                    opened[shard] = self._open(shard, files)
                path, file = opened[shard]
                offset, length = self._indexes[shard][row]
                if offset + length > os.fstat(file).st_size:
                    raise _damaged(path)
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
                places.append((path, file, offset, length))
            for row, (path, file, offset, length) in enumerate(places):
                frame = os.pread(file, length, offset)
                if len(frame) != length or content_size(frame) != size:
                    raise _damaged(path)
                try:
                    decompress(frame, values[row : row + 1])
                except (RuntimeError, ValueError):
                    raise _damaged(path) from None

    def _open(self, shard: int, files: ExitStack) -> tuple[Path, int]:
        path = self.folder.joinpath("c", str(shard), *("0" for _ in self.sample_shape))
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise MnoError(f"{path} cannot be read: {error.strerror}; {REPAIR}") from None
        files.callback(os.close, file)
        if shard not in self._indexes:
            try:
                self._indexes[shard] = read_index(file, self._shard_size)
            except ValueError:
                raise _damaged(path) from None
        return path, file


SampleArray = np.ndarray | StoredArray
"""An array of shape `(samples, *sample)`, in memory or in files."""


def _layout(metadata: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return shape of a sample and samples per shard; an error of any kind if it is not ours."""
    _, *shape = metadata["shape"]
    shard_size, *whole = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    (sharding,) = metadata["codecs"]
    inner = sharding["configuration"]
    values, compression = inner["codecs"]
    if (
        metadata["data_type"] != "float32"
        or metadata["chunk_key_encoding"]["configuration"]["separator"] != "/"
        or sharding["name"] != "sharding_indexed"
        or whole != shape
        or inner["chunk_shape"] != [1, *shape]
        or values != _LITTLE
        or compression["name"] != "zstd"
        or inner["index_codecs"] != [_LITTLE, {"name": "crc32c"}]
        or inner["index_location"] != "end"
    ):
        raise ValueError("another layout")
    return tuple(int(length) for length in shape), int(shard_size)


def _damaged(path: Path) -> MnoError:
    return MnoError(f"{path} is damaged; {REPAIR}")


@dataclass(frozen=True)
class Schema(HasFields):
    """What a dataset holds: fields in the scenario's order, axes in that in which fields use them.

    `symmetries` names the maps that turn a sample into another, as a scenario declares them;
    `parameters` are the scenario's own; `sources` the files that samples were imported from, with
    their SHA-256; `resolution` the points along each space axis that it was solved at; `walls` what
    is known of the outputs there, as `model.walls` says it; `part` which part of it is looked at,
    where there are fields and readings, `readings` the axis of each and its points from the first
    to before the last, and `grid` the axes of the cells among these points (`mno.core.readings`);
    `observe` is what the plant's file says of sensors, and `observing` what of them an observer is
    given, where its view is this (`mno.core.observing`); `plant` is what that file says otherwise.
    Each is empty, None or `free`, where there is nothing to say.
    """

    scenario: str
    fields: tuple[Field, ...]
    axes: tuple[Axis, ...]
    symmetries: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Mapping[str, Any], ...] = ()
    resolution: int | None = None
    walls: str = "free"
    part: Part = "fields"
    readings: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    grid: tuple[Axis, ...] = ()
    observe: Mapping[str, Any] = field(default_factory=dict)
    observing: Observing | None = None
    plant: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[int, ...]:
        """Cells of the grid along each axis, where they are among the points."""
        return tuple(len(axis.points) for axis in self.grid)

    @property
    def coordinates(self) -> tuple[Field, ...]:
        """Fields that say where unordered points are; none on a grid."""
        return tuple(field for field in self.fields if field.role == "coordinate")

    @property
    def times(self) -> tuple[Field, ...]:
        """The field that says when each sample's frames are; none where all have the axis's."""
        return tuple(field for field in self.fields if field.role == "times")

    @property
    def space(self) -> tuple[Axis, ...]:
        """The axes without time."""
        return tuple(axis for axis in self.axes if axis.name != "time")

    @property
    def extent(self) -> tuple[float, ...]:
        """Length of the domain along each space axis, in the axis's unit."""
        return tuple(axis.extent[1] - axis.extent[0] for axis in self.space)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring points along each space axis, in the axis's unit."""
        return tuple(
            length / len(axis.points) for length, axis in zip(self.extent, self.space, strict=True)
        )

    @property
    def offset(self) -> tuple[float, ...]:
        """Where points lie in their cells along each space axis, as shares of the cells' width.

        Raises:
            InputError: The points of an axis are not all as far apart as its extent, divided among
                them, asks for.
        """
        offsets = []
        for axis, h in zip(self.space, self.spacing, strict=True):
            shares = (axis.points - axis.extent[0]) / h - np.arange(len(axis.points))
            if not np.allclose(shares, shares[0], rtol=0.0, atol=1e-4):
                raise InputError(
                    f"axis {axis.name} has {len(axis.points)} points from {axis.points[0]:g} to "
                    f"{axis.points[-1]:g} on an extent from {axis.extent[0]:g} to "
                    f"{axis.extent[1]:g}; expected them {h:g} apart: give the axis such points, or "
                    "the extent that they divide"
                )
            offsets.append(round(float(np.median(shares)), 4))
        return tuple(offsets)


def difference(ours: Any, theirs: Any) -> str | None:
    """Return in which fields or axes two files differ that are to be one dataset; none if in none.

    They are schemas, or what importers find. The scales of fields may differ, since those of the
    dataset are chosen for all of its files. Where samples have times of their own, the points of
    the time axis may differ, too.
    """
    one, other = (
        tuple(replace(f, scale=PLAIN, long_name="") for f in each.fields) for each in (ours, theirs)
    )
    if one != other:
        return f"has fields {_signature(theirs.fields)}; the others have {_signature(ours.fields)}"
    own_times = any(field.role == "times" for field in ours.fields)
    for a, b in zip(ours.axes, theirs.axes, strict=True):
        nominal = own_times and a.name == "time"
        same = a.points.shape == b.points.shape
        near = 1e-5 * np.ptp(a.extent)
        same = same and (nominal or np.allclose(a.points, b.points, rtol=1e-5, atol=near))
        close = nominal or np.allclose(a.extent, b.extent, rtol=1e-5, atol=near)
        if not (a.name == b.name and a.units == b.units and same and close):
            return f"has {len(b.points)} points along {b.name}, at other places than the others'"
    return None


def _signature(fields: tuple[Field, ...]) -> str:
    return ", ".join(
        f"{f.name}[{f.units}] {f.role}{' with gaps' * f.gaps} ({', '.join(f.dims)})" for f in fields
    )


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one split, in memory.

    `fields` are arrays of shape `(samples, *dims)`, float32, in physical units, by field name;
    `indices` the numbers of the samples in the dataset, shape `(samples,)`, int64, ascending.
    `rates` are those of some fields along directions of what is given, shape `(samples, direction,
    *dims)`, by the field's name; NaN where a sample has none.
    """

    name: str  # `train`, `validation` or `test`
    schema: Schema
    fields: dict[str, np.ndarray]
    indices: np.ndarray
    rates: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: np.ndarray) -> "Split":
        """Return some of the samples, by their positions in this split."""
        fields, rates = (
            {name: array[positions] for name, array in of.items()}
            for of in (self.fields, self.rates)
        )
        return Split(self.name, self.schema, fields, self.indices[positions], rates)


@dataclass(frozen=True, eq=False)
class StoredSplit:
    """The samples of one split, as in `Split`, which stay in their files until they are read."""

    name: str
    schema: Schema
    fields: dict[str, StoredArray]
    indices: np.ndarray
    rates: dict[str, StoredArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """What all fields take in memory, in bytes."""
        return sum(array.nbytes for array in (*self.fields.values(), *self.rates.values()))

    def take(self, positions: np.ndarray) -> "StoredSplit":
        """Return some of the samples, by their positions in this split."""
        chosen = self.indices[positions]
        fields, rates = (
            {name: StoredArray(a.folder.parent, a.folder.name, chosen) for name, a in of.items()}
            for of in (self.fields, self.rates)
        )
        return StoredSplit(self.name, self.schema, fields, chosen, rates)

    def load(self) -> Split:
        """Read all samples into memory."""
        fields = {name: array[:] for name, array in self.fields.items()}
        rates = {name: array[:] for name, array in self.rates.items()}
        return Split(self.name, self.schema, fields, self.indices, rates)


def read_schema(store: Path) -> Schema:
    """Read what a dataset holds, without reading its fields.

    Raises:
        InputError: The folder is not a released dataset.
    """
    attributes = read_root(store)["attributes"]
    try:
        sources = tuple(dict(source) for source in attributes.get("sources", ()))
        return Schema(
            attributes["scenario"],
            tuple(_read_field(store, name) for name in attributes["fields"]),
            tuple(_read_axis(store, name, e) for name, e in attributes["extent"].items()),
            tuple(str(name) for name in attributes.get("symmetries", ())),
            dict(attributes.get("parameters", {})),
            sources,
            None if sources else dict(attributes["generate"]).get("resolution"),
            str(attributes.get("walls", "free")),
            observe=dict(attributes.get("observe", {})),
            plant=dict(attributes.get("plant", {})),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{store} is not a dataset of this version: {error!r}") from None


def open_split(
    store: Path, split: str, schema: Schema | None = None, *, checked: bool = True
) -> StoredSplit:
    """Find the samples of a split, after the checksum of every file was verified, if `checked`.

    Raises:
        InputError: The folder is not a released dataset, or has no such split.
        MnoError: A file of the dataset is missing or altered, or one was added.
    """
    if checked:
        problems = verify(store)
        if problems:
            more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
            raise MnoError(f"{store}/{problems[0]}{more}; {REPAIR}")
    schema = schema or read_schema(store)
    splits = np.asarray(zarr.open_array(store / "split", mode="r", zarr_format=3)[:])
    indices = np.flatnonzero(splits == split).astype(np.int64)
    if not len(indices):
        known = ", ".join(dict.fromkeys(str(name) for name in splits))
        raise InputError(f"split={split!r} is not in {store}; it has {known}")
    fields = {field.name: StoredArray(store, field.name, indices) for field in schema.fields}
    names = read_root(store)["attributes"].get("rates", ())
    rates = {name.removeprefix(RATE): StoredArray(store, name, indices) for name in names}
    return StoredSplit(split, schema, fields, indices, rates if split == "train" else {})


def open_splits(store: Path, first: str, *others: str) -> list[Split] | list[StoredSplit]:
    """Find the samples of several splits, whose files are verified once; in memory if they fit."""
    found = [open_split(store, first)]
    found += [open_split(store, name, found[0].schema, checked=False) for name in others]
    if fits_in_memory(sum(split.nbytes for split in found)):
        return [split.load() for split in found]
    return found


def read_split(store: Path, split: str, schema: Schema | None = None) -> Split:
    """Read the samples of a split into memory; arguments and errors are those of `open_split`."""
    return open_split(store, split, schema).load()


def verify(store: Path) -> list[str]:
    """Compare every file of a dataset with the checksum recorded at its release.

    Sizes and times are not trusted; every byte is read. One line is returned for each file that is
    missing, altered or does not belong, beginning with its path in the store.

    Raises:
        InputError: The folder is not a released dataset.
    """
    metadata = read_root(store)
    recorded: dict[str, str] = metadata["attributes"]["shards"]
    unlike = "does not match its recorded sha256"
    problems = []
    if metadata["attributes"].get("metadata_sha256") != metadata_sha256(metadata):
        problems.append(f"{_ROOT_FILE} {unlike}")
    for name, sha in recorded.items():
        if not (store / name).is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(store / name) != sha:
            problems.append(f"{name} {unlike}")
    present = {p.relative_to(store).as_posix() for p in store.rglob("*") if not p.is_dir()}
    extra = sorted(present - set(recorded) - {_ROOT_FILE})
    return problems + [f"{name} is not part of the dataset" for name in extra]


def read_root(store: Path) -> dict[str, Any]:
    """Read the root file of a dataset, whose `attributes` say what it is, and its checksums.

    Raises:
        InputError: The folder is not a released dataset.
    """
    remedy = 'make a dataset with "mno generate"'
    try:
        metadata = json.loads((store / _ROOT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{store} holds no dataset (no {_ROOT_FILE} in it); {remedy}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{store}/{_ROOT_FILE} cannot be read: {error}; {remedy}") from None
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    if not isinstance(attributes, dict) or not isinstance(attributes.get("shards"), dict):
        raise InputError(f"{store} is no released dataset (it records no checksums); {remedy}")
    return metadata


def _read_field(store: Path, name: str) -> Field:
    array = zarr.open_array(store / name, mode="r", zarr_format=3)
    said: dict[str, Any] = dict(array.attrs)
    _, *dims = array.metadata.dimension_names  # type: ignore[union-attr]  # Zarr v3 has them
    axes, gaps = tuple(str(name) for name in dims), bool(said.get("gaps", False))
    scale = str(said.get("scale", PLAIN))
    difference_from(scale)  # refuses what is none
    return Field(name, said["units"], said["long_name"], said["role"], axes, gaps, scale)


def _read_axis(store: Path, name: str, extent: list[float]) -> Axis:
    array = zarr.open_array(store / name, mode="r", zarr_format=3)
    said, (begin, end) = dict[str, Any](array.attrs), extent
    points = np.asarray(array[:])
    labels = tuple(str(said.get("flag_meanings", "")).split())
    return Axis(name, said["units"], said["long_name"], points, (float(begin), float(end)), labels)
