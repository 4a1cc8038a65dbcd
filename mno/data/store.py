"""The schema of a dataset: one Zarr v3 group that follows the CF conventions.

One float32 array per field with dimensions `sample`, then the axes of the field; one coordinate
array per axis; and `split`, the name of each sample's split. A chunk is one sample; a shard is
what one task makes. The same plan gives the same bytes.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from mno.core.fields import PLAIN, Field
from mno.core.files import file_sha256, folder_files, metadata_sha256, write_text
from mno.data.shard_file import COMPRESSION_LEVEL
from mno.scenarios.base import SampleSource

ROOT_FILE = "zarr.json"
# Without the configuration Zarr leaves out chunks that hold only the fill value; then a lost file
# and a legitimate one look the same.
_STORED: dict[str, Any] = {
    "compressors": ZstdCodec(level=COMPRESSION_LEVEL),
    "config": {"write_empty_chunks": True},
}
_CF_AXES = {"time": {"axis": "T"}, "x": {"axis": "X"}, "y": {"axis": "Y"}, "z": {"axis": "Z"}}


def shard_file(field: Field, shard: int) -> str:
    """Return the path in the store of the one file that holds a shard of a field."""
    return "/".join([field.name, "c", str(shard), *("0" for _ in field.dims)])


def create_store(
    path: Path,
    scenario: SampleSource,
    content: Mapping[str, Any],
    shard_size: int,
    splits: np.ndarray,
    numbers: Mapping[str, np.ndarray],
    spans: Mapping[str, Sequence[float]],
    rates: Mapping[Field, tuple[int, ...]],
) -> None:
    """Write the store, in a new folder, without its fields' values: metadata, coordinates, splits.

    `content` is what determines the samples, as plain values; `splits` names each sample's split,
    and `numbers` are further ones for each sample, shape `(samples,)`, by name. `spans` says
    between which values most of a field lie, where that is known; `rates` the shape in a sample of
    each rate of a field, which readers look for by an attribute of their own.
    """
    attributes = {
        "Conventions": "CF-1.11",
        "title": scenario.title,
        **content,
        "fields": [field.name for field in scenario.fields],
        **({"rates": [field.name for field in rates]} if rates else {}),
        "extent": {axis.name: list(axis.extent) for axis in scenario.axes},
        "symmetries": list(scenario.symmetries),
        **({"walls": scenario.walls} if scenario.walls != "free" else {}),
        **scenario.provenance,
    }
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)

    def write(name: str, dim: str, values: np.ndarray, dtype: Any, said: Any = None) -> None:
        """Write an array of one axis as one chunk."""
        array = group.create_array(
            name, shape=values.shape, dtype=dtype, chunks=values.shape, dimension_names=(dim,),
            attributes=said, **_STORED,
        )  # fmt: skip
        array[:] = values

    for axis in scenario.axes:
        points = np.asarray(axis.points, dtype=np.float64)
        said = {"units": axis.units, "long_name": axis.long_name, **_CF_AXES.get(axis.name, {})}
        write(axis.name, axis.name, points, points.dtype, {**said, **axis.flags})
    write("split", "sample", splits, str, {"long_name": "split of the sample"})
    numbers = {**scenario.coordinates(), **numbers}
    for name, values in numbers.items():
        write(name, "sample", values, values.dtype)
    places = [field.name for field in scenario.fields if field.role == "coordinate"]
    for field in (*scenario.fields, *rates):
        located = places if "point" in field.dims and field.role != "coordinate" else []
        shape = rates[field] if field in rates else scenario.shapes[field.name]
        about: dict[str, Any] = {
            "units": field.units, "long_name": field.long_name, "role": field.role,
            "coordinates": " ".join(["split", *numbers, *located]),
            **({"gaps": True} if field.gaps else {}),
            **({"scale": field.scale} if field.scale != PLAIN else {}),
            **({"span": list(spans[field.name])} if field.name in spans else {}),
        }  # fmt: skip
        group.create_array(
            field.name, shape=(len(splits), *shape), dtype=np.float32, chunks=(1, *shape),
            shards=(shard_size, *shape), dimension_names=("sample", *field.dims),
            fill_value=np.nan, attributes=about, **_STORED,
        )  # fmt: skip


def seal(path: Path, shards: Mapping[str, str]) -> None:
    """Record every file's checksum in the root attributes and consolidate the metadata.

    `shards` has the SHA-256 of the files of the fields' shards, by path in the store; the other
    files are added here.
    """
    found = folder_files(path).items()
    others = {n: file_sha256(file) for n, file in found if n not in (ROOT_FILE, *shards)}
    group = zarr.open_group(path, mode="r+", zarr_format=3)
    group.attrs["shards"] = dict(sorted({**others, **shards}.items()))
    with warnings.catch_warnings():
        # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(path)
    metadata = json.loads((path / ROOT_FILE).read_text(encoding="utf-8"))
    metadata["attributes"]["metadata_sha256"] = metadata_sha256(metadata)
    write_text(path / ROOT_FILE, json.dumps(metadata, indent=2))
