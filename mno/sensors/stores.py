"""The measured run as a sample of a Zarr store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis
from mno.core.files import file_sha256
from mno.data.reading import Schema, read_schema
from mno.data.store import shard_file
from mno.evaluation.evaluator import frames_to_predict
from mno.sensors.given import Given, Origin, axes_of_points
from mno.surrogate.description import Description
from mno.surrogate.predictions import open_inputs, read_inputs
from mno.surrogate.surrogate import Surrogate


def from_store(surrogate: Surrogate, store: Path, sample: int | None) -> Given:
    """Read what a model is given of one sample of a Zarr store.

    Args:
        surrogate: The model.
        store: A released dataset, or any group that `mno predict` takes.
        sample: Number of the sample; may be left out where there is but one.

    Raises:
        InputError: The store does not fit the model, or has no such sample.
        MnoError: A file of the sample is missing or altered.
    """
    description = surrogate.description
    group, schema = _open(store)
    steps = None
    if schema and set(description.states) <= {field.name for field in schema.fields}:
        steps = frames_to_predict(description, schema)
    arrays = open_inputs(surrogate, store, steps)
    number = _chosen(sample, next(iter(arrays.values())).shape[0], store)
    if schema:
        _verify(store, schema, group, number)
    inputs = read_inputs(surrogate, arrays, slice(number, number + 1), steps)
    points = None
    if description.coordinates:
        columns = [inputs[name][0] for name in description.coordinates]
        points = np.stack(columns, axis=-1).astype(np.float64)
    start, time = group.get("start"), group.get("time")
    times = _times(description, time)
    return Given(
        inputs=inputs,
        axes=_axes(description, schema, group, inputs),
        points=points,
        times=times,
        known_until=_known_until(description, schema, times),
        time_units=str(time.attrs.get("units", "s")) if isinstance(time, zarr.Array) else "s",
        steps=steps,
        source=f"{store}, sample {number}",
        start=float(np.asarray(start[number])) if isinstance(start, zarr.Array) else None,
        origin=Origin(store, schema, number) if schema else None,
    )


def read_whole(origin: Origin) -> dict[str, np.ndarray]:
    """Read what a solver is given: inputs, coordinates, and states at the first frame."""
    group: Any = zarr.open_group(origin.store, mode="r")
    whole = {}
    for field in origin.schema.fields:
        if field.role in ("input", "coordinate"):
            whole[field.name] = np.asarray(group[field.name][origin.sample])
        elif field.role == "state":
            whole[field.name] = np.asarray(group[field.name][origin.sample, 0])
    return whole


def _open(store: Path) -> tuple[zarr.Group, Schema | None]:
    """Open a store; its schema is known where it was released as a dataset."""
    try:
        group = zarr.open_group(store, mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{store} is not a Zarr group that can be read ({type(error).__name__}); expected one "
            "with the inputs of the measured run: name it with --inputs"
        ) from None
    released = "shards" in group.attrs and "fields" in group.attrs
    return group, read_schema(store) if released else None


def _chosen(sample: int | None, samples: int, store: Path) -> int:
    if sample is None and samples == 1:
        return 0
    if sample is None:
        raise InputError(
            f"{store} holds {samples} samples; say which is the measured run with --sample NUMBER, "
            f"from 0 to {samples - 1}"
        )
    if not 0 <= sample < samples:
        raise InputError(f"--sample {sample}: {store} has samples 0 to {samples - 1}")
    return sample


def _verify(store: Path, schema: Schema, group: Any, sample: int) -> None:
    """Compare the files that hold a sample with the checksums recorded at the release."""
    recorded: Mapping[str, str] = group.attrs["shards"]
    for field in schema.fields:
        array = group[field.name]
        shard = sample // (array.shards or array.chunks)[0]
        name = shard_file(field, shard)
        path = store / name
        if not path.is_file() or file_sha256(path) != recorded.get(name):
            raise MnoError(
                f'{path} is missing or altered; make the dataset again with "mno generate --repair"'
            )


def _axes(
    description: Description, schema: Schema | None, group: Any, inputs: Mapping[str, np.ndarray]
) -> tuple[Axis, ...]:
    if description.coordinates:
        return axes_of_points(description.coordinates)
    if schema:
        return schema.space
    shape = inputs[description.fields[0]].shape[-len(description.extent) :]
    return tuple(
        _axis(description, place, group.get(name), length)
        for place, (name, length) in enumerate(zip(description.space, shape, strict=True))
    )


def _axis(description: Description, place: int, array: Any, num_points: int) -> Axis:
    """Return the axis of a store that is no dataset: the model's domain, at its coordinates."""
    name, length = description.space[place], description.extent[place]
    share = description.offset[place] if description.offset else 0.5
    points, units = (np.arange(num_points) + share) * length / num_points, "1"
    if isinstance(array, zarr.Array) and array.shape == (num_points,):
        points = np.asarray(array[:], dtype=np.float64)
        units = str(array.attrs.get("units", "1"))
    low = float(points[0]) - share * length / num_points
    return Axis(name, units, name, points, (low, low + length))


def _known_until(description: Description, schema: Schema | None, times: np.ndarray) -> float:
    """Return up to when readings may be among what is given.

    Frames with gaps are means of readings around their times, half an interval before and after.
    """
    forecast = description.forecast
    if forecast is None:
        return -np.inf
    gaps = schema is not None and any(f.gaps for f in schema.fields if f.role == "state")
    return float(times[-1]) + (forecast.interval / 2 if gaps else 0.0)


def _times(description: Description, array: Any) -> np.ndarray:
    """Return when the given frames are.

    Raises:
        InputError: They are at other distances than the model continues them.
    """
    forecast = description.forecast
    if forecast is None:
        return np.empty(0)
    if not isinstance(array, zarr.Array) or array.shape[0] < forecast.history:
        return forecast.interval * np.arange(forecast.history)
    times = np.asarray(array[: forecast.history], dtype=np.float64)
    if not np.allclose(np.diff(times), forecast.interval, rtol=1e-6):
        raise InputError(
            f"the first {forecast.history} frames are at times {times}; this model continues "
            f"frames that are {forecast.interval:g} apart: give it such frames"
        )
    return times
