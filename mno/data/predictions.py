"""Predictions of a surrogate on a Zarr store of inputs, written as a Zarr store of outputs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from mno.errors import InputError
from mno.surrogate import Surrogate

_COORDINATES = ("sample", "x", "y", "z")


def predict_store(
    surrogate: Surrogate,
    source: Path,
    destination: Path,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> int:
    """Predict every sample of a store, batch by batch; memory does not grow with the store.

    Args:
        surrogate: The model.
        source: Zarr group with an array of shape `(sample, *grid)` for each of its input fields.
        destination: Zarr group to write; it appears only when it is complete.
        batch_size: Samples per forward pass.
        progress: Is told how many samples of how many are done.

    Returns:
        The number of samples.

    Raises:
        InputError: The source lacks a field or its fields do not fit, or the destination exists.
    """
    inputs = _open_inputs(surrogate, source)
    if destination.exists():
        raise InputError(f"{destination} exists already; choose another name or remove it")
    first = next(iter(inputs.values()))
    samples, shape = first.shape[0], first.shape[1:]
    partial = destination.with_name(destination.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        outputs = _create_outputs(surrogate, source, partial, samples, shape)
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)
            batch = {name: np.asarray(array[start:stop]) for name, array in inputs.items()}
            for name, field in surrogate.predict(batch, batch_size).items():
                outputs[name][start:stop] = field
            progress(stop, samples)
        with warnings.catch_warnings():
            # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(str(partial))
        os.replace(partial, destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return samples


def _open_inputs(surrogate: Surrogate, source: Path) -> dict[str, zarr.Array]:
    try:
        group = zarr.open_group(str(source), mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{source} is not a Zarr group that can be read ({type(error).__name__}); expected one "
            f"with the arrays {', '.join(surrogate.description.inputs)}"
        ) from None
    arrays: dict[str, zarr.Array] = {}
    for name in surrogate.description.inputs:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise InputError(
                f"{source} has no array {name!r}, only: {', '.join(sorted(group)) or 'nothing'}; "
                f"this model takes {', '.join(surrogate.description.inputs)}"
            )
        if array.dtype.kind not in "fiub" or array.ndim != 1 + len(surrogate.description.extent):
            axes = ", ".join("xyz"[: len(surrogate.description.extent)])
            raise InputError(
                f"{source}: {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                f"shape (sample, {axes})"
            )
        arrays[name] = array
    if len({array.shape for array in arrays.values()}) != 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(f"{source}: fields have different shapes {shapes}; expected one")
    return arrays


def _create_outputs(
    surrogate: Surrogate, source: Path, path: Path, samples: int, shape: tuple[int, ...]
) -> dict[str, zarr.Array]:
    group = zarr.open_group(str(path), mode="w", attributes={"Conventions": "CF-1.11"})
    dims = ("sample", *"xyz"[: len(shape)])
    given = zarr.open_group(str(source), mode="r")
    for name in _COORDINATES:
        coordinate = given.get(name)
        if isinstance(coordinate, zarr.Array) and name in dims:
            copy = group.create_array(name, data=np.asarray(coordinate[:]), dimension_names=(name,))
            copy.attrs.update(dict(coordinate.attrs))
    return {
        name: group.create_array(
            name,
            shape=(samples, *shape),
            chunks=(1, *shape),
            dtype="float32",
            dimension_names=dims,
            compressors=ZstdCodec(level=1),
            fill_value=np.nan,
            attributes={"units": units},
        )
        for name, units in surrogate.description.outputs.items()
    }
