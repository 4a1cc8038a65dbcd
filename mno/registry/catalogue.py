"""What is registered, and what MLflow keeps with it: for reading only, and quickly.

Where MLflow's database lies in the workspace it is read directly: 10,000 versions take less time
than importing MLflow. A registry on a server is asked by MLflow's client. Both say the same.
"""

import json
import math
import re
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlparse

from mno.core.errors import InputError, MnoError, first_line
from mno.lineage.decision import CHAMPION
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import Tag
from mno.registry.settings import ARTIFACTS, DATABASE, Workspace, is_embedded

_URI = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")
_STATUS = ("UNSPECIFIED", "PENDING", "READY", "FAILED")  # of a logged model, by MLflow's number
_MEASURED_MACHINE = "system/"  # metrics of runs of old that say nothing of what came of them
_ID = re.compile(r"(m-)?[0-9a-f]{32}")  # of a run or, with the m, of a model


def registry_of(workspace: Workspace) -> "Registry":
    """Return the registry of a workspace, and the files of its runs, for reading."""
    return _Database(workspace) if workspace.embedded else _Server(workspace)


def existing_workspace(root: Path) -> Workspace:
    """Return the MLflow of a workspace that has one; refuse another, and make none."""
    if is_embedded(root) and not (root / DATABASE).exists():
        raise InputError(
            f"{root} has no registry ({DATABASE}): register a model with mno run, go where it was "
            "registered, or set MLFLOW_TRACKING_URI to its registry"
        )
    return Workspace(root)


def meant(target: str) -> str:
    """Return `; did you mean models:/NAME@champion?` of a bare name, which may have its alias."""
    match = re.fullmatch(r"[\w.-]+(@[\w.-]+|/\d+)?", target)
    return f"; did you mean models:/{target}{'' if match[1] else '@champion'}?" if match else ""


def aliases(registry: "Registry", name: str) -> dict[str, int]:
    """Return the version that each alias of a model stands for."""
    found = registry.versions(name)
    return dict(sorted((alias, version.number) for version in found for alias in version.aliases))


def find_version_of(registry: "Registry", uri: str) -> RegisteredVersion:
    """Return what `models:/NAME/VERSION` or `models:/NAME@ALIAS` names; refuse what names none."""
    if (match := _URI.fullmatch(uri)) is None:
        near = meant(uri.removeprefix("models:").lstrip("/"))
        raise InputError(f"{uri!r}: expected models:/NAME/VERSION or models:/NAME@ALIAS{near}")
    name, number, alias = match.groups()
    if (found := registry.find(name, int(number) if number else None, alias)) is None:
        latest = max(registry.versions(name), key=lambda version: version.number, default=None)
        if latest is None or alias != CHAMPION:
            raise InputError(f"{uri} is not in the registry; see what is with: mno status")
        why = latest.tags.get(Tag.REASON, "not decided on")
        raise InputError(
            f"{name} has no {alias}; its latest version is {latest.number} ({why}): use "
            f"{latest.uri}, or make it champion with: mno promote {latest.number} --reason '…'"
        )
    return found


def local_path(uri: str | None) -> str | None:
    """Return the path that MLflow means; none where it is not on this machine."""
    if not uri or uri.startswith("/"):
        return uri or None
    parts = urlparse(uri)
    if parts.scheme not in ("", "file"):
        return None
    return unquote(parts.path) if parts.scheme else uri


class _Database:
    """MLflow's own tables in the workspace, and files where they say; empty if there are none."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._path = workspace.root / DATABASE

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, for reading only."""
        if not self._path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as database:
                return database.execute(query, [str(value) for value in values]).fetchall()
        except sqlite3.Error as error:
            _ = self._workspace.client  # says what is wrong with it, if that is known
            raise MnoError(f"{self._path} cannot be read: {first_line(error)}") from None

    def versions(
        self, name: str | None = None, tag: tuple[str, str] | None = None
    ) -> list[RegisteredVersion]:
        """Return all versions, or those of a model, or with a tag; the latest first."""
        where, of = ("WHERE name = ?", [name]) if name is not None else ("WHERE 1", [])

        def by_version(what: str, table: str) -> dict[tuple[str, int], Any]:
            query = f"SELECT name, version, {what} FROM {table} {where} GROUP BY name, version"
            return {tuple(key): json.loads(text) for *key, text in self.rows(query, *of)}

        tags = by_version("json_group_object(key, value)", "model_version_tags")
        named = by_version("json_group_array(alias)", "registered_model_aliases")
        rows = self.rows(
            f"SELECT name, version, creation_time, run_id, source FROM model_versions {where} "
            "AND current_stage IS NOT 'Deleted_Internal'",  # MLflow keeps the row of a deleted one
            *of,
        )
        found = (
            RegisteredVersion(
                model, number, created, run_id or None, source,
                tags.get((model, number), {}), tuple(sorted(named.get((model, number), ()))),
            )
            for model, number, created, run_id, source in rows
        )  # fmt: skip
        return _latest_first(v for v in found if tag is None or v.tags.get(tag[0]) == tag[1])

    def find(
        self, name: str, number: int | None = None, alias: str | None = None
    ) -> RegisteredVersion | None:
        """Return the version of a model with a number or an alias; none where there is none."""
        found = (v for v in self.versions(name) if v.number == number or alias in v.aliases)
        return next(found, None)

    def seals(self) -> dict[str, str]:
        """Return where the latest seal of each model lies, as its tag says."""
        query = "SELECT name, value FROM registered_model_tags WHERE key = ?"
        return dict(self.rows(query, Tag.SEAL))

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return the rows of a run as plain values."""

        def of_run(columns: str, table: str) -> list[tuple[Any, ...]]:
            return self.rows(f"SELECT {columns} FROM {table} WHERE run_uuid = ?", run_id)

        if not (found := of_run("run_uuid, status, start_time, end_time", "runs")):
            return None
        latest, history = of_run("key, value, is_nan", "latest_metrics"), defaultdict(list)
        for key, step, when, *value in of_run("key, step, timestamp, value, is_nan", "metrics"):
            history[key].append((step, when, math.nan if value[1] else value[0]))
        return _run_facts(
            found[0], of_run("key, value", "tags"), of_run("key, value", "params"),
            {k: (math.nan if is_nan else v, history[k]) for k, v, is_nan in latest},
            self.rows(
                "SELECT DISTINCT d.name, d.digest, d.dataset_source FROM inputs i JOIN datasets d "
                "ON i.source_id = d.dataset_uuid WHERE i.destination_type = 'RUN' "
                "AND i.destination_id = ?", run_id,
            ),
        )  # fmt: skip

    def run_files(self, run_id: str) -> str | None:
        """Return the address of a run's files."""
        found = self.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        return found[0][0] if found else None

    def logged_model(self, model_id: str) -> dict[str, Any] | None:
        """Return the rows of a packaged model as plain values."""
        columns = "SELECT name, source_run_id, status, artifact_location FROM logged_models"
        where = "WHERE model_id = ? AND lifecycle_stage IS NOT 'deleted'"
        tags = "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?"
        for name, run, status, files in self.rows(f"{columns} {where}", model_id):
            facts = {"name": name, "run": run, "status": _STATUS[status], "files": files}
            return {**facts, "tags": dict(self.rows(tags, model_id))}
        return None

    def location(self, version: RegisteredVersion) -> str | None:
        """Return the address of a version's files."""
        columns = "SELECT storage_location FROM model_versions WHERE name = ? AND version = ?"
        found = self.rows(columns, version.name, version.number)
        return (found[0][0] if found else None) or version.source

    @cached_property
    def _folders(self) -> dict[str, str]:
        return dict(self.rows("SELECT run_uuid, artifact_uri FROM runs"))

    def _file(self, run_id: str, path: str) -> str:
        return f"{local_path(self._folders.get(run_id)) or '/nowhere'}/{path}"

    def read(self, run_id: str, path: str) -> bytes | None:
        try:
            return Path(self._file(run_id, path)).read_bytes()
        except OSError:
            return None

    def names(self, run_id: str, folder: str) -> list[str]:
        place = Path(self._file(run_id, folder))
        return sorted(f"{folder}/{path.name}" for path in place.iterdir()) if place.is_dir() else []


class _Server:
    """The same by MLflow's client, of a server or a database of the user's; files are kept."""

    def __init__(self, workspace: Workspace) -> None:
        self._client = workspace.client
        self._kept: dict[tuple[str, str], bytes | None] = {}

    def _pages(self, search: Any, asked: Sequence[str] = ()) -> Iterator[Any]:
        token = None
        while True:
            page = search(" AND ".join(asked) or None, max_results=1000, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def versions(
        self, name: str | None = None, tag: tuple[str, str] | None = None
    ) -> list[RegisteredVersion]:
        asked = [f"name = '{name}'"] if name is not None else []
        named: dict[tuple[str, int], list[str]] = defaultdict(list)
        for model in self._pages(self._client.search_registered_models, asked):
            for alias, number in sorted(model.aliases.items()):
                named[model.name, int(number)].append(alias)
        asked += [f"tags.`{tag[0]}` = '{tag[1]}'"] if tag is not None else []
        rows = self._pages(self._client.search_model_versions, asked)
        return _latest_first(_version(row, named[row.name, int(row.version)]) for row in rows)

    def find(
        self, name: str, number: int | None = None, alias: str | None = None
    ) -> RegisteredVersion | None:
        client = self._client
        get = client.get_model_version if alias is None else client.get_model_version_by_alias
        row = self._found(get, name, alias or str(number))
        return row and _version(row, sorted(row.aliases))

    def seals(self) -> dict[str, str]:
        models = self._pages(self._client.search_registered_models)
        return {model.name: model.tags[Tag.SEAL] for model in models if Tag.SEAL in model.tags}

    def _found(self, get: Any, *asked: str) -> Any:
        """Return what the client gets; none where there is no such run, model, version or alias."""
        from mlflow.exceptions import MlflowException

        try:
            return get(*asked)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise MnoError(f"MLflow does not tell of {asked[0]}: {first_line(error)}") from None

    def run(self, run_id: str) -> dict[str, Any] | None:
        if (run := self._found(self._client.get_run, run_id)) is None:
            return None

        def history(key: str) -> list[tuple[Any, ...]]:
            points = self._client.get_metric_history(run_id, key)
            return [(point.step, point.timestamp, point.value) for point in points]

        info, data = run.info, run.data
        given = [given.dataset for given in (run.inputs.dataset_inputs if run.inputs else ())]
        return _run_facts(
            (info.run_id, info.status, info.start_time, info.end_time), data.tags, data.params,
            {key: (value, history(key)) for key, value in data.metrics.items()},
            [(dataset.name, dataset.digest, dataset.source) for dataset in given],
        )  # fmt: skip

    def run_files(self, run_id: str) -> str | None:
        run = self._found(self._client.get_run, run_id)
        return run.info.artifact_uri if run else None

    def logged_model(self, model_id: str) -> dict[str, Any] | None:
        model = self._found(self._client.get_logged_model, model_id)
        return model and {
            "name": model.name, "run": model.source_run_id, "status": str(model.status),
            "files": model.artifact_location, "tags": dict(model.tags),
        }  # fmt: skip

    def location(self, version: RegisteredVersion) -> str | None:
        return self._client.get_model_version_download_uri(version.name, str(version.number))

    def read(self, run_id: str, path: str) -> bytes | None:
        if (run_id, path) not in self._kept:
            with tempfile.TemporaryDirectory(prefix="mno-lineage-") as folder:
                try:
                    found = Path(self._client.download_artifacts(run_id, path, folder))
                    self._kept[run_id, path] = found.read_bytes()
                except Exception:
                    self._kept[run_id, path] = None
        return self._kept[run_id, path]

    def names(self, run_id: str, folder: str) -> list[str]:
        try:
            return sorted(file.path for file in self._client.list_artifacts(run_id, folder))
        except Exception:
            return []


Registry: TypeAlias = _Database | _Server


def _version(row: Any, aliases: Sequence[str]) -> RegisteredVersion:
    return RegisteredVersion(
        row.name, int(row.version), row.creation_timestamp, row.run_id or None, row.source,
        dict(row.tags), tuple(aliases),
    )  # fmt: skip


def _latest_first(versions: Iterable[RegisteredVersion]) -> list[RegisteredVersion]:
    return sorted(versions, key=lambda version: (-version.created, version.name, -version.number))


def _run_facts(
    row: Sequence[Any], tags: Any, params: Any, metrics: Mapping[str, Any], datasets: Iterable[Any]
) -> dict[str, Any]:
    """Return a run as plain values; of each metric the latest and its history are given."""
    return {
        **dict(zip(("id", "status", "begun", "ended"), row, strict=True)),
        "tags": dict(tags),
        "params": dict(params),
        "metrics": {
            key: {"latest": latest, "history": sorted([s, t, repr(v)] for s, t, v in history)}
            for key, (latest, history) in sorted(metrics.items())
            if not key.startswith(_MEASURED_MACHINE)
        },
        "datasets": sorted(map(list, datasets)),
    }


@dataclass(frozen=True)
class StoredItem:
    """A training run of ours, or a packaged model; the id of a model begins with `m-`."""

    id: str
    run_id: str | None  # of a model, the run that it was packaged from
    folder: Path | None  # where all of it lies, in the workspace; none where that is elsewhere
    begun: int = 0  # of a run, milliseconds since 1970
    tags: Mapping[str, str] = field(default_factory=dict)


class Stored(NamedTuple):
    """All that MLflow keeps in a workspace, registered or not."""

    runs: tuple[StoredItem, ...] = ()  # ours, the latest first; others are never looked at
    models: tuple[StoredItem, ...] = ()  # packaged by us, from them and from runs that are gone
    forgotten: tuple[Path, ...] = ()  # folders of runs and models that MLflow knows nothing of


def read_stored(workspace: Workspace) -> Stored:
    """Read what MLflow keeps in its own database and folder; nothing of one on a server."""
    database, artifacts = _Database(workspace), workspace.root / ARTIFACTS
    if not workspace.embedded or not (workspace.root / DATABASE).exists():
        return Stored()

    def inside(uri: str | None) -> Path | None:
        """Return the folder that holds the artifacts of a run or model, if it lies where it may."""
        place = Path(local_path(uri) or "/")
        lies = place.name == "artifacts" and _ID.fullmatch(place.parent.name)
        lies = lies and place.resolve().is_relative_to(artifacts.resolve())
        return place.parent if lies else None

    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for run, key, value in database.rows("SELECT run_uuid, key, value FROM tags"):
        tags[run][key] = value
    rows = database.rows("SELECT run_uuid, start_time, artifact_uri FROM runs")
    ours = [r for r in rows if tags[r[0]].keys() & {Tag.TRAINING_KEY, Tag.CANDIDATE}]
    logged = database.rows("SELECT model_id, source_run_id, artifact_location FROM logged_models")
    tagged = "SELECT model_id FROM logged_model_tags WHERE tag_key = ?"  # ours, as they are made
    packaged = {model for (model,) in database.rows(tagged, Tag.LINEAGE)}
    known = {identity for identity, *_ in (*rows, *logged)}
    runs = [StoredItem(r, r, inside(uri), begun or 0, tags[r]) for r, begun, uri in ours]
    models = [StoredItem(m, run, inside(uri)) for m, run, uri in logged if m in packaged]
    folders = (*sorted(artifacts.glob("*/*")), *sorted(artifacts.glob("*/models/*")))
    whole = (path for path in folders if path.is_dir() and not path.is_symlink())
    forgotten = (path for path in whole if _ID.fullmatch(path.name) and path.name not in known)
    return Stored(tuple(sorted(runs, key=lambda r: -r.begun)), tuple(models), tuple(forgotten))


def remove_stored(workspace: Workspace, kind: str, identity: str, folder: Path | None) -> None:
    """Remove one of the `runs` or `models` for good, and its files where they lie inside.

    As `mlflow gc` does, by MLflow's own store: first marked as deleted, then the files, then the
    rows, so that what a kill leaves is still known to be on its way out, and goes the next time.
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
