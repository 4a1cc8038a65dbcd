"""What a model is given of the measured run, and where and when its points and frames are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from mno.core.errors import InputError, MnoError, reading
from mno.core.fields import Axis
from mno.core.files import file_sha256
from mno.core.forecast import Forecast
from mno.data.reading import Schema, read_schema
from mno.data.store import shard_file
from mno.evaluation.evaluator import frames_to_predict
from mno.imports.cage import call_for_arrays
from mno.imports.importer import importer_class
from mno.imports.mapping import FieldRule, MappedFile, conversion
from mno.imports.mapping import Mapping as FieldMapping
from mno.surrogate.description import Description
from mno.surrogate.predictions import open_inputs, read_inputs
from mno.surrogate.surrogate import Surrogate


class Origin(NamedTuple):
    """The sample of a dataset."""

    store: Path
    schema: Schema
    sample: int


@dataclass(frozen=True, eq=False)
class RunInputs:
    """One sample as a model takes it, and where and when its points and frames are."""

    inputs: Mapping[str, np.ndarray]  # as `Surrogate.predict` takes them, with one sample
    axes: tuple[Axis, ...]  # of space; of unordered points only names and units are of use
    points: np.ndarray | None  # where unordered points are, shape (points, axes)
    times: np.ndarray  # of the given frames, shape (history,); empty for a model without states
    known_until: float  # up to when readings may be among what is given
    time_units: str
    steps: int | None  # frames to predict; those of the model's training if none
    source: str  # what the sample is, for people
    start: float | None = None  # of time 0: seconds since 1970, or on the readings' clock; if known
    origin: Origin | None = None  # in a released dataset, if it is in one


def from_store(surrogate: Surrogate, store: Path, sample: int | None) -> RunInputs:
    """Read what a model is given of one sample of a Zarr store.

    That is a released dataset, or any group that `mno predict` takes. The number of the sample may
    be left out where there is but one. A store that does not fit is refused; a file of the sample
    that is missing or altered is an MnoError.
    """
    description = surrogate.description
    with reading(store, expected="a Zarr group with the inputs of the run, named by --inputs"):
        group: Any = zarr.open_group(store, mode="r")
    released = "shards" in group.attrs and "fields" in group.attrs
    schema = read_schema(store) if released else None
    steps = None
    if schema and set(description.states) <= {field.name for field in schema.fields}:
        steps = frames_to_predict(description, schema)
    arrays = open_inputs(surrogate, store, steps)
    count = next(iter(arrays.values())).shape[0]
    number = _chosen(sample, count, f"{store} holds {count} samples")
    if schema:
        _verify(store, schema, group, number)
    inputs = read_inputs(surrogate, store, arrays, slice(number, number + 1), steps)
    start, time = group.get("start"), group.get("time")
    times = _times(description, time)
    known_until, forecast = -np.inf, description.forecast
    if forecast:
        # Frames with gaps are means of readings half an interval before and after their times.
        gaps = schema is not None and any(f.gaps for f in schema.fields if f.role == "state")
        known_until = float(times[-1]) + (forecast.interval / 2 if gaps else 0.0)
    return RunInputs(
        inputs=inputs, axes=_axes(description, schema, group, inputs),
        points=_points(description, inputs), times=times, known_until=known_until,
        time_units=str(time.attrs.get("units", "s")) if isinstance(time, zarr.Array) else "s",
        steps=steps, source=f"{store}, sample {number}",
        start=float(np.asarray(start[number])) if isinstance(start, zarr.Array) else None,
        origin=Origin(store, schema, number) if schema else None,
    )  # fmt: skip


def read_whole(origin: Origin) -> dict[str, np.ndarray]:
    """Read what a solver is given: inputs, coordinates, and states at the first frame."""
    group: Any = zarr.open_group(origin.store, mode="r")
    return {
        field.name: np.asarray(
            group[field.name][(origin.sample, 0) if field.role == "state" else origin.sample]
        )
        for field in origin.schema.fields
        if field.role != "output"
    }


def _chosen(sample: int | None, count: int, source: str) -> int:
    if sample is None and count == 1:
        return 0
    if sample is None or not 0 <= sample < count:
        given = "" if sample is None else f"--sample {sample}: "
        raise InputError(
            f"{given}{source}; say which is the measured run with --sample NUMBER, from 0 to "
            f"{count - 1}"
        )
    return sample


def _verify(store: Path, schema: Schema, group: Any, sample: int) -> None:
    """Compare the files that hold a sample with the checksums recorded at the release."""
    recorded: Mapping[str, str] = group.attrs["shards"]
    for field in schema.fields:
        array = group[field.name]
        name = shard_file(field, sample // (array.shards or array.chunks)[0])
        path = store / name
        if not path.is_file() or file_sha256(path) != recorded.get(name):
            raise MnoError(
                f'{path} is missing or altered; make the dataset again with "mno generate --repair"'
            )


def axes_of_points(coordinates: Mapping[str, str]) -> tuple[Axis, ...]:
    """Return the axes in which unordered points lie, whose units are given by name."""
    return tuple(Axis(n, units, n, np.empty(0), (0.0, 0.0)) for n, units in coordinates.items())


def _points(description: Description, inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    columns = [inputs[name][0] for name in description.coordinates]
    return np.stack(columns, axis=-1).astype(np.float64) if columns else None


def _axes(
    description: Description, schema: Schema | None, group: Any, inputs: Mapping[str, np.ndarray]
) -> tuple[Axis, ...]:
    """Return the axes of space; of a store that is no dataset those of the model's domain."""
    if description.coordinates:
        return axes_of_points(description.coordinates)
    if schema:
        return schema.space
    shape = inputs[description.fields[0]].shape[-len(description.extent) :]
    offsets = description.offset or (0.5,) * len(shape)
    axes = []
    for name, n, length, share in zip(
        description.space, shape, description.extent, offsets, strict=True
    ):
        points, units, array = (np.arange(n) + share) * length / n, "1", group.get(name)
        if isinstance(array, zarr.Array) and array.shape == (n,):
            points = np.asarray(array[:], dtype=np.float64)
            units = str(array.attrs.get("units", "1"))
        low = float(points[0]) - share * length / n
        axes.append(Axis(name, units, name, points, (low, low + length)))
    return tuple(axes)


def _times(description: Description, array: Any) -> np.ndarray:
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


def can_begin_with(description: Description, quantities: set[str]) -> bool:
    """Return whether a model of sensors' points is given nothing but readings of quantities."""
    return bool(
        description.coordinates and description.states and set(description.inputs) <= quantities
    )


def from_readings(
    surrogate: Surrogate, path: Path, mapping: FieldMapping, sample: int | None
) -> RunInputs:
    """Make what a model is given of a file of readings, as an import would, missing ones NaN.

    The model is of the sensors' quantities on unordered points. The number of the sample, a window
    of frames, may be left out where there is but one. A file without it is an InputError.
    """
    description = surrogate.description
    forecast = description.forecast
    if forecast is None:
        raise InputError(f"{path} cannot be the inputs of a model without states: give --inputs")
    rule = mapping.axes.get("time")
    units = rule and rule.units or "s"
    rules, names = _rules(description, forecast, mapping, units), list(description.given_names)
    asked = {"log": path, "rules": rules, "sample": sample, "names": names}
    (number, start), whole = call_for_arrays(_save_window, asked, [path])
    times = whole.pop("times")
    inputs = description.given(whole)
    return RunInputs(
        inputs=inputs, axes=axes_of_points(description.coordinates),
        points=_points(description, inputs), times=times[: forecast.history],
        known_until=float(times[forecast.history - 1]) + forecast.interval / 2,
        time_units=units, steps=None, start=start,
        source=f"first {forecast.history} frames of window {number} of {path}",
    )  # fmt: skip


def _save_window(
    log: Path, rules: FieldMapping, sample: int | None, names: list[str], target: str, progress: Any
) -> tuple[int, float | None]:
    """Save the fields of one window of a log, and the times of frames; return which, and when."""
    with importer_class("csv")(log, rules) as importer:
        file = MappedFile(importer, rules)
        contents = file.contents
        times = next(axis.points for axis in contents.axes if axis.name == "time")
        made = f"{log} makes {contents.samples} windows of {len(times)} frames"
        sample = _chosen(sample, contents.samples, made)
        whole = {name: np.array(file.read(name, sample, sample + 1)) for name in names}
    np.savez(target, times=times, **whole)  # type: ignore[arg-type]
    return sample, float(contents.starts[sample]) if contents.starts is not None else None


def _rules(
    description: Description, forecast: Forecast, mapping: FieldMapping, time_units: str
) -> FieldMapping:
    """Return a mapping that makes windows of the model's frames, in the model's units."""
    seconds = forecast.interval * conversion(time_units, "s", "time")[0]
    rate = {"interval": seconds, "frames": forecast.history + forecast.steps}
    fields = dict(mapping.fields)
    renamed = {rule.name: key for key, rule in fields.items() if rule.name}
    for name, units in description.inputs.items():
        key = renamed.get(name, name)
        role = "state" if name in description.states else "input"
        rule = fields.get(key, FieldRule())
        fields[key] = rule.model_copy(update={"role": role, "units": units})
    for name, units in description.coordinates.items():
        given_in = mapping.sensors.position_units
        if given_in != units:
            fields[name] = FieldRule(role="coordinate", units=units, given_in=given_in)
    sensors = mapping.sensors.model_copy(update=rate)
    return mapping.model_copy(update={"fields": fields, "sensors": sensors})
