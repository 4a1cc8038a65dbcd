"""Fields in the form that the page draws: coarse enough for a screen, as float32 in base64."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.surrogate.description import Description

_MOST_POINTS = 128  # along an axis of space; more are not seen
_MOST_VALUES = 2**21  # of a field, 8 MiB; beyond, frames are left out
_MOST_SCATTERED = 20_000


def shown(
    description: Description, fields: Mapping[str, np.ndarray], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return fields of one sample as the page takes them.

    Args:
        description: Of the model.
        fields: Shape `(1, *dims)` by name.
        labels: What fields are called; their names where nothing is said.

    Returns:
        For each its `name`, `label`, `units`, `space` (names of the axes of space; `point` for
        unordered points, none for a number), `shape` (frames first where there are such),
        `every` (frames from one shown to the next), `lowest`, `highest` and `data`.
    """
    known = {**description.inputs, **description.outputs, **description.coordinates}
    return [
        _shown(description, name, fields[name][0], labels.get(name, name), known[name])
        for name in known
        if name in fields
    ]


def _shown(
    description: Description, name: str, values: np.ndarray, label: str, units: str
) -> dict[str, Any]:
    space = () if name in description.scalars else description.space
    dims = len(space)
    values = np.asarray(values, dtype="<f4")
    finite = values[np.isfinite(values)]
    frames, every = values.shape[: values.ndim - dims], 1
    most = _MOST_SCATTERED if description.coordinates else _MOST_POINTS
    places = tuple(
        slice(None, None, -(-length // most)) for length in values.shape[values.ndim - dims :]
    )
    values = values[(..., *places)]
    if frames:
        each = math.prod(values.shape[1:])
        every = max(1, -(-frames[0] * each // _MOST_VALUES))
        values = values[::every]
    return {
        "name": name,
        "label": label,
        "units": units,
        "space": list(space),
        "shape": list(values.shape),
        "every": every,
        "lowest": float(finite.min()) if len(finite) else None,
        "highest": float(finite.max()) if len(finite) else None,
        "data": b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii"),
    }
