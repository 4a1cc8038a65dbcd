"""What a training is given: splits, checked, described, encoded, and digested with all else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import LOG
from mno.core.forecast import TaskConfig, check_ascending, forecast_of
from mno.data.normalise import Normaliser, first_not_positive, no_logarithm
from mno.data.reading import SampleArray, Schema, Split, StoredSplit, blocks
from mno.nn.config import ModelConfig, for_dataset
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig, scales_of


def check_split(split: Split | StoredSplit) -> None:
    """Refuse a split of no samples, of values not finite, or of fields that no operator takes.

    Values of a field that may have gaps may be missing, which is NaN, but not all of them; those of
    coordinates and of numbers per sample may not.
    """
    _check_axes(split.schema)
    if not len(next(iter(split.fields.values()))):
        raise InputError(
            f"the {split.name} split holds no sample; training needs at least one: make more "
            "samples, or give this split a larger share of them"
        )
    with_gaps = fields_with_gaps(split.schema)
    for name, field in split.fields.items():
        _check_values(f"field {name} of the {split.name} split", field, name in with_gaps)
    for times in split.schema.times:
        check_ascending(split.fields[times.name][:], f"{times.name} of the {split.name} split")


def _check_values(what: str, field: SampleArray, may_miss: bool) -> None:
    known = False
    for rows in blocks(field):
        values = field[rows]
        bad = ~np.isfinite(values)
        known = known or not bad.all()
        if may_miss and bad.any():
            bad = np.isinf(values)
        if bad.any():
            sample = rows.start + int(bad.flatten().nonzero()[0][0]) // values[0].size
            raise InputError(
                f"{what} has a value that is not finite (first in its sample {sample}); expected "
                "finite numbers only: correct or remove that sample"
            )
    if not known:
        raise InputError(
            f"{what} has no value at all; expected some: leave the field out, or give this split "
            "samples that have it"
        )


def _check_axes(schema: Schema) -> None:
    space = tuple(axis.name for axis in schema.space)
    places = f"({', '.join(space)})"
    if ("point" in space) != bool(schema.coordinates) or ("point" in space and len(space) > 1):
        raise InputError(
            f"the dataset has axes {places} and coordinates of points "
            f"({', '.join(f.name for f in schema.coordinates)}); expected coordinates with the one "
            "axis point, and none with others: correct the scenario"
        )
    timed = ("time", *space)
    roles = {"coordinate": [space], "output": [space], "input": [space, ()], "state": [timed]}
    roles["times"] = [("time",)]
    if schema.observing:
        roles["output"] = [timed]
    if schema.observing or any(field.role == "state" for field in schema.fields):
        roles["input"].append(timed)  # drives the states, or is read
    for field in schema.fields:
        if field.dims not in roles[field.role]:
            raise InputError(
                f"field {field.name} is an {field.role} with axes ({', '.join(field.dims)}); "
                f"training takes inputs and outputs on {places}, states on ({', '.join(timed)}), "
                "inputs that drive states there, too, and inputs that are one number per sample: "
                "correct the scenario"
            )
    if all(field.is_scalar for field in schema.inputs):
        raise InputError(
            f"all inputs of {schema.scenario} are one number per sample; training needs one on "
            f"{places} at least: let the scenario give one of them at every point"
        )


def fields_with_gaps(schema: Schema) -> tuple[str, ...]:
    """Return the names of the fields whose values may be missing in training.

    Where a point is, and what holds for a whole sample, must be known, whatever the schema says.
    """
    return tuple(f.name for f in schema.fields if f.gaps and f.dims and f.role != "coordinate")


def check_logarithms(scales: Mapping[str, str], split: Split | StoredSplit) -> None:
    """Refuse a split with a value that is not positive in a field on the scale `log`."""
    for name, scale in scales.items():
        for rows in blocks(split.fields[name]) if scale == LOG else ():
            found = first_not_positive(split.fields[name][rows])
            if found:
                sample = rows.start + found[0]
                raise no_logarithm(f"field {name} of the {split.name} split", (sample, found[1]))


def describe(
    training: Split | StoredSplit,
    model: ModelConfig,
    task: TaskConfig,
    scales: Mapping[str, str] | None = None,
) -> Description:
    """Return what a training from fresh weights makes of a split.

    Fields are on the scales that the dataset says, or on those given here (`train.scales`). The
    typical distance of unordered points is that of as many on a lattice that fills the box around
    them. An `InputError` says that task, scale, field or values do not fit each other.
    """
    schema = training.schema
    model = for_dataset(model, schema, task)
    scales = scales_of(schema.fields, scales or {}, model.walls)
    check_logarithms(scales, training)
    zero = [field.name for field in schema.outputs] if model.walls == "zero" else ()
    normaliser = Normaliser.fit(training.fields, about_zero=zero, scales=scales)
    forecast = forecast_of(task, schema.fields, schema.axes)
    times = {field.name: field.units for field in schema.times if forecast}
    for name in times:
        interval = float(np.diff(training.fields[name][:], axis=1).mean(dtype=np.float64))
        mean, std = {**normaliser.mean, name: 0.0}, {**normaliser.std, name: interval}
        normaliser = replace(normaliser, mean=mean, std=std)
        forecast = forecast and replace(forecast, interval=interval)
    if forecast and task.predict == "change":
        states = [field.name for field in schema.fields if field.role == "state"]
        normaliser = normaliser.with_changes(training.fields, states, forecast)
    places = {field.name: field.units for field in schema.coordinates}
    if places:
        extent = tuple(float(np.ptp(training.fields[name][:])) for name in places)
        box = math.prod(size / normaliser.std[n] for n, size in zip(places, extent, strict=True))
        points = training.fields[next(iter(places))].shape[-1]
        spacing, offset = ((box / points) ** (1 / len(places)),), ()
    else:
        extent, spacing, offset = schema.extent, schema.spacing, schema.offset
    given = {field.name: field.units for field in schema.inputs}
    return Description(
        scenario=schema.scenario,
        inputs=given,
        outputs={field.name: field.units for field in schema.outputs},
        extent=extent,
        reference_spacing=spacing,
        normaliser=normaliser,
        model=model,
        offset=offset,
        forecast=forecast,
        scalars=tuple(field.name for field in schema.inputs if field.is_scalar),
        forcings=tuple(field.name for field in schema.inputs if field.is_forcing),
        coordinates=places,
        gaps=tuple(name for name in fields_with_gaps(schema) if name in given),
        readings=dict(schema.readings),
        cells=schema.cells,
        sensors=dict(schema.observing.sensors) if schema.observing else {},
        hidden=schema.observing.hidden if schema.observing else (),
        labels=schema.space[0].labels if schema.readings else (),
        times=times,
    )


def check_truth(description: Description, split: Split | StoredSplit) -> None:
    """Refuse a split without a single value to compare predictions with."""
    largest = max(split.fields.values(), key=lambda field: math.prod(field.shape))
    truths = (
        description.truth({name: field[rows] for name, field in split.fields.items()})
        for rows in blocks(largest)
    )
    if all(np.isnan(values).all() for truth in truths for values in truth.values()):
        raise InputError(
            f"the {split.name} split has no value of {', '.join(description.outputs)} to compare "
            "predictions with; give it samples that have some, or split the data in another way"
        )


def fingerprint(
    description: Description,
    splits: Sequence[Split | StoredSplit],
    config: TrainConfig,
    seed: int,
    initial: Surrogate | None,
) -> str:
    """Return the digest of all that the result depends on, but code and kind of device."""
    train = config.model_dump(mode="json")
    content = {"description": description.to_dict(), "train": train, "seed": seed}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for split in splits:
        for name, array in sorted(split.fields.items()):
            digest.update(f"{split.name} {name} {array.shape}".encode())
            for rows in blocks(array):
                digest.update(np.ascontiguousarray(array[rows]).data)
    weights = sorted(initial.operator.state_dict().items()) if initial is not None else ()
    for name, weight in weights:
        digest.update(f"initial {name} {tuple(weight.shape)}".encode())
        digest.update(np.ascontiguousarray(weight.cpu().numpy()).data)
    if config.residual_weight:
        digest.update(json.dumps(dict(splits[0].schema.parameters), sort_keys=True).encode())
    for name, array in sorted(splits[0].rates.items()) if config.derivatives else ():
        digest.update(f"rate {name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array[:]).data)
    if config.augment and splits[0].schema.symmetries:
        digest.update(json.dumps(splits[0].schema.symmetries).encode())
    return digest.hexdigest()


def continued(
    initial: Description, fresh: Description, scales: Mapping[str, str] | None = None
) -> Description:
    """Describe a training that begins with the weights of a trained model.

    The normaliser and the reference spacing are those of the first training, so that the weights
    mean the same; with a dataset of a higher resolution, that is fine-tuning on finer grids, and
    the result still is one operator for all of them. Dropout may differ, and for how many steps a
    rollout goes on. `scales` are those that were asked for (`train.scales`). An `InputError` says
    that the model is of another architecture, of other fields, of another domain, has them on other
    scales than were asked for, or continues states in another way.
    """
    for name, scale in (scales or {}).items():
        if initial.normaliser.scale(name) != scale:
            raise InputError(
                f"train.scales={{{name}: {scale}}}, but the model of train.warm_start was trained "
                f"with {name} {initial.normaliser.scale(name)}; leave {name} out of train.scales, "
                "or set train.warm_start=null"
            )
    if fresh.times and fresh.forecast and initial.forecast:  # a mean, of other samples
        forecast = replace(fresh.forecast, interval=initial.forecast.interval)
        fresh = replace(fresh, forecast=forecast)
    theirs, ours = _facets(initial), _facets(fresh)
    theirs["gaps"] = [name for name in initial.gaps if name in fresh.gaps]  # more does no harm
    differing = [key for key in theirs | ours if not _alike(theirs.get(key), ours.get(key))]
    if differing:
        has, wanted = (
            ", ".join(f"{key}={facets.get(key)}" for key in differing) for facets in (theirs, ours)
        )
        raise InputError(
            f"train.warm_start: that model has {has}; expected {wanted}, as the dataset and the "
            "sections model and task have it: make them alike, choose another model, or set "
            "train.warm_start=null"
        )
    return replace(initial, **{key: getattr(fresh, key) for key in _RENEWED})


_RENEWED = ("scenario", "model", "extent", "offset", "forecast", "readings", "sensors", "labels")
_FIELDS = ("inputs", "outputs", "coordinates", "times")
_CONTINUED = ("history", "scheme", "frames_at_once", "interval", "along_time")


def _facets(description: Description) -> dict[str, Any]:
    """Return all that the meaning of weights depends on, by name."""
    forecast = description.forecast
    return {
        **description.model.model_dump(mode="json", exclude={"dropout"}),
        **{kind: dict(getattr(description, kind)) for kind in _FIELDS},
        "extent": "" if description.readings else description.extent,  # numbers of their points
        "cells": description.cells,
        "gaps": list(description.gaps),
        **{key: getattr(forecast, key) for key in _CONTINUED if forecast},
        "predict": "change" if description.normaliser.changes else "state",
    }


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | float) and isinstance(other, tuple | float):
        return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-9, atol=0.0)
    return one == other
