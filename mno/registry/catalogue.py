"""What is registered, and what MLflow keeps with it: for reading only, and quickly.

Where MLflow's database lies in the workspace it is read directly: 10,000 versions take less time
than importing MLflow. A registry on a server is asked by MLflow's client. Both say the same.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from mno.core.errors import InputError, MnoError, first_line
from mno.lineage.questions import RegisteredVersion, RunFiles
from mno.lineage.record import Tag
from mno.registry.settings import ARTIFACTS, DATABASE, Workspace, is_embedded

_URI = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")
_DELETED = "Deleted_Internal"  # MLflow keeps the row of a deleted version
_STATUS = ("UNSPECIFIED", "PENDING", "READY", "FAILED")  # of a logged model, by MLflow's number
_MEASURED_MACHINE = "system/"  # metrics that say nothing of what came of a run
_COMPLETIONS = 100
_OURS = (Tag.TRAINING_KEY, Tag.CANDIDATE)
_RUN_FOLDER, _MODEL_FOLDER = re.compile(r"[0-9a-f]{32}"), re.compile(r"m-[0-9a-f]{32}")


class Registry(Protocol):
    """What the registry and the runs behind it are asked.

    Attributes:
        files: The files of the runs.
    """

    files: RunFiles

    def versions(
        self, name: str | None = None, tag: tuple[str, str] | None = None
    ) -> list[RegisteredVersion]:
        """Return all versions, or those of a model, or with a tag; the latest first."""
        ...

    def find(
        self, name: str, number: int | None = None, alias: str | None = None
    ) -> RegisteredVersion | None:
        """Return the version of a model with a number or an alias; none where there is none."""
        ...

    def seals(self) -> Mapping[str, str]:
        """Return where the latest seal of each model lies, as its tag says."""
        ...

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return the rows of a run as plain values."""
        ...

    def run_files(self, run_id: str) -> str | None:
        """Return the address of a run's files."""
        ...

    def logged_model(self, model_id: str) -> dict[str, Any] | None:
        """Return the rows of a packaged model as plain values."""
        ...

    def location(self, version: RegisteredVersion) -> str | None:
        """Return the address of a version's files."""
        ...


def registry_of(workspace: Workspace) -> Registry:
    """Return the registry of a workspace, for reading."""
    return _Database(workspace) if workspace.embedded else _Server(workspace)


def existing_workspace(root: Path) -> Workspace:
    """Return the MLflow of a workspace, without making one.

    Raises:
        InputError: There is none.
    """
    if is_embedded(root) and not (root / DATABASE).exists():
        raise InputError(
            f"{root} has no registry ({DATABASE}): audit where the model was registered, or set "
            "MLFLOW_TRACKING_URI to its registry"
        )
    return Workspace(root)


def aliases(registry: Registry, name: str) -> dict[str, int]:
    """Return the version that each alias of a model stands for."""
    found = registry.versions(name)
    return dict(sorted((alias, version.number) for version in found for alias in version.aliases))


def find_alias(registry: Registry, name: str, alias: str) -> RegisteredVersion | None:
    """Return the version that has an alias, if any has."""
    return registry.find(name, alias=alias)


def find_version_of(registry: Registry, uri: str) -> RegisteredVersion:
    """Return the version that an address names.

    Args:
        registry: The registry that is asked.
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        InputError: It is no such address, or there is no such version.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise InputError(f"{uri!r}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, alias = match.groups()
    found = registry.find(name, int(number) if number else None, alias)
    if found is None:
        raise InputError(f"{uri} is not in the registry; see what is with: mno status")
    return found


@dataclass(frozen=True)
class Catalogue:
    """What is registered.

    Attributes:
        versions: All versions of all models, the latest first.
        seals: Where the latest seal of each model lies, as its tag says.
        files: The files of the runs.
    """

    versions: Sequence[RegisteredVersion]
    seals: Mapping[str, str]
    files: RunFiles


def read_catalogue(root: Path) -> Catalogue:
    """Read all registered versions; none where nothing was ever registered.

    Raises:
        MnoError: MLflow cannot be used.
    """
    if is_embedded(root) and not (root / DATABASE).exists():
        return Catalogue((), {}, _LocalFiles({}))
    registry = registry_of(Workspace(root))
    return Catalogue(registry.versions(), registry.seals(), registry.files)


def known_models(root: Path) -> list[str]:
    """Return URIs of aliases and of the latest versions, for tab completion; none of a server."""
    if not is_embedded(root) or not (root / DATABASE).exists():
        return []
    try:
        with closing(_read_only(root)) as database:
            rows = database.execute("SELECT name, alias FROM registered_model_aliases")
            found = [f"models:/{name}@{alias}" for name, alias in rows]
            rows = database.execute(
                "SELECT name, version FROM model_versions ORDER BY version DESC LIMIT ?",
                [_COMPLETIONS],
            )
            return found + [f"models:/{name}/{version}" for name, version in rows]
    except sqlite3.Error:  # of another version of MLflow
        return []


def local_path(uri: str | None) -> Path | None:
    """Return the folder that MLflow means; none where it is not on this machine."""
    path = _local(uri)
    return None if path is None else Path(path)


def _local(uri: str | None) -> str | None:
    if not uri or uri.startswith("/"):
        return uri or None
    parts = urlparse(uri)
    if parts.scheme not in ("", "file"):
        return None
    return unquote(parts.path) if parts.scheme else uri


def _read_only(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(root.resolve() / DATABASE).as_uri()}?mode=ro", uri=True)


class _Database:
    """MLflow's own tables in the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.files: RunFiles = _LocalFiles(self)

    def versions(
        self, name: str | None = None, tag: tuple[str, str] | None = None
    ) -> list[RegisteredVersion]:
        of = ("name = ?", [name]) if name is not None else ("1", [])
        tags: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        columns = "SELECT name, version, key, value FROM model_version_tags"
        for model, number, key, value in self._rows(f"{columns} WHERE {of[0]}", of[1]):
            tags[model, number][key] = value
        named: dict[tuple[str, int], list[str]] = defaultdict(list)
        columns = "SELECT name, version, alias FROM registered_model_aliases"
        for model, number, alias in self._rows(f"{columns} WHERE {of[0]} ORDER BY alias", of[1]):
            named[model, number].append(alias)
        rows = self._rows(
            "SELECT name, version, creation_time, run_id, source FROM model_versions "
            f"WHERE current_stage IS NOT '{_DELETED}' AND {of[0]}",
            of[1],
        )
        return _latest_first(
            RegisteredVersion(
                model, number, created, run_id or None, source,
                tags.get((model, number), {}), tuple(named.get((model, number), ())),
            )
            for model, number, created, run_id, source in rows
            if tag is None or tags.get((model, number), {}).get(tag[0]) == tag[1]
        )  # fmt: skip

    def find(
        self, name: str, number: int | None = None, alias: str | None = None
    ) -> RegisteredVersion | None:
        for version in self.versions(name):
            if version.number == number or alias in version.aliases:
                return version
        return None

    def seals(self) -> Mapping[str, str]:
        return dict(
            self._rows("SELECT name, value FROM registered_model_tags WHERE key = ?", [Tag.SEAL])
        )

    def run(self, run_id: str) -> dict[str, Any] | None:
        columns = "SELECT status, start_time, end_time FROM runs"
        found = self._rows(f"{columns} WHERE run_uuid = ?", [run_id])
        if not found:
            return None
        status, begun, ended = found[0]
        of_run = "WHERE run_uuid = ?"
        latest = self._rows(f"SELECT key, value, is_nan FROM latest_metrics {of_run}", [run_id])
        history: dict[str, list[list[Any]]] = defaultdict(list)
        columns = "SELECT key, step, timestamp, value, is_nan FROM metrics"
        for key, step, when, value, is_nan in self._rows(f"{columns} {of_run}", [run_id]):
            history[key].append([step, when, repr(_number(value, is_nan))])
        datasets = self._rows(
            "SELECT DISTINCT d.name, d.digest, d.dataset_source FROM inputs i JOIN datasets d "
            "ON i.source_id = d.dataset_uuid WHERE i.destination_type = 'RUN' "
            "AND i.destination_id = ?",
            [run_id],
        )
        return {
            "id": run_id,
            "status": status,
            "begun": begun,
            "ended": ended,
            "tags": dict(self._rows(f"SELECT key, value FROM tags {of_run}", [run_id])),
            "params": dict(self._rows(f"SELECT key, value FROM params {of_run}", [run_id])),
            "metrics": {
                key: {"latest": _number(value, is_nan), "history": sorted(history[key])}
                for key, value, is_nan in sorted(latest)
                if not key.startswith(_MEASURED_MACHINE)
            },
            "datasets": sorted(map(list, datasets)),
        }

    def run_files(self, run_id: str) -> str | None:
        found = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id])
        return found[0][0] if found else None

    def logged_model(self, model_id: str) -> dict[str, Any] | None:
        columns = "SELECT name, source_run_id, status, artifact_location FROM logged_models"
        where = "WHERE model_id = ? AND lifecycle_stage IS NOT 'deleted'"
        found = self._rows(f"{columns} {where}", [model_id])
        if not found:
            return None
        name, run, status, files = found[0]
        columns = "SELECT tag_key, tag_value FROM logged_model_tags"
        tags = self._rows(f"{columns} WHERE model_id = ?", [model_id])
        status = _STATUS[status]
        return {"name": name, "run": run, "status": status, "files": files, "tags": dict(tags)}

    def location(self, version: RegisteredVersion) -> str | None:
        found = self._rows(
            "SELECT storage_location FROM model_versions WHERE name = ? AND version = ?",
            [version.name, version.number],
        )
        return (found[0][0] if found else None) or version.source

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(_read_only(self._workspace.root)) as database:
                return database.execute(query, [str(value) for value in values]).fetchall()
        except sqlite3.Error as error:
            _ = self._workspace.client  # says what is wrong with it, if that is known
            path = self._workspace.root / DATABASE
            raise MnoError(f"{path} cannot be read: {first_line(error)}") from None


class _Server:
    """A server of MLflow's, or a database of the user's, by MLflow's client."""

    def __init__(self, workspace: Workspace) -> None:
        self._client = workspace.client
        self.files: RunFiles = _DistantFiles(workspace)

    def versions(
        self, name: str | None = None, tag: tuple[str, str] | None = None
    ) -> list[RegisteredVersion]:
        asked = [f"name = '{name}'"] if name is not None else []
        models = _pages(self._client.search_registered_models, " AND ".join(asked))
        named: dict[tuple[str, int], list[str]] = defaultdict(list)
        for model in models:
            for alias, number in sorted(model.aliases.items()):
                named[model.name, int(number)].append(alias)
        asked += [f"tags.`{tag[0]}` = '{tag[1]}'"] if tag is not None else []
        rows = _pages(self._client.search_model_versions, " AND ".join(asked))
        return _latest_first(_version(row, named[row.name, int(row.version)]) for row in rows)

    def find(
        self, name: str, number: int | None = None, alias: str | None = None
    ) -> RegisteredVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            if alias is not None:
                row = self._client.get_model_version_by_alias(name, alias)
            else:
                row = self._client.get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # no such version or alias; no such model
            raise
        return _version(row, sorted(row.aliases))

    def seals(self) -> Mapping[str, str]:
        models = _pages(self._client.search_registered_models, "")
        return {model.name: model.tags[Tag.SEAL] for model in models if Tag.SEAL in model.tags}

    def run(self, run_id: str) -> dict[str, Any] | None:
        run = self._run(run_id)
        if run is None:
            return None
        kept = sorted(key for key in run.data.metrics if not key.startswith(_MEASURED_MACHINE))
        histories = {key: self._client.get_metric_history(run_id, key) for key in kept}
        given = run.inputs.dataset_inputs if run.inputs else ()
        return {
            "id": run.info.run_id,
            "status": run.info.status,
            "begun": run.info.start_time,
            "ended": run.info.end_time,
            "tags": dict(run.data.tags),
            "params": dict(run.data.params),
            "metrics": {
                key: {
                    "latest": run.data.metrics[key],
                    "history": sorted([m.step, m.timestamp, repr(m.value)] for m in history),
                }
                for key, history in histories.items()
            },
            "datasets": sorted([g.dataset.name, g.dataset.digest, g.dataset.source] for g in given),
        }

    def run_files(self, run_id: str) -> str | None:
        run = self._run(run_id)
        return run.info.artifact_uri if run else None

    def _run(self, run_id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id)
        except MlflowException:
            return None

    def logged_model(self, model_id: str) -> dict[str, Any] | None:
        from mlflow.exceptions import MlflowException

        try:
            model = self._client.get_logged_model(model_id)
        except MlflowException:
            return None
        return {
            "name": model.name,
            "run": model.source_run_id,
            "status": str(model.status),
            "files": model.artifact_location,
            "tags": dict(model.tags),
        }

    def location(self, version: RegisteredVersion) -> str | None:
        return self._client.get_model_version_download_uri(version.name, str(version.number))


def _pages(search: Any, asked: str) -> Iterator[Any]:
    """Yield all that a search of MLflow's finds, page by page."""
    token = None
    while True:
        page = search(asked or None, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(row: Any, aliases: Sequence[str]) -> RegisteredVersion:
    """Return a version from a row of MLflow's client."""
    created, tags = row.creation_timestamp, dict(row.tags)
    number, run = int(row.version), row.run_id or None
    return RegisteredVersion(row.name, number, created, run, row.source, tags, tuple(aliases))


def _latest_first(versions: Iterable[RegisteredVersion]) -> list[RegisteredVersion]:
    return sorted(versions, key=lambda version: (-version.created, version.name, -version.number))


def _number(value: float, is_nan: Any) -> float:
    return float("nan") if is_nan else value


class _LocalFiles:
    """Files that lie where the database says."""

    def __init__(self, database: _Database | Mapping[str, str]) -> None:
        self._database, self._folders = database, None

    def _folder(self, run_id: str) -> str | None:
        if self._folders is None:
            known = self._database
            if isinstance(known, _Database):
                known = dict(known._rows("SELECT run_uuid, artifact_uri FROM runs"))
            self._folders = known
        return _local(self._folders.get(run_id))

    def read(self, run_id: str, path: str) -> bytes | None:
        folder = self._folder(run_id)
        try:
            return Path(folder, path).read_bytes() if folder else None
        except OSError:
            return None

    def signature(self, run_id: str, path: str) -> str | None:
        try:
            found = os.stat(f"{self._folder(run_id)}/{path}")
        except OSError:
            return None
        times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
        return f"{found.st_size} {times} {found.st_dev} {found.st_ino}"

    def names(self, run_id: str, folder: str) -> list[str]:
        place = Path(self._folder(run_id) or "/nowhere", folder)
        return sorted(f"{folder}/{path.name}" for path in place.iterdir()) if place.is_dir() else []


class _DistantFiles:
    """Files that a server hands out; each is fetched once.

    Whatever the error of its store: a file is not there, or cannot be reached.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._client = workspace.client
        self._kept: dict[tuple[str, str], bytes | None] = {}

    def read(self, run_id: str, path: str) -> bytes | None:
        if (run_id, path) not in self._kept:
            with tempfile.TemporaryDirectory(prefix="mno-lineage-") as folder:
                try:
                    found = Path(self._client.download_artifacts(run_id, path, folder))
                    self._kept[run_id, path] = found.read_bytes()
                except Exception:
                    self._kept[run_id, path] = None
        return self._kept[run_id, path]

    def signature(self, run_id: str, path: str) -> str | None:
        return None

    def names(self, run_id: str, folder: str) -> list[str]:
        try:
            return sorted(file.path for file in self._client.list_artifacts(run_id, folder))
        except Exception:
            return []


@dataclass(frozen=True)
class StoredItem:
    """A training run of ours, or a packaged model.

    Attributes:
        id: MLflow's id; that of a model begins with `m-`.
        run_id: Of a model, the run that it was packaged from.
        folder: Where all of it lies, in the workspace; none where that is elsewhere.
        begun: Of a run, when it began, milliseconds since 1970.
        tags: Of a run, its tags.
    """

    id: str
    run_id: str | None
    folder: Path | None
    begun: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """All that MLflow keeps in a workspace, registered or not.

    Attributes:
        runs: Our runs, the latest first; others are never looked at.
        models: Models packaged from them, and from runs that are gone.
        forgotten: Folders of runs and models that MLflow knows nothing of.
    """

    runs: tuple[StoredItem, ...] = ()
    models: tuple[StoredItem, ...] = ()
    forgotten: tuple[Path, ...] = ()


def read_stored(workspace: Workspace) -> Stored:
    """Read what MLflow keeps in its own database and folder; nothing of one on a server.

    Raises:
        MnoError: The database cannot be read.
    """
    if not workspace.embedded or not (workspace.root / DATABASE).exists():
        return Stored()
    database, artifacts = _Database(workspace), workspace.root / ARTIFACTS
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for run, key, value in database._rows("SELECT run_uuid, key, value FROM tags"):
        tags[run][key] = value
    rows = database._rows("SELECT run_uuid, start_time, artifact_uri FROM runs")
    runs = [
        StoredItem(run, run, _inside(uri, artifacts), begun or 0, tags[run])
        for run, begun, uri in rows
        if any(key in tags[run] for key in _OURS)
    ]
    packaged = database._rows(
        "SELECT model_id, source_run_id, artifact_location FROM logged_models"
    )
    models = [StoredItem(model, run, _inside(uri, artifacts)) for model, run, uri in packaged]
    known = {run for run, *_ in rows}
    foreign = known - {run.id for run in runs}
    return Stored(
        tuple(sorted(runs, key=lambda run: -run.begun)),
        tuple(model for model in models if model.run_id not in foreign),
        tuple(_forgotten(artifacts, known | {model.id for model in models})),
    )


def _inside(uri: str | None, artifacts: Path) -> Path | None:
    """Return the folder that holds the artifacts of a run or model, if it lies where it should."""
    place = local_path(uri)
    if place is None or place.name != "artifacts":
        return None
    folder = place.parent
    named = _RUN_FOLDER.fullmatch(folder.name) or _MODEL_FOLDER.fullmatch(folder.name)
    return folder if named and folder.resolve().is_relative_to(artifacts.resolve()) else None


def _forgotten(artifacts: Path, known: set[str]) -> Iterable[Path]:
    for pattern, name in (("*/*", _RUN_FOLDER), ("*/models/*", _MODEL_FOLDER)):
        for path in sorted(artifacts.glob(pattern)):
            is_one = name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            if is_one and path.name not in known:
                yield path


def remove_stored(workspace: Workspace, kind: str, identity: str, folder: Path | None) -> None:
    """Remove a run or packaged model for good; doing it again after a kill removes the rest.

    As `mlflow gc` does, by MLflow's own store: first marked as deleted, then the files, then the
    rows, so that after a kill what is left is still known to be on its way out.

    Args:
        workspace: The MLflow that it is in.
        kind: `runs` or `models`.
        identity: Its id.
        folder: Its files; none where they lie outside of the workspace.

    Raises:
        MnoError: MLflow cannot remove it.
    """
    store = workspace.client._tracking_client.store
    mark, remove = store.delete_run, store._hard_delete_run
    if kind == "models":
        mark, remove = store.delete_logged_model, store._hard_delete_logged_model
    try:
        if kind == "runs" or identity not in store._get_deleted_logged_models():
            mark(identity)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        remove(identity)
    except Exception as error:  # sqlalchemy's or MLflow's own
        what = f"{kind.removesuffix('s')} {identity}"
        raise MnoError(f"{what} cannot be removed: {first_line(error)}") from None
