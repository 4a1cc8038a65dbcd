"""Trying a registered version: whole, loadable, predicting what its evaluation predicted.

What the evaluation left with its run: errors by sample, and a few predictions.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mno.core.errors import InputError, MnoError, first_line
from mno.lineage.questions import RegisteredVersion, RunFiles
from mno.registry.catalogue import registry_of
from mno.registry.evidence import damage
from mno.registry.settings import Workspace

EVALUATION_FOLDER = "evaluation"
ERRORS_FILE = "per_sample.json"
CHECK_FILE = "check.npz"

Fields = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """What a version was tried with, and passed.

    Attributes:
        what: In a few words, of `it`.
        how: `compared` with recorded predictions; `predicted` its example, where none are
            recorded; or only `loaded`, where it holds no example.
    """

    what: str
    how: Literal["compared", "predicted", "loaded"]


def try_version(workspace: Workspace, version: RegisteredVersion, files: RunFiles) -> Trial:
    """Check a version's files, load it, and predict what its evaluation predicted.

    Args:
        workspace: The MLflow that it is in.
        version: The version.
        files: The files of the runs, among which its predictions may be recorded.

    Raises:
        InputError: Its files are missing or altered.
        MnoError: It does not load, or does not predict what was recorded.
    """
    from mno.registry.packaging import check_predictions, load_model

    problem = damage(registry_of(workspace), version)
    if problem:
        raise InputError(problem)
    model = load_model(version.uri, workspace)
    path = f"{EVALUATION_FOLDER}/{CHECK_FILE}"
    content = files.read(version.run_id, path) if version.run_id else None
    inputs, predictions = (
        read_predictions(content, "recorded predictions") if content is not None else ({}, {})
    )
    try:
        if not predictions:
            return _try_example(model)
        difference = check_predictions(model, inputs, predictions)
    except MnoError:
        raise
    except Exception as error:  # anything in the code that came with the model
        raise MnoError(f"it cannot predict any more: {first_line(error)}") from None
    if difference:
        raise MnoError(f"it does not predict as recorded: {difference}")
    samples = len(next(iter(predictions.values())))
    return Trial(f"predicts {samples} samples as recorded", "compared")


def _try_example(model: Any) -> Trial:
    """Predict the example in a package, of which no output was recorded."""
    given = model.input_example
    if given is None:
        return Trial("loads; it holds no example to try it with", "loaded")
    for field, values in model.predict(given).items():
        if not np.all(np.isfinite(values)):
            raise MnoError(f"its {field} of its own example is not finite")
    return Trial("loads and predicts; no outputs were recorded to compare with", "predicted")


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
    """Try a version; see `try_version`."""
    try:
        trial = try_version(workspace, version, files)
    except InputError as error:
        return Health("problem", f"{error}; see: mno audit {version.uri}")
    except MnoError as error:
        return Health("problem", str(error))
    return Health("good" if trial.how == "compared" else "note", trial.what)


def read_errors(content: bytes, name: str) -> tuple[float, ...]:
    """Read the relative L2 of each sample, the content of `reports/per_sample.json`.

    Args:
        content: Of the file.
        name: What messages call it.

    Raises:
        MnoError: It cannot be read.
    """
    try:
        return tuple(float(error) for error in json.loads(content)["relative_l2"])
    except (ValueError, KeyError, TypeError) as error:
        raise MnoError(f"{name} cannot be read ({error}); run: mno evaluate") from None


def read_predictions(content: bytes, name: str) -> tuple[Fields, Fields]:
    """Read inputs of some samples and their predictions, the content of `reports/check.npz`.

    Args:
        content: Of the file.
        name: What messages call it.

    Raises:
        MnoError: It cannot be read.
    """
    inputs: Fields = {}
    predictions: Fields = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for key in arrays:
                kind, _, field = key.partition("/")
                (inputs if kind == "input" else predictions)[field] = arrays[key]
    except Exception as error:  # zip's, zlib's or numpy's own
        raise MnoError(f"{name} cannot be read ({first_line(error)}); run: mno evaluate") from None
    return inputs, predictions


def read_evaluated(path: Path) -> bytes:
    """Return a file that the evaluation left.

    Raises:
        MnoError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise MnoError(f"{path} cannot be read ({error}); run: mno evaluate") from None
