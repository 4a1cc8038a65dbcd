"""What a training is given: its splits, checked, encoded, and digested with all else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from mno.data.reading import Schema, Split
from mno.description import Description
from mno.errors import InputError
from mno.surrogate import Surrogate
from mno.training.config import TrainConfig


def check_split(split: Split) -> None:
    """Refuse a split of no samples, of values not finite, or of fields that no operator takes.

    Values of a field that may have gaps may be missing, which is NaN, but not all of them; those of
    coordinates and of numbers per sample may not.

    Raises:
        InputError: It has none, or has one of these.
    """
    _check_axes(split.schema)
    if not len(next(iter(split.fields.values()))):
        raise InputError(
            f"the {split.name} split holds no sample; training needs at least one: make more "
            "samples, or give this split a larger share of them"
        )
    with_gaps = fields_with_gaps(split.schema)
    for name, field in split.fields.items():
        bad = ~np.isfinite(field)
        if name in with_gaps and bad.any():
            if bad.all():
                raise InputError(
                    f"field {name} of the {split.name} split has no value at all; expected some: "
                    "leave the field out, or give this split samples that have it"
                )
            bad = np.isinf(field)
        if bad.any():
            sample = int(bad.flatten().nonzero()[0][0]) // field[0].size
            raise InputError(
                f"field {name} of the {split.name} split has a value that is not finite (first in "
                f"its sample {sample}); expected finite numbers only: correct or remove that sample"
            )


def _check_axes(schema: Schema) -> None:
    space = tuple(axis.name for axis in schema.space)
    if ("point" in space) != bool(schema.coordinates) or ("point" in space and len(space) > 1):
        raise InputError(
            f"the dataset has axes ({', '.join(space)}) and coordinates of points "
            f"({', '.join(f.name for f in schema.coordinates)}); expected coordinates with the one "
            "axis point, and none with others: correct the scenario"
        )
    has_states = any(field.role == "state" for field in schema.fields)
    for field in schema.fields:
        over_time = field.dims == ("time", *space)
        if over_time and field.role == "output":
            raise InputError(
                f"field {field.name} is an output over time, of which no frame is given; training "
                "continues states only: let the scenario declare it as a state"
            )
        if over_time and not has_states:
            raise InputError(
                f"field {field.name} is an input over time, but no field is a state that it could "
                "drive: let the scenario declare what it drives as a state"
            )
        per_sample = field.is_scalar and field.role == "input"
        over_time = over_time and field.role != "coordinate"
        if not (field.dims == space or over_time or per_sample):
            raise InputError(
                f"field {field.name} is an {field.role} with axes ({', '.join(field.dims)}); "
                f"training takes inputs and outputs on ({', '.join(space)}), inputs and states on "
                f"({', '.join(('time', *space))}), and inputs that are one number per sample"
            )
    if all(field.is_scalar for field in schema.inputs):
        raise InputError(
            f"all inputs of {schema.scenario} are one number per sample; training needs one on "
            f"({', '.join(space)}) at least: let the scenario give one of them at every point"
        )


def fields_with_gaps(schema: Schema) -> tuple[str, ...]:
    """Return the names of the fields whose values may be missing in training.

    Where a point is, and what holds for a whole sample, must be known, whatever the schema says.
    """
    return tuple(f.name for f in schema.fields if f.gaps and f.dims and f.role != "coordinate")


def check_truth(description: Description, split: Split) -> None:
    """Refuse a split without a single value to compare predictions with.

    Raises:
        InputError: All are missing.
    """
    truth = description.truth(split.fields)
    if all(np.isnan(field).all() for field in truth.values()):
        raise InputError(
            f"the {split.name} split has no value of {', '.join(truth)} to compare predictions "
            "with; give it samples that have some, or split the data in another way"
        )


def encode(description: Description, split: Split) -> dict[str, Tensor]:
    """Return the normalised fields of a split, float32, by name."""
    normaliser = description.normaliser
    return {
        name: torch.from_numpy(normaliser.encode(name, field).astype(np.float32, copy=False))
        for name, field in split.fields.items()
    }


def fingerprint(
    description: Description,
    splits: Sequence[Split],
    config: TrainConfig,
    seed: int,
    initial: Surrogate | None,
) -> str:
    """Return the digest of all that the result depends on, but code and kind of device."""
    content = {
        "description": {**asdict(description), "model": description.model.model_dump(mode="json")},
        "train": config.model_dump(mode="json"),
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    arrays = {f"{s.name} {name}": s.fields[name] for s in splits for name in sorted(s.fields)}
    if initial is not None:
        weights = sorted(initial.operator.state_dict().items())
        arrays |= {f"initial {name}": weight.cpu().numpy() for name, weight in weights}
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    if config.residual_weight:
        digest.update(json.dumps(dict(splits[0].schema.parameters), sort_keys=True).encode())
    if config.augment:
        digest.update(json.dumps(splits[0].schema.symmetries).encode())
    return digest.hexdigest()
