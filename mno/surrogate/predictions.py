"""Predictions of a surrogate on a Zarr store of inputs, written as a Zarr store of outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from mno.core.errors import InputError, reading
from mno.core.files import replacing_folder
from mno.core.observing import READ
from mno.core.readings import from_points, is_made, to_points
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from mno.surrogate.trust.answers import Answers

_TOGETHER = 1024  # samples in a chunk of an array that has a few numbers for each
_SMALL = 2**20  # bytes of a batch that becomes one chunk


def predict_store(
    surrogate: Surrogate,
    source: Path,
    destination: Path,
    batch_size: int,
    progress: Callable[[int, int], None],
    steps: int | None = None,
    answers: Answers | None = None,
    *,
    readings_alone: bool = False,
) -> int:
    """Predict every sample of a store, batch by batch; memory does not grow with the store.

    The source is a Zarr group with an array of shape `(sample, *grid)` for each input field
    (`(sample, point)` for those of a model of unordered points, and for its coordinates),
    `(sample, time, *grid)` for a state or a forcing, of which the first frames are given, and
    `(sample,)` for a number per sample. An observer takes a field for what was read of it, if there
    is nothing else, and tells all frames. Along time, frames are where the source's `time` says,
    and behind its last as far apart as in training; of samples with times of their own, where
    their field says. The destination appears only when it is
    complete. Progress is told how many samples of how many are done. `answers` judges predictions,
    and its arrays are written beside them. `readings_alone` leaves out the fields of a model of
    both.
    Returns the number of samples.

    Raises:
        InputError: The source lacks a field or its fields do not fit, the destination exists, or
            the model cannot predict that number of frames.
    """
    inputs = open_inputs(surrogate, source, steps)
    if destination.exists():
        raise InputError(f"{destination} exists already; choose another name or remove it")
    samples = next(iter(inputs.values())).shape[0]
    description, outputs = surrogate.description, dict[str, zarr.Array]()
    with replacing_folder(destination) as partial:
        group = zarr.open_group(str(partial), mode="w", attributes={"Conventions": "CF-1.11"})
        times = _copy_axes(description, source, group, steps)
        for start in range(0, max(samples, 1), batch_size):
            stop = min(start + batch_size, samples)
            batch = read_inputs(surrogate, source, inputs, slice(start, stop), steps)
            try:
                predicted: Mapping[str, np.ndarray] = surrogate.predict(
                    batch, batch_size, steps, readings_alone=readings_alone, times=times
                )
            except InputError as error:
                raise InputError(f"{source}, from {start} on: {error}") from None
            beside: Mapping[str, np.ndarray] = {}
            if answers:
                predicted, beside = answers.complete(batch, predicted)
            places = {name: batch[name] for name in description.coordinates if not is_made(name)}
            frames = next(iter(predicted.values())).shape[1] if description.times else 0
            places |= {name: batch[name][:, -frames:] for name in description.times}
            predicted = from_points(description.readings, predicted, description.cells)
            for name, array in {**predicted, **places, **beside}.items():
                if name not in outputs:
                    told = answers.attributes[name] if answers and name in beside else None
                    outputs[name] = _create(description, group, name, array, samples, told)
                outputs[name][start:stop] = array
            progress(stop, samples)
        with warnings.catch_warnings():
            # Consolidated metadata is an agreed extension of Zarr v3; without it xarray warns.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(str(partial))
    return samples


def open_inputs(surrogate: Surrogate, source: Path, steps: int | None) -> dict[str, zarr.Array]:
    """Open the arrays that a model is given, by name, of a Zarr group as `predict_store` takes it.

    An `InputError` says that one is missing, or they do not fit the model or each other.
    """
    description = surrogate.description
    taken = ", ".join(description.given_names)
    with reading(source, expected=f"a Zarr group with the arrays {taken}"):
        group = zarr.open_group(str(source), mode="r")
    arrays: dict[str, zarr.Array] = {}
    for name in (name for name in description.given_names if not is_made(name)):
        with reading(source, name):
            # A store of what was read calls it by the field's own name.
            array = group.get(name, group.get(name.removesuffix(READ)))
            if not isinstance(array, zarr.Array):
                there = ", ".join(sorted(group)) or "nothing"
                raise InputError(
                    f"{source} has no array {name!r}, only: {there}; this model takes {taken}"
                )
        arrays[name] = array
    try:
        if not description.readings:  # which are checked when they are points
            description.check_shapes(arrays, steps, surplus=True)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return arrays


def read_inputs(
    surrogate: Surrogate,
    source: Path,
    inputs: Mapping[str, zarr.Array],
    samples: slice,
    steps: int | None,
) -> dict[str, np.ndarray]:
    """Read what the model is given of some samples, from arrays of a source."""
    read = {}
    for name, array in inputs.items():
        frames = surrogate.description.frames_given(name, steps)
        with reading(source, name):
            read[name] = np.asarray(array[samples] if frames is None else array[samples, :frames])
    readings, cells = surrogate.description.readings, surrogate.description.cells
    return to_points(readings, read, cells) if readings else read


def _copy_axes(
    description: Description, source: Path, group: zarr.Group, steps: int | None
) -> np.ndarray | None:
    """Copy what the source says of places, and go on with its times.

    Where time is an axis, return those of all frames given and predicted, if it says any.
    """
    of_all = None
    given, forecast = zarr.open_group(str(source), mode="r"), description.forecast
    axes = (axis for names, _, _ in description.readings.values() for axis in names.split())
    numbered = dict.fromkeys(axes)
    for name in ("sample", *description.space, *numbered, *(["time"] if forecast else [])):
        with reading(source, name):
            points = given.get(name)
            if not isinstance(points, zarr.Array):
                continue
            values = np.asarray(points[:])
        if description.observes and name == "time":
            of_all = values
        elif forecast and name == "time":
            first = values[: forecast.history]
            frames = np.arange(1, (steps or forecast.steps) + 1)
            if description.along_time:
                last = forecast.history + len(frames)
                more = values[-1] + forecast.interval * np.arange(1, last - len(values) + 1)
                of_all = np.concatenate([values, more])[:last]
            elif not np.allclose(np.diff(first), forecast.interval, rtol=1e-6):
                raise InputError(
                    f"the first {forecast.history} frames are at times {first}; this model "
                    f"continues frames that are {forecast.interval:g} apart: give it such frames"
                )
            values = (
                first[-1] + forecast.interval * frames if of_all is None else of_all[len(first) :]
            )
        attributes = dict(points.attrs)
        group.create_array(name, data=values, dimension_names=(name,), attributes=attributes)
    return None if description.times else of_all


def _create(
    description: Description,
    group: zarr.Group,
    name: str,
    array: np.ndarray,
    samples: int,
    attributes: dict[str, Any] | None,
) -> zarr.Array:
    """Create an array like that of a batch; one with attributes has a few numbers per sample."""
    dims, together = ("time",) * (array.ndim - 1), _TOGETHER
    if attributes is None:
        dims, attributes = description.dims(name), {}
        together = len(array) if array.nbytes <= _SMALL else 1
        if name in description.readings:
            axis, _, _ = description.readings[name]
            dims = (*(dim for dim in dims if dim == "time"), *axis.split())
        units = {**description.outputs, **description.coordinates, **description.times}
        attributes["units"] = units[name]
        if description.coordinates and not description.readings and name in description.outputs:
            attributes["coordinates"] = " ".join(description.coordinates)
    is_real = array.dtype.kind == "f"
    return group.create_array(
        name,
        shape=(samples, *array.shape[1:]),
        chunks=(together, *array.shape[1:]),
        dtype="float32" if is_real else array.dtype,
        dimension_names=("sample", *dims),
        compressors=ZstdCodec(level=1),
        fill_value=np.nan if is_real else 0,
        attributes=attributes,
    )
