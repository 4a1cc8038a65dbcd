"""Trying a registered version: whole, loadable, predicting what its evaluation predicted.

What the evaluation left with its run: errors by sample, and a few predictions.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mno.core.errors import InputError, MnoError, first_line
from mno.lineage.questions import RegisteredVersion
from mno.registry.catalogue import registry_of
from mno.registry.evidence import damage
from mno.registry.settings import Workspace

EVALUATION_FOLDER = "evaluation"
ERRORS_FILE = "per_sample.json"
CHECK_FILE = "check.npz"

Fields = dict[str, np.ndarray]


class Trial(NamedTuple):
    """What a version was tried with, and passed.

    It was `compared` with recorded predictions; `predicted` its example, where none are recorded;
    or was only `loaded`, where it holds no example.
    """

    what: str  # in a few words, of `it`
    how: str


def try_version(workspace: Workspace, version: RegisteredVersion) -> Trial:
    """Check a version's files, load it, and predict what its evaluation predicted.

    Raises:
        InputError: Its files are missing or altered.
        MnoError: It does not load, or does not predict what was recorded.
    """
    from mno.registry.packaging import check_predictions, load_model

    registry = registry_of(workspace)
    problem = damage(registry, version)
    if problem:
        raise InputError(problem)
    model = load_model(version.uri, workspace)
    path = f"{EVALUATION_FOLDER}/{CHECK_FILE}"
    content = registry.read(version.run_id, path) if version.run_id else None
    try:
        if content is None:
            return _try_example(model)
        inputs, predictions = read_predictions(content, "recorded predictions")
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
    if model.input_example is None:
        return Trial("loads; it holds no example to try it with", "loaded")
    for field, values in model.predict(model.input_example).items():
        if not np.all(np.isfinite(values)):
            raise MnoError(f"its {field} of its own example is not finite")
    return Trial("loads and predicts; no outputs were recorded to compare with", "predicted")


class Health(NamedTuple):
    """What a look at a version has shown."""

    verdict: Literal["good", "note", "problem"]  # a note: nothing was recorded to compare with
    detail: str


def try_health(workspace: Workspace, version: RegisteredVersion, predict: bool = True) -> Health:
    """Look whether a version's files are whole; load it and have it predict, unless told not to."""
    try:
        if not predict:
            problem = damage(registry_of(workspace), version)
            if problem:
                raise InputError(problem)
            return Health("good", "its files are as they were registered")
        trial = try_version(workspace, version)
    except InputError as error:
        return Health("problem", f"{error}; see: mno audit {version.uri}")
    except MnoError as error:
        return Health("problem", str(error))
    return Health("good" if trial.how == "compared" else "note", trial.what)


def read_errors(content: bytes, name: str) -> tuple[float, ...]:
    """Read the relative L2 of each sample, the content of `reports/per_sample.json`."""
    try:
        return tuple(float(error) for error in json.loads(content)["relative_l2"])
    except (ValueError, KeyError, TypeError) as error:
        raise MnoError(f"{name} cannot be read ({error}); run: mno evaluate") from None


def read_predictions(content: bytes, name: str) -> tuple[Fields, Fields]:
    """Read inputs of some samples and their predictions, the content of `reports/check.npz`."""
    found: dict[str, Fields] = {"input": {}, "prediction": {}}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for key in arrays:
                kind, _, field = key.partition("/")
                found[kind][field] = arrays[key]
    except Exception as error:  # zip's, zlib's or numpy's own
        raise MnoError(f"{name} cannot be read ({first_line(error)}); run: mno evaluate") from None
    return found["input"], found["prediction"]


def read_evaluated(path: Path) -> bytes:
    """Return a file that the evaluation left."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MnoError(f"{path} cannot be read ({error}); run: mno evaluate") from None
