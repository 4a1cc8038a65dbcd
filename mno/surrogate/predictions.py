"""Predictions of a surrogate on a Zarr store of inputs, written as a Zarr store of outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from mno.core.errors import InputError
from mno.core.files import replacing_folder
from mno.surrogate.surrogate import Surrogate

_TOGETHER = 1024  # samples in a chunk of an array that has a few numbers for each


class Variable(NamedTuple):
    """An array beside the predicted fields, with a value for each sample, or for more `dims`."""

    name: str
    units: str
    long_name: str
    attributes: Mapping[str, Any] = {}
    dims: tuple[str, ...] = ()
    dtype: np.dtype = np.dtype(np.float32)


class Companion(Protocol):
    """What goes through predictions batch by batch, and adds to them."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The arrays that it adds."""
        ...

    def complete(
        self, given: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
        """Return the fields to keep of a batch, and the arrays to add, `(samples, *dims)` each."""
        ...


def predict_store(
    surrogate: Surrogate,
    source: Path,
    destination: Path,
    batch_size: int,
    progress: Callable[[int, int], None],
    steps: int | None = None,
    companion: Companion | None = None,
) -> int:
    """Predict every sample of a store, batch by batch; memory does not grow with the store.

    The source is a Zarr group with an array of shape `(sample, *grid)` for each input field
    (`(sample, point)` for those of a model of unordered points, and for its coordinates),
    `(sample, time, *grid)` for a state or a forcing, of which the first frames are given, and
    `(sample,)` for a number per sample. The destination appears only when it is complete. Progress
    is told how many samples of how many are done. Returns the number of samples.

    Raises:
        InputError: The source lacks a field or its fields do not fit, the destination exists, or
            the model cannot predict that number of frames.
    """
    inputs = open_inputs(surrogate, source, steps)
    if destination.exists():
        raise InputError(f"{destination} exists already; choose another name or remove it")
    samples = next(iter(inputs.values())).shape[0]
    with replacing_folder(destination) as partial:
        variables = companion.variables if companion else ()
        outputs = _create_outputs(surrogate, source, partial, inputs, steps, variables)
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)
            batch = read_inputs(surrogate, inputs, slice(start, stop), steps)
            try:
                predicted: Mapping[str, np.ndarray] = surrogate.predict(batch, stop - start, steps)
            except InputError as error:
                raise InputError(f"{source}, from {start} on: {error}") from None
            beside: Mapping[str, np.ndarray] = {}
            if companion:
                predicted, beside = companion.complete(batch, predicted)
            places = {name: batch[name] for name in surrogate.description.coordinates}
            for name, array in {**predicted, **beside, **places}.items():
                outputs[name][start:stop] = array
            progress(stop, samples)
        with warnings.catch_warnings():
            # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(str(partial))
    return samples


def open_inputs(surrogate: Surrogate, source: Path, steps: int | None) -> dict[str, zarr.Array]:
    """Open the arrays that a model is given, by name, of a Zarr group as `predict_store` takes it.

    Raises:
        InputError: One is missing, or they do not fit the model or each other.
    """
    description = surrogate.description
    try:
        group = zarr.open_group(str(source), mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{source} is not a Zarr group that can be read ({type(error).__name__}); expected one "
            f"with the arrays {', '.join(description.given_names)}"
        ) from None
    arrays: dict[str, zarr.Array] = {}
    for name in description.given_names:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise InputError(
                f"{source} has no array {name!r}, only: {', '.join(sorted(group)) or 'nothing'}; "
                f"this model takes {', '.join(description.given_names)}"
            )
        dims, frames = ("sample", *description.dims(name)), description.frames_given(name, steps)
        too_short = frames is not None and array.ndim > 1 and array.shape[1] < frames
        if array.dtype.kind not in "fiub" or array.ndim != len(dims) or too_short:
            least = f" with {frames} frames or more" if frames else ""
            raise InputError(
                f"{source}: {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                f"shape ({', '.join(dims)}){least}"
            )
        arrays[name] = array
    samples = {array.shape[0] for array in arrays.values()}
    placed = (*description.fields, *description.coordinates)
    grids = {arrays[name].shape[-len(description.space) :] for name in placed}
    if len(samples) != 1 or len(grids) != 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(f"{source}: fields have different shapes {shapes}; expected one")
    return arrays


def read_inputs(
    surrogate: Surrogate, inputs: Mapping[str, zarr.Array], samples: slice, steps: int | None
) -> dict[str, np.ndarray]:
    """Read what the model is given of some samples."""
    read = {}
    for name, array in inputs.items():
        frames = surrogate.description.frames_given(name, steps)
        read[name] = np.asarray(array[samples] if frames is None else array[samples, :frames])
    return read


def _create_outputs(
    surrogate: Surrogate,
    source: Path,
    path: Path,
    inputs: Mapping[str, zarr.Array],
    steps: int | None,
    variables: tuple[Variable, ...],
) -> dict[str, zarr.Array]:
    description, forecast = surrogate.description, surrogate.description.forecast
    given = zarr.open_group(str(source), mode="r")
    group = zarr.open_group(str(path), mode="w", attributes={"Conventions": "CF-1.11"})
    space = ("sample", *description.space)
    some = inputs[description.fields[0]].shape
    sizes = dict(zip(space, (some[0], *some[-len(description.space) :]), strict=True))
    if forecast:
        sizes["time"] = steps or forecast.steps
    for name in sizes:
        points = given.get(name)
        if not isinstance(points, zarr.Array):
            continue
        values = np.asarray(points[:])
        if forecast and name == "time":
            first = values[: forecast.history]
            if not np.allclose(np.diff(first), forecast.interval, rtol=1e-6):
                raise InputError(
                    f"the first {forecast.history} frames are at times {first}; this model "
                    f"continues frames that are {forecast.interval:g} apart: give it such frames"
                )
            values = first[-1] + forecast.interval * np.arange(1, sizes["time"] + 1)
        copy = group.create_array(name, data=values, dimension_names=(name,))
        copy.attrs.update(dict(points.attrs))

    def created(
        name: str, dims: tuple[str, ...], together: int, dtype: Any, attributes: dict[str, Any]
    ) -> zarr.Array:
        return group.create_array(
            name,
            shape=tuple(sizes[dim] for dim in dims),
            chunks=(together, *(sizes[dim] for dim in dims[1:])),
            dtype=dtype,
            dimension_names=dims,
            compressors=ZstdCodec(level=1),
            fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
            attributes=attributes,
        )

    located = {"coordinates": " ".join(description.coordinates)} if description.coordinates else {}
    arrays = {}
    for name, units in {**description.outputs, **description.coordinates}.items():
        attributes = {"units": units, **({} if name in description.coordinates else located)}
        dims = ("sample", *description.dims(name))
        arrays[name] = created(name, dims, 1, "float32", attributes)
    for beside in variables:
        attributes = {"units": beside.units, "long_name": beside.long_name, **beside.attributes}
        dims = ("sample", *beside.dims)
        arrays[beside.name] = created(beside.name, dims, _TOGETHER, beside.dtype, attributes)
    return arrays
