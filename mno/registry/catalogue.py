"""All registered versions at once, with the files of their runs, quickly.

Where MLflow's database lies in the workspace it is read directly: 10,000 versions take less time
than importing MLflow. It is only ever read. A registry on a server is asked by MLflow's client.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

from mno.lineage.questions.version import RegisteredVersion, RunFiles
from mno.registry import names
from mno.registry.settings import DATABASE, Workspace, is_embedded, use_workspace

_DELETED = "Deleted_Internal"  # MLflow keeps the row of a deleted version
_VERSIONS = (
    "SELECT name, version, creation_time, run_id, source FROM model_versions "
    f"WHERE current_stage IS NOT '{_DELETED}'"
)
_TAGS = "SELECT name, version, key, value FROM model_version_tags WHERE key LIKE 'mno.%'"


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

    def of(self, name: str) -> list[RegisteredVersion]:
        """Return the versions of one model, the latest first."""
        return [version for version in self.versions if version.name == name]


def read_catalogue(root: Path) -> Catalogue:
    """Read all registered versions; none where nothing was ever registered.

    Raises:
        MnoError: MLflow cannot be used.
    """
    root = root.resolve()
    if not is_embedded(root):
        return _ask_server(use_workspace(root))
    path = root / DATABASE
    if not path.exists():
        return Catalogue((), {}, _LocalFiles({}))
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return _read_database(database)
    except sqlite3.Error:  # no database, or of another version of MLflow: that says what is wrong
        return _ask_server(use_workspace(root))


def _read_database(database: sqlite3.Connection) -> Catalogue:
    tags: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for name, version, key, value in database.execute(_TAGS):
        tags[name, version][key] = value
    aliases: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, alias, version in database.execute(
        "SELECT name, alias, version FROM registered_model_aliases ORDER BY alias"
    ):
        aliases[name, version].append(alias)
    rows = database.execute(_VERSIONS)
    versions = [
        RegisteredVersion(
            name, version, created, run_id or None, source,
            tags.get((name, version), {}), tuple(aliases.get((name, version), ())),
        )
        for name, version, created, run_id, source in rows
    ]  # fmt: skip
    seals = database.execute(
        "SELECT name, value FROM registered_model_tags WHERE key = ?", [names.SEAL]
    )
    folders = database.execute("SELECT run_uuid, artifact_uri FROM runs")
    return Catalogue(_latest_first(versions), dict(seals), _LocalFiles(dict(folders)))


def _ask_server(workspace: Workspace) -> Catalogue:
    client = workspace.client
    aliases: dict[tuple[str, int], list[str]] = defaultdict(list)
    seals = {}
    models = _pages(client.search_registered_models)
    for model in models:
        for alias, version in sorted(model.aliases.items()):
            aliases[model.name, int(version)].append(alias)
        if names.SEAL in model.tags:
            seals[model.name] = model.tags[names.SEAL]
    versions = [
        RegisteredVersion(
            row.name, int(row.version), row.creation_timestamp, row.run_id or None, row.source,
            dict(row.tags), tuple(aliases.get((row.name, int(row.version)), ())),
        )
        for row in _pages(client.search_model_versions)
    ]  # fmt: skip
    return Catalogue(_latest_first(versions), seals, _DistantFiles(workspace))


def _pages(search):
    """Yield all that a search of MLflow's finds, page by page."""
    token = None
    while True:
        page = search(max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _latest_first(versions: list[RegisteredVersion]) -> list[RegisteredVersion]:
    return sorted(versions, key=lambda version: (-version.created, version.name, -version.number))


@dataclass(frozen=True)
class _LocalFiles:
    """Files that lie where the database says.

    Attributes:
        folders: Where the files of each run are, by the run's id.
    """

    folders: Mapping[str, str]

    def read(self, run_id: str, path: str) -> bytes | None:
        folder = local_folder(self.folders.get(run_id))
        try:
            return (folder / path).read_bytes() if folder else None
        except OSError:
            return None

    def signature(self, run_id: str, path: str) -> str | None:
        folder = _local_path(self.folders.get(run_id))
        try:
            found = os.stat(f"{folder}/{path}")
        except OSError:
            return None
        times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
        return f"{found.st_size} {times} {found.st_dev} {found.st_ino}"

    def names(self, run_id: str, folder: str) -> list[str]:
        place = local_folder(self.folders.get(run_id))
        if place is None or not (place / folder).is_dir():
            return []
        return sorted(f"{folder}/{path.name}" for path in (place / folder).iterdir())


def local_folder(uri: str | None) -> Path | None:
    """Return the folder that MLflow means; none where it is not on this machine."""
    path = _local_path(uri)
    return Path(path) if path is not None else None


def _local_path(uri: str | None) -> str | None:
    if not uri:
        return None
    if uri.startswith("/"):
        return uri
    parts = urlparse(uri)
    if parts.scheme not in ("", "file"):
        return None
    return unquote(parts.path) if parts.scheme else uri


@dataclass
class _DistantFiles:
    """Files that a server hands out; each is fetched once."""

    workspace: Workspace
    _kept: dict[tuple[str, str], bytes | None] = field(default_factory=dict)

    def read(self, run_id: str, path: str) -> bytes | None:
        if (run_id, path) not in self._kept:
            self._kept[run_id, path] = self._fetch(run_id, path)
        return self._kept[run_id, path]

    def signature(self, run_id: str, path: str) -> str | None:
        return None

    def names(self, run_id: str, folder: str) -> list[str]:
        try:
            return sorted(f.path for f in self.workspace.client.list_artifacts(run_id, folder))
        except Exception:  # as below
            return []

    def _fetch(self, run_id: str, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory(prefix="mno-lineage-") as folder:
            try:
                found = self.workspace.client.download_artifacts(run_id, path, folder)
                return Path(found).read_bytes()
            except Exception:  # any store's own error: it is not there, or cannot be reached
                return None
