"""Predictions of a surrogate on a Zarr store of inputs, written as a Zarr store of outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from mno.core.errors import InputError
from mno.core.files import replacing_folder
from mno.core.forecast import Forecast
from mno.surrogate.surrogate import Surrogate

_TOGETHER = 1024  # samples in a chunk of an array that has a few numbers for each

Coordinate: TypeAlias = tuple[np.ndarray, dict[str, Any]]
"""Points along an axis, and the attributes of their array."""


@dataclass(frozen=True)
class Variable:
    """An array beside the predicted fields, with a value for each sample.

    Attributes:
        name: Of the array.
        dims: Its axes behind the samples'; those of the predicted fields.
        dtype: Of its values.
        attributes: Unit, long name, and what else is to be said of it.
    """

    name: str
    dims: tuple[str, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]


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

    Args:
        surrogate: The model.
        source: Zarr group with an array of shape `(sample, *grid)` for each of its input fields
            (`(sample, point)` for those of a model of unordered points, and for its coordinates),
            `(sample, time, *grid)` for a state or a forcing, of which it is given the first frames,
            and `(sample,)` for a number per sample.
        destination: Zarr group to write; it appears only when it is complete.
        batch_size: Samples per forward pass.
        progress: Is told how many samples of how many are done.
        steps: Frames to predict, as for `Surrogate.predict`.
        companion: Completes predictions and adds arrays to the fields; none if only these are
            wanted.

    Returns:
        The number of samples.

    Raises:
        InputError: The source lacks a field or its fields do not fit, the destination exists, or
            the model cannot predict that number of frames.
    """
    inputs = open_inputs(surrogate, source, steps)
    if destination.exists():
        raise InputError(f"{destination} exists already; choose another name or remove it")
    samples = next(iter(inputs.values())).shape[0]
    with replacing_folder(destination) as partial:
        outputs = _create_outputs(surrogate, source, partial, inputs, steps, companion)
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)
            batch = read_inputs(surrogate, inputs, slice(start, stop), steps)
            predicted = _predict(surrogate, batch, steps, f"{source}, from {start} on")
            beside: Mapping[str, np.ndarray] = {}
            if companion:
                predicted, beside = companion.complete(batch, predicted)
            for name, array in {**predicted, **beside}.items():
                outputs[name][start:stop] = array
            for name in surrogate.description.coordinates:
                outputs[name][start:stop] = batch[name]
            progress(stop, samples)
        with warnings.catch_warnings():
            # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(str(partial))
    return samples


def open_inputs(surrogate: Surrogate, source: Path, steps: int | None) -> dict[str, zarr.Array]:
    """Open the arrays that a model is given, by name.

    Args:
        surrogate: The model.
        source: Zarr group, as for `predict_store`.
        steps: Frames to predict, as for `Surrogate.predict`.

    Raises:
        InputError: One is missing, or they do not fit the model or each other.
    """
    try:
        group = zarr.open_group(str(source), mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{source} is not a Zarr group that can be read ({type(error).__name__}); expected one "
            f"with the arrays {', '.join(surrogate.description.given_names)}"
        ) from None
    arrays: dict[str, zarr.Array] = {}
    for name in surrogate.description.given_names:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise InputError(
                f"{source} has no array {name!r}, only: {', '.join(sorted(group)) or 'nothing'}; "
                f"this model takes {', '.join(surrogate.description.given_names)}"
            )
        dims, frames = _dims(surrogate, name), surrogate.description.frames_given(name, steps)
        too_short = frames is not None and array.ndim > 1 and array.shape[1] < frames
        if array.dtype.kind not in "fiub" or array.ndim != len(dims) or too_short:
            least = f" with {frames} frames or more" if frames else ""
            raise InputError(
                f"{source}: {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                f"shape ({', '.join(dims)}){least}"
            )
        arrays[name] = array
    places = len(surrogate.description.space)
    samples = {array.shape[0] for array in arrays.values()}
    placed = (*surrogate.description.fields, *surrogate.description.coordinates)
    grids = {arrays[name].shape[-places:] for name in placed}
    if len(samples) != 1 or len(grids) != 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(f"{source}: fields have different shapes {shapes}; expected one")
    return arrays


def _dims(surrogate: Surrogate, name: str) -> tuple[str, ...]:
    """Return the dimensions of a field in a store."""
    description = surrogate.description
    if name in description.scalars:
        return ("sample",)
    time = ("time",) if name in (*description.states, *description.forcings) else ()
    return ("sample", *time, *description.space)


def read_inputs(
    surrogate: Surrogate, inputs: Mapping[str, zarr.Array], samples: slice, steps: int | None
) -> dict[str, np.ndarray]:
    """Read what the model is given of some samples."""
    read = {}
    for name, array in inputs.items():
        frames = surrogate.description.frames_given(name, steps)
        read[name] = np.asarray(array[samples] if frames is None else array[samples, :frames])
    return read


def _predict(
    surrogate: Surrogate, batch: dict[str, np.ndarray], steps: int | None, where: str
) -> Mapping[str, np.ndarray]:
    """Predict some samples as one batch; an error says which they are."""
    try:
        samples = len(next(iter(batch.values())))
        return surrogate.predict(batch, samples, steps)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _create_outputs(
    surrogate: Surrogate,
    source: Path,
    path: Path,
    inputs: Mapping[str, zarr.Array],
    steps: int | None,
    companion: Companion | None,
) -> dict[str, zarr.Array]:
    description = surrogate.description
    given = zarr.open_group(str(source), mode="r")
    group = zarr.open_group(str(path), mode="w", attributes={"Conventions": "CF-1.11"})
    some = inputs[description.fields[0]].shape
    axes = description.space
    space = ("sample", *axes)
    sizes = dict(zip(space, (some[0], *some[-len(axes) :]), strict=True))
    points = {name: _coordinate(given, name) for name in space}
    if description.forecast:
        sizes["time"] = steps or description.forecast.steps
        times = _coordinate(given, "time")
        points["time"] = times and _later_times(times, description.forecast, sizes["time"])
    for name, coordinate in points.items():
        if coordinate is not None:
            values, attributes = coordinate
            copy = group.create_array(name, data=values, dimension_names=(name,))
            copy.attrs.update(attributes)
    located = {"coordinates": " ".join(description.coordinates)} if description.coordinates else {}
    arrays = {
        name: group.create_array(
            name,
            shape=tuple(sizes[dim] for dim in _dims(surrogate, name)),
            chunks=(1, *(sizes[dim] for dim in _dims(surrogate, name)[1:])),
            dtype="float32",
            dimension_names=_dims(surrogate, name),
            compressors=ZstdCodec(level=1),
            fill_value=np.nan,
            attributes={"units": units, **({} if name in description.coordinates else located)},
        )
        for name, units in {**description.outputs, **description.coordinates}.items()
    }
    return arrays | {
        variable.name: group.create_array(
            variable.name,
            shape=(sizes["sample"], *(sizes[dim] for dim in variable.dims)),
            chunks=(_TOGETHER, *(sizes[dim] for dim in variable.dims)),
            dtype=variable.dtype,
            dimension_names=("sample", *variable.dims),
            compressors=ZstdCodec(level=1),
            fill_value=np.nan if variable.dtype.kind == "f" else 0,
            attributes=dict(variable.attributes),
        )
        for variable in (companion.variables if companion else ())
    }


def _coordinate(group: zarr.Group, name: str) -> Coordinate | None:
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        return None
    return np.asarray(array[:]), dict(array.attrs)


def _later_times(given: Coordinate, forecast: Forecast, steps: int) -> Coordinate:
    """Return when the predicted frames are.

    Raises:
        InputError: The given ones are at other distances than the model continues them.
    """
    times, attributes = given
    intervals = np.diff(times[: forecast.history])
    if not np.allclose(intervals, forecast.interval, rtol=1e-6):
        raise InputError(
            f"the first {forecast.history} frames are at times {times[: forecast.history]}; this "
            f"model continues frames that are {forecast.interval:g} apart: give it such frames"
        )
    return times[forecast.history - 1] + forecast.interval * np.arange(1, steps + 1), attributes
