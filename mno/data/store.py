"""The schema of a dataset: one Zarr v3 group that follows the CF conventions.

One float32 array per field with dimensions `sample`, then the axes of the field; one coordinate
array per axis; and `split`, the name of each sample's split. A chunk is one sample; a shard is
what one task makes. The same plan gives the same bytes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.array_spec import ArrayConfigParams
from zarr.errors import ZarrUserWarning

from mno.core.fields import Field
from mno.core.files import file_sha256, folder_files, metadata_sha256, write_text
from mno.data.generate.plan import DatasetPlan
from mno.data.shard_file import COMPRESSION_LEVEL, write_shard_file
from mno.scenarios.base import SampleSource

ROOT_FILE = "zarr.json"
_COMPRESSION = ZstdCodec(level=COMPRESSION_LEVEL)
# Without this Zarr leaves out chunks that hold only the fill value; then a lost file and a
# legitimate one look the same.
_WRITE_ALL: ArrayConfigParams = {"write_empty_chunks": True}
_CF_AXES = {"time": {"axis": "T"}, "x": {"axis": "X"}, "y": {"axis": "Y"}, "z": {"axis": "Z"}}


def sample_shape(scenario: SampleSource, field: Field) -> tuple[int, ...]:
    """Return the shape of a field in one sample."""
    lengths = {axis.name: len(axis.points) for axis in scenario.axes}
    return tuple(lengths[name] for name in field.dims)


def shard_file(field: Field, shard: int) -> str:
    """Return the path in the store of the one file that holds a shard of a field."""
    return "/".join([field.name, "c", str(shard), *("0" for _ in field.dims)])


def create_store(
    path: Path, plan: DatasetPlan, numbers: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write the store without its fields' values: metadata, coordinates and splits.

    The folder does not exist yet; `numbers` are further ones for each sample, shape `(samples,)`,
    by name.
    """
    scenario = plan.build()
    attributes = {
        "Conventions": "CF-1.11",
        "title": scenario.title,
        **plan.content,
        "fields": [field.name for field in scenario.fields],
        "extent": {axis.name: list(axis.extent) for axis in scenario.axes},
        "symmetries": list(scenario.symmetries),
        **scenario.provenance,
    }
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    for axis in scenario.axes:
        points = np.asarray(axis.points, dtype=np.float64)
        said = {"units": axis.units, "long_name": axis.long_name, **_CF_AXES.get(axis.name, {})}
        _write(group, axis.name, axis.name, points, points.dtype, said)
    _write(group, "split", "sample", plan.splits(), str, {"long_name": "split of the sample"})
    numbers = {**scenario.coordinates(), **(numbers or {})}
    for name, values in numbers.items():
        _write(group, name, "sample", values, values.dtype)
    places = [field.name for field in scenario.fields if field.role == "coordinate"]
    for field in scenario.fields:
        located = places if "point" in field.dims and field.role != "coordinate" else []
        shape = sample_shape(scenario, field)
        group.create_array(
            field.name,
            shape=(plan.config.samples, *shape),
            dtype=np.float32,
            chunks=(1, *shape),
            shards=(plan.config.shard_size, *shape),
            compressors=_COMPRESSION,
            fill_value=np.nan,
            dimension_names=("sample", *field.dims),
            attributes={
                "units": field.units,
                "long_name": field.long_name,
                "role": field.role,
                "coordinates": " ".join(["split", *numbers, *located]),
                **({"gaps": True} if field.gaps else {}),
            },
            config=_WRITE_ALL,
        )


def _write(
    group: zarr.Group,
    name: str,
    dim: str,
    values: np.ndarray,
    dtype: Any,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Write an array of one axis as one chunk."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=dtype,
        chunks=values.shape,
        compressors=_COMPRESSION,
        dimension_names=(dim,),
        attributes=attributes,
        config=_WRITE_ALL,
    )
    array[:] = values


def write_values(path: Path, name: str, start: int, values: np.ndarray) -> str:
    """Write the values of one field in one whole shard; return the SHA-256 of its file.

    Args:
        path: The store.
        name: The field.
        start: Number of the first sample.
        values: Shape `(samples of the shard, *sample shape)`, float32.

    Raises:
        ValueError: The values are not exactly one shard. Two writers that share a shard would
            silently lose each other's samples.
    """
    array = zarr.open_array(path / name, mode="r", zarr_format=3)
    size = (array.shards or array.chunks)[0]
    stop = start + len(values)
    if start % size or stop != min(start + size, array.shape[0]):
        raise ValueError(
            f"samples {start} to {stop - 1} of {name} are not one whole shard of {size} samples"
        )
    if values.shape[1:] != array.shape[1:]:
        raise ValueError(f"a sample of {name} has shape {array.shape[1:]}, not {values.shape[1:]}")
    zeros = ("0" for _ in array.shape[1:])
    return write_shard_file(path.joinpath(name, "c", str(start // size), *zeros), values, size)


def seal(path: Path, shards: Mapping[str, str]) -> None:
    """Record every file's checksum in the root attributes and consolidate the metadata.

    `shards` has the SHA-256 of the files of the fields' shards, by path in the store; the other
    files are added here.
    """
    others = {
        name: file_sha256(file)
        for name, file in folder_files(path).items()
        if name != ROOT_FILE and name not in shards
    }
    group = zarr.open_group(path, mode="r+", zarr_format=3)
    group.attrs["shards"] = dict(sorted({**others, **shards}.items()))
    with warnings.catch_warnings():
        # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(path)
    metadata = json.loads((path / ROOT_FILE).read_text(encoding="utf-8"))
    metadata["attributes"]["metadata_sha256"] = metadata_sha256(metadata)
    write_text(path / ROOT_FILE, json.dumps(metadata, indent=2))
