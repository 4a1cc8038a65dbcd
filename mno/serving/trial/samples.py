"""Stored samples of the workspace's dataset, for a model that they fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.errors import MnoError
from mno.data.reading import StoredSplit, open_split
from mno.serving.trial.problem import DATA
from mno.surrogate.description import Description

SPLIT = "test"


def stored_samples(root: Path, description: Description) -> StoredSplit | str:
    """Return the test split of the workspace's dataset; or, in one line, why it cannot be used.

    Args:
        root: The workspace.
        description: Of the model, whose fields the samples must have.
    """
    try:
        split = open_split(root / DATA, SPLIT, checked=False)
    except MnoError as error:
        return str(error)
    needed = {*description.given_names, *description.outputs}
    missing = sorted(needed - set(split.fields))
    if missing or len(split.schema.space) != len(description.space):
        return f"{DATA}/ is of {split.schema.scenario}, not of this model"
    return split


def stored_sample(split: StoredSplit, number: int) -> dict[str, np.ndarray]:
    """Return one sample's fields, shape `(1, *dims)` by name.

    Raises:
        MnoError: A file is missing or damaged.
    """
    return {name: array[number : number + 1] for name, array in split.fields.items()}
