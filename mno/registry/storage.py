"""What MLflow keeps in a workspace: our runs, packaged models, and files that it has forgotten.

Read from the database directly, which a look without consequences may do in a moment. Removed as
`mlflow gc` does: first marked as deleted, then the files, then the rows, so that after a kill what
is left is still known to be on its way out. Runs that are not ours are never looked at.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mno.core.errors import MnoError, first_line
from mno.registry.catalogue import local_folder
from mno.registry.settings import ARTIFACTS, DATABASE, Workspace

_OURS = ("mno.training_key", "mno.candidate")
_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")


@dataclass(frozen=True)
class StoredRun:
    """A training run of ours.

    Attributes:
        id: MLflow's id.
        begun: When it began, milliseconds since 1970.
        tags: Its tags.
        folder: Where all of it lies, in the workspace; none where that is elsewhere.
    """

    id: str
    begun: int
    tags: Mapping[str, str]
    folder: Path | None


@dataclass(frozen=True)
class StoredModel:
    """A packaged model.

    Attributes:
        id: MLflow's id, `m-…`.
        run_id: The run that it was packaged from.
        folder: Where all of it lies, in the workspace; none where that is elsewhere.
    """

    id: str
    run_id: str | None
    folder: Path | None


@dataclass(frozen=True)
class Stored:
    """All that MLflow keeps in a workspace.

    Attributes:
        runs: Our runs, the latest first.
        models: Models packaged from them, and from runs that are gone.
        forgotten: Folders of runs and models that MLflow knows nothing of.
    """

    runs: tuple[StoredRun, ...]
    models: tuple[StoredModel, ...]
    forgotten: tuple[Path, ...]


def read_stored(root: Path) -> Stored:
    """Read what MLflow keeps in a workspace, in its own database and folder.

    Raises:
        MnoError: The database cannot be read.
    """
    root = root.resolve()
    path = root / DATABASE
    if not path.exists():
        return Stored((), (), ())
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return _read(database, root / ARTIFACTS)
    except sqlite3.Error as error:
        raise MnoError(f"{path} cannot be read: {first_line(error)}") from None


def remove_run(workspace: Workspace, run: str, folder: Path | None) -> None:
    """Remove a run for good; doing it again after a kill removes the rest.

    Raises:
        MnoError: MLflow cannot remove it.
    """
    store = _store(workspace)
    try:
        store.delete_run(run)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        store._hard_delete_run(run)
    except Exception as error:  # sqlalchemy's or MLflow's own
        raise MnoError(f"run {run} cannot be removed: {first_line(error)}") from None


def remove_model(workspace: Workspace, model: str, folder: Path | None) -> None:
    """Remove a packaged model for good; doing it again after a kill removes the rest.

    Raises:
        MnoError: MLflow cannot remove it.
    """
    store = _store(workspace)
    try:
        if model not in store._get_deleted_logged_models():
            store.delete_logged_model(model)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        store._hard_delete_logged_model(model)
    except Exception as error:  # sqlalchemy's or MLflow's own
        raise MnoError(f"model {model} cannot be removed: {first_line(error)}") from None


def _store(workspace: Workspace):
    """Return MLflow's own store, as `mlflow gc` uses it: the client cannot remove for good."""
    return workspace.client._tracking_client.store


def _read(database: sqlite3.Connection, artifacts: Path) -> Stored:
    tags: dict[str, dict[str, str]] = {}
    for run, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
        tags.setdefault(run, {})[key] = value
    rows = database.execute("SELECT run_uuid, start_time, artifact_uri FROM runs").fetchall()
    runs = [
        StoredRun(run, begun or 0, tags.get(run, {}), _inside(uri, artifacts))
        for run, begun, uri in rows
        if any(key in tags.get(run, {}) for key in _OURS)
    ]
    models = [
        StoredModel(model, run, _inside(uri, artifacts))
        for model, run, uri in database.execute(
            "SELECT model_id, source_run_id, artifact_location FROM logged_models"
        )
    ]
    known = {run for run, *_ in rows} | {model.id for model in models}
    ours = {run.id for run in runs}
    foreign = {run for run, *_ in rows} - ours
    return Stored(
        tuple(sorted(runs, key=lambda run: -run.begun)),
        tuple(model for model in models if model.run_id not in foreign),
        tuple(_forgotten(artifacts, known)),
    )


def _inside(uri: str | None, artifacts: Path) -> Path | None:
    """Return the folder that holds the artifacts of a run or model, if it lies where it should."""
    place = local_folder(uri)
    if place is None or place.name != "artifacts":
        return None
    folder = place.parent
    named = _RUN.fullmatch(folder.name) or _MODEL.fullmatch(folder.name)
    inside = folder.resolve().is_relative_to(artifacts.resolve())
    return folder if named and inside else None


def _forgotten(artifacts: Path, known: set[str]) -> Iterable[Path]:
    for pattern, name in (("*/*", _RUN), ("*/models/*", _MODEL)):
        for path in sorted(artifacts.glob(pattern)):
            is_one = name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            if is_one and path.name not in known:
                yield path
