"""Whether registered versions are what they were: whole, loadable, predicting the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mno.config import first_line
from mno.errors import MnoError
from mno.lineage.questions.version import RegisteredVersion, RunFiles
from mno.registry import names
from mno.registry.packaging import check_predictions, load_model
from mno.registry.reading import damage
from mno.registry.recorded import CHECK_FILE, EVALUATION_FOLDER, parse_predictions
from mno.registry.settings import Workspace

_RECORDED = f"{EVALUATION_FOLDER}/{CHECK_FILE}"


@dataclass(frozen=True)
class Health:
    """What trying a version has shown.

    Attributes:
        verdict: `good`, `note` where nothing was recorded to compare with, or `problem`.
        detail: What was tried, or what is wrong.
    """

    verdict: Literal["good", "note", "problem"]
    detail: str


def try_health(workspace: Workspace, version: RegisteredVersion, files: RunFiles) -> Health:
    """Check the files of a version, load it, and let it predict what its evaluation predicted.

    Args:
        workspace: The MLflow that it is in.
        version: The version.
        files: The files of the runs.
    """
    problem = damage(workspace, version.name, version.number, version.tags.get(names.PACKAGE))
    if problem:
        return Health("problem", f"{problem}; see: mno audit {version.uri}")
    try:
        model = load_model(version.uri)
        content = files.read(version.run_id, _RECORDED) if version.run_id else None
        if content is None:
            return _try_example(model)
        inputs, predictions = parse_predictions(content)
        if not predictions:
            return _try_example(model)
        difference = check_predictions(model, inputs, predictions)
    except MnoError as error:
        return Health("problem", str(error))
    except Exception as error:  # anything in the code that came with the model
        return Health("problem", f"it cannot predict any more: {first_line(error)}")
    if difference:
        return Health("problem", f"it does not predict as recorded: {difference}")
    samples = len(next(iter(predictions.values())))
    return Health("good", f"predicts {samples} samples as recorded")


def _try_example(model) -> Health:
    """Let a version predict the example in its package, whose outputs nobody recorded."""
    given = model.input_example
    if given is None:
        return Health("note", "loads; it holds no example to try it with")
    for field, values in model.predict(given).items():
        if not np.all(np.isfinite(values)):
            return Health("problem", f"its {field} of its own example is not finite")
    return Health("note", "loads and predicts; no outputs were recorded to compare with")
