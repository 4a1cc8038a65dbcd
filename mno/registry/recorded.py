"""What the evaluation of a version left with its run: errors by sample, and a few predictions."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.registry.facts import run_folder
from mno.registry.settings import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

EVALUATION_FOLDER = "evaluation"
ERRORS_FILE = "per_sample.json"
CHECK_FILE = "check.npz"

Fields = dict[str, np.ndarray]


def recorded_errors(workspace: Workspace, row: ModelVersion) -> tuple[float, ...] | None:
    """Return the relative L2 of each test sample, as it was evaluated; none if not recorded."""
    with _evaluation(workspace, row) as folder:
        if folder is None:
            return None
        try:
            return read_errors(folder / ERRORS_FILE)
        except MnoError:
            return None


def recorded_predictions(workspace: Workspace, row: ModelVersion) -> tuple[Fields, Fields] | None:
    """Return inputs of some samples and what was predicted from them; none if not recorded."""
    with _evaluation(workspace, row) as folder:
        if folder is None or not (folder / CHECK_FILE).is_file():
            return None
        return read_predictions(folder / CHECK_FILE)


def read_errors(path: Path) -> tuple[float, ...]:
    """Read the relative L2 of each sample from `reports/per_sample.json`.

    Raises:
        MnoError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return tuple(float(error) for error in content["relative_l2"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MnoError(f"{path} cannot be read ({error}); run: mno evaluate") from None


def read_predictions(path: Path) -> tuple[Fields, Fields]:
    """Read inputs and predictions from `reports/check.npz`.

    Raises:
        MnoError: It cannot be read.
    """
    try:
        return parse_predictions(path.read_bytes())
    except OSError as error:
        raise MnoError(f"{path} cannot be read ({error}); run: mno evaluate") from None


def parse_predictions(content: bytes) -> tuple[Fields, Fields]:
    """Return the inputs and predictions that a file like `reports/check.npz` consists of.

    Raises:
        MnoError: It is none, or damaged.
    """
    inputs: Fields = {}
    predictions: Fields = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for key in arrays:
                kind, _, name = key.partition("/")
                (inputs if kind == "input" else predictions)[name] = arrays[key]
    except Exception as error:  # zip's, zlib's or numpy's own
        raise MnoError(f"the recorded predictions cannot be read: {first_line(error)}") from None
    return inputs, predictions


@contextmanager
def _evaluation(workspace: Workspace, row: ModelVersion) -> Iterator[Path | None]:
    """Yield the folder with what the evaluation left; none where it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="mno-recorded-") as scratch:
        run = run_folder(workspace, row.run_id, Path(scratch))
        yield run / EVALUATION_FOLDER if run is not None else None
