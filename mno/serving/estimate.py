"""How far an answer may be trusted: bounds on its error, and whether the input is out of range.

The arrays are those that `mno predict` writes beside predictions, by the same names:
`FIELD_relative_l2_bound`, `FIELD_rmse_bound` and `FIELD_max_error_bound` (which holds at every
point), `unlike_training`, `training_distance`, `most_unusual` and, where there is one,
`equation_residual`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.core.errors import first_line
from mno.serving.follower import Served
from mno.surrogate.trust.answers import Answers
from mno.surrogate.trust.trust import Trust

Arrays = Mapping[str, np.ndarray]

FLAG = "unlike_training"
_RELATIVE = "_relative_l2_bound"


def estimate(
    served: Served, inputs: Arrays, predictions: Arrays, steps: int | None
) -> dict[str, np.ndarray] | str:
    """Return what is known of predictions, arrays by name; or, in one line, why nothing is.

    Args:
        served: The model that made them.
        inputs: What it was given; it has taken them.
        predictions: What it predicted.
        steps: Frames it was asked for; those of its training if none.
    """
    trust, description = served.trust, served.surrogate.description
    if isinstance(trust, str):
        return trust
    given = {name: np.asarray(array, dtype=np.float32) for name, array in inputs.items()}
    for name in description.forcings:  # more frames may be given than are looked at
        given[name] = given[name][:, : description.frames_given(name, steps)]
    try:
        _, beside = Answers(trust, description).complete(given, predictions)
    except Exception as error:  # an answer is not withheld because its estimate cannot be had
        return f"no error estimate: {first_line(error)}"
    return beside


def relative_bound(estimate: Arrays) -> np.ndarray:
    """Return the bound on the relative L2 error, the largest of all fields; `(samples,)`."""
    bounds = [array for name, array in estimate.items() if name.endswith(_RELATIVE)]
    return np.max(bounds, axis=0)


def as_json(served: Served, found: Arrays | str, full: bool) -> dict[str, Any]:
    """Return the keys that a JSON answer has besides its predictions.

    Args:
        served: The model that answered.
        found: What `estimate` returned.
        full: Whether the bounds of each field, and of each frame, are asked for.

    Returns:
        `model`, and `trust` with `level`, `relative_l2_bound`, `unlike_training`,
        `training_distance` and `most_unusual`, one for each sample; `bounds` if they are asked
        for. Without an estimate `trust` is none, and `no_trust` says why.
    """
    about: dict[str, Any] = {"model": served.name, "trust": None}
    trust = served.trust
    if isinstance(found, str) or isinstance(trust, str):
        return about | {"no_trust": found if isinstance(found, str) else trust}
    names = trust.likeness.names
    shown = {
        "level": trust.level,
        "calibrated_on": list(trust.shape),
        "relative_l2_bound": relative_bound(found),
        FLAG: found[FLAG].astype(bool),
        "training_distance": found["training_distance"],
        "most_unusual": [names[k] for k in found["most_unusual"]],
    }
    if full:
        shown["bounds"] = _bounds(trust, found)
    return about | {"trust": shown}


def _bounds(trust: Trust, found: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Return the bounds by field and measure."""
    return {
        field: {kind: np.ascontiguousarray(found[f"{field}_{kind}_bound"]) for kind in measures}
        for field, measures in trust.bounds.items()
    }
