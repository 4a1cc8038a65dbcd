"""What the registry says of a version, as plain values: rows that matter, and files' digests.

The same function reads it when a version is sealed and when it is audited. It reads files where
they lie, since MLflow's own download leaves a note in the folder of a package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from mno.registry import names
from mno.registry.digest import package_files
from mno.registry.settings import Workspace, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

SEALS, CERTIFICATES = "seals", "certificates"
CERTIFICATE = "mno.certificate"  # tag of a version: which certificate was made of it last
_OURS = "mno."
# Of who works on a run, not of what came of it.
_PASSING = ("mno.owner", "mno.state", "mno.workspace")
_MEASURED_MACHINE = "system/"


def read_facts(workspace: Workspace, name: str, version: int, scratch: Path) -> dict[str, Any]:
    """Read what the registry holds of a version.

    Args:
        workspace: The MLflow to ask.
        name: The registered model.
        version: The version's number.
        scratch: Where files of a distant store are copied to.

    Returns:
        `version`, `logged_model` (none where there is none), `package` (SHA-256 by file; none where
        its files cannot be read), `run` (none where there is none).

    Raises:
        MlflowException: There is no such version.
    """
    row = workspace.client.get_model_version(name, str(version))
    package = package_folder(workspace, row, scratch)
    return {
        "version": {
            "source": row.source,
            "files": workspace.client.get_model_version_download_uri(name, str(version)),
            "run": row.run_id,
            "created": row.creation_timestamp,
            "tags": _our_tags(row.tags, names.SEAL, CERTIFICATE),
        },
        "logged_model": _logged_model(workspace, row),
        "package": package_files(package) if package else None,
        "run": _run(workspace, row.run_id, scratch),
    }


def package_folder(workspace: Workspace, row: ModelVersion, scratch: Path) -> Path | None:
    """Return the folder with the files of a version; none where they cannot be read.

    A folder that holds no model is none either: the registry may name any, as large as a disk.
    """
    client = workspace.client
    uri = client.get_model_version_download_uri(row.name, str(row.version))
    folder = _folder(uri, scratch / "package")
    if folder is None or not any((folder / part).exists() for part in ("MLmodel", "artifacts")):
        return None
    return folder


def run_folder(workspace: Workspace, run_id: str | None, scratch: Path) -> Path | None:
    """Return the folder with the files of a run; none where they cannot be read."""
    run = _find_run(workspace, run_id)
    return _folder(run.info.artifact_uri, scratch / f"run-{run_id}") if run else None


def aliases(workspace: Workspace, name: str) -> dict[str, int]:
    """Return the version that each alias of a model stands for."""
    model = workspace.client.get_registered_model(name)
    return {alias: int(version) for alias, version in sorted(model.aliases.items())}


def _run(workspace: Workspace, run_id: str | None, scratch: Path) -> dict[str, Any] | None:
    run = _find_run(workspace, run_id)
    if run is None:
        return None
    folder = run_folder(workspace, run_id, scratch)
    client = workspace.client
    kept = [key for key in run.data.metrics if not key.startswith(_MEASURED_MACHINE)]
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in sorted(kept)}
    return {
        "id": run.info.run_id,
        "status": run.info.status,
        "begun": run.info.start_time,
        "ended": run.info.end_time,
        "tags": _our_tags(run.data.tags, *_PASSING),
        "params": dict(run.data.params),
        "metrics": {
            key: {
                "latest": run.data.metrics[key],
                "history": sorted([m.step, m.timestamp, repr(m.value)] for m in history),
            }
            for key, history in histories.items()
        },
        "datasets": sorted(
            [given.dataset.name, given.dataset.digest, given.dataset.source]
            for given in (run.inputs.dataset_inputs if run.inputs else ())
        ),
        "files": _run_files(folder) if folder else None,
    }


def _logged_model(workspace: Workspace, row: ModelVersion) -> dict[str, Any] | None:
    from mlflow.exceptions import MlflowException

    source = row.source or ""
    if not source.startswith("models:/"):
        return None
    try:
        model = workspace.client.get_logged_model(source.removeprefix("models:/"))
    except MlflowException:
        return None
    return {
        "name": model.name,
        "run": model.source_run_id,
        "status": str(model.status),
        "files": model.artifact_location,
        "tags": _our_tags(model.tags),
    }


def _find_run(workspace: Workspace, run_id: str | None) -> Run | None:
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        return workspace.client.get_run(run_id)
    except MlflowException:
        return None


def _our_tags(tags: Mapping[str, str], *without: str) -> dict[str, str]:
    return {k: v for k, v in sorted(tags.items()) if k.startswith(_OURS) and k not in without}


def _run_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a run's files, without what has digests of its own and comes later."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    inside = ((path.relative_to(folder), path) for path in sorted(paths))
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in inside
        if name.parts[0] not in (SEALS, CERTIFICATES)
    }


def _folder(uri: str | None, copies: Path) -> Path | None:
    """Return a local folder as it is, or a copy of a distant one."""
    if not uri:
        return None
    parts = urlparse(uri)
    if parts.scheme in ("", "file"):
        folder = Path(unquote(parts.path) if parts.scheme else uri)
        return folder if folder.is_dir() else None
    copied = copies / PurePosixPath(parts.path).name
    if not copied.is_dir():
        copies.mkdir(parents=True, exist_ok=True)
        # Any store's own error: nothing is there, or it cannot be reached.
        with suppress(Exception):
            import_mlflow().artifacts.download_artifacts(uri, dst_path=str(copies))
    return copied if copied.is_dir() else None
