"""The measured run as the readings themselves: the first frames are given, the later compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.forecast import Forecast
from mno.imports import importer_class
from mno.imports.base import Contents
from mno.imports.mapped import MappedFile
from mno.imports.mapping import FieldRule, Mapping
from mno.sensors.given import Given, axes_of_points
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate


def can_begin_with(description: Description, quantities: set[str]) -> bool:
    """Return whether readings of some quantities are all that a model is given.

    So it is of models of unordered points that were trained on imported sensors' data.
    """
    return bool(
        description.coordinates and description.states and set(description.inputs) <= quantities
    )


def from_readings(surrogate: Surrogate, path: Path, mapping: Mapping, sample: int | None) -> Given:
    """Make what a model is given of the readings, as an import would, missing ones NaN.

    Args:
        surrogate: A model of the sensors' quantities on unordered points.
        path: The file of readings.
        mapping: What is known of it.
        sample: Number of the window of frames; may be left out where there is but one.

    Raises:
        InputError: The file cannot be imported, or has no such window.
    """
    description = surrogate.description
    forecast = description.forecast
    if forecast is None:
        raise InputError(f"{path} cannot be the inputs of a model without states: give --inputs")
    rules = _rules(description, forecast, mapping)
    importer = importer_class("csv")(path, rules)
    with importer:
        file = MappedFile(importer, path, rules)
        contents = file.contents
        number = _chosen(sample, contents, path)
        names = description.given_names
        whole = {n: np.array(file.read(n, number, number + 1)) for n in names}
    inputs = description.given(whole)
    times = next(axis.points for axis in contents.axes if axis.name == "time")
    columns = [inputs[name][0] for name in description.coordinates]
    return Given(
        inputs=inputs,
        axes=axes_of_points(description.coordinates),
        points=np.stack(columns, axis=-1).astype(np.float64),
        times=times[: forecast.history],
        known_until=float(times[forecast.history - 1]) + forecast.interval / 2,
        time_units="s",
        steps=None,
        source=f"first {forecast.history} frames of window {number} of {path}",
        start=float(contents.starts[number]) if contents.starts is not None else None,
    )


def _rules(description: Description, forecast: Forecast, mapping: Mapping) -> Mapping:
    """Return a mapping that makes windows of the model's frames, in the model's units."""
    rate = {"interval": forecast.interval, "frames": forecast.history + forecast.steps}
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


def _chosen(sample: int | None, contents: Contents, path: Path) -> int:
    frames = next(len(axis.points) for axis in contents.axes if axis.name == "time")
    if sample is None and contents.samples == 1:
        return 0
    if sample is None or not 0 <= sample < contents.samples:
        raise InputError(
            f"{path} makes {contents.samples} windows of {frames} frames; say which is compared "
            f"with --sample NUMBER, from 0 to {contents.samples - 1}"
        )
    return sample
