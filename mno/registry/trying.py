"""Trying a registered version before an alias moves to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mno.config import first_line
from mno.errors import InputError, MnoError
from mno.registry import names
from mno.registry.packaging import check_predictions, load_model
from mno.registry.reading import damage
from mno.registry.recorded import recorded_predictions
from mno.registry.settings import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def try_version(workspace: Workspace, row: ModelVersion) -> str:
    """Check a version's files, load it, and predict what its evaluation predicted.

    Returns:
        What was tried, a few words.

    Raises:
        InputError: Its files are missing or altered.
        MnoError: It does not load, or does not predict what was recorded.
    """
    from mlflow.exceptions import MlflowException

    name, number = row.name, int(row.version)
    problem = damage(workspace, name, number, row.tags.get(names.PACKAGE))
    if problem:
        raise InputError(f"not promoted: {problem}; choose another: mno promote --history")
    uri = f"models:/{name}/{number}"
    model = load_model(uri)
    recorded = recorded_predictions(workspace, row)
    try:
        if recorded is None:
            return _predict_example(model, uri)
        difference = check_predictions(model, *recorded)
    except MlflowException as error:
        raise MnoError(f"not promoted: {uri} cannot predict: {first_line(error)}") from None
    if difference:
        raise MnoError(
            f"not promoted: {uri} does not predict what was recorded: {difference}; "
            f"see: mno audit {uri}"
        )
    samples = len(next(iter(recorded[1].values())))
    return f"it predicts {samples} recorded samples as they were evaluated"


def _predict_example(model: Any, uri: str) -> str:
    """Predict the example in a package, of which no output was recorded."""
    given = model.input_example
    if given is None:
        raise MnoError(f"not promoted: {uri} holds no example to try it with; register it again")
    found = model.predict(given)
    for field, values in found.items():
        if not np.all(np.isfinite(values)):
            raise MnoError(f"not promoted: {uri} predicts {field} that is not finite")
    return "it predicts its example in finite numbers (its outputs were not recorded)"
