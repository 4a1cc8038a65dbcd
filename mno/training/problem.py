"""What a training is given: its splits, checked, encoded, and digested with all else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from mno.data.reading import Split
from mno.errors import InputError
from mno.surrogate import Description, Surrogate
from mno.training.config import TrainConfig


def check_split(split: Split) -> None:
    """Refuse a split that has no samples, inputs or outputs over time, or values not finite.

    Raises:
        InputError: It has none, or has one of these.
    """
    for field in split.schema.fields:
        if "time" in field.dims and field.role != "state":
            raise InputError(
                f"field {field.name} is an {field.role} over time; training takes frames of states "
                "only: let the scenario declare it as a state"
            )
    if not len(next(iter(split.fields.values()))):
        raise InputError(
            f"the {split.name} split holds no sample; training needs at least one: make more "
            "samples, or give this split a larger share of them"
        )
    for name, field in split.fields.items():
        if not np.isfinite(field).all():
            bad = int((~np.isfinite(field)).flatten().nonzero()[0][0]) // field[0].size
            raise InputError(
                f"field {name} of the {split.name} split has a value that is not finite (first in "
                f"its sample {bad}); expected finite numbers only: correct or remove that sample"
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
