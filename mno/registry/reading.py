"""Asking the registry: what is registered, whether it is whole, and the models in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mno.core.errors import InputError, first_line
from mno.registry import names
from mno.registry.digest import package_digest
from mno.registry.settings import DATABASE, Workspace, import_mlflow, is_embedded, use_workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from mno.surrogate.surrogate import Surrogate

_URI = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")


def describe_registry(root: Path, scenario: str) -> list[dict[str, Any]]:
    """List the registered versions of a scenario's model, newest first.

    Returns:
        For each its `name`, `version`, `aliases`, `relative_l2` (none where it is not recorded)
        and `created` (local time).

    Raises:
        MnoError: MLflow cannot be used.
    """
    if is_embedded(root) and not (root / DATABASE).exists():
        return []
    client = use_workspace(root).client
    name = names.model_name(scenario)
    aliases: dict[str, list[str]] = {}
    for model in client.search_registered_models(f"name = '{name}'"):
        for alias, version in model.aliases.items():
            aliases.setdefault(str(version), []).append(alias)
    found = client.search_model_versions(f"name = '{name}'", max_results=1000)
    return [
        {
            "name": name,
            "version": int(version.version),
            "aliases": sorted(aliases.get(str(version.version), [])),
            "relative_l2": _number(version.tags.get(names.RELATIVE_L2)),
            "created": _local_time(version.creation_timestamp),
        }
        for version in sorted(found, key=lambda version: -int(version.version))
    ]


def why_version_is_unusable(root: Path, registered: Mapping[str, Any]) -> str | None:
    """Say why the version that `registered.json` names cannot be relied on; none if it can.

    It can if it is in the registry, its files are those that were loaded and tried before it got
    its alias, byte for byte, and the model has a champion.

    Args:
        root: The workspace.
        registered: The content of `reports/registered.json`.

    Raises:
        MnoError: MLflow cannot be used.
    """
    from mlflow.exceptions import MlflowException

    name, version = registered.get("name"), registered.get("version")
    if not name or not version:
        return "it names no version"
    workspace = use_workspace(root)
    try:
        found = workspace.client.get_model_version(name, str(version))
    except MlflowException:
        return f"version {version} of {name} is not in the registry"
    if found.tags.get(names.LINEAGE) != registered.get("lineage_sha256"):
        return f"version {version} of {name} is another model"
    problem = damage(workspace, name, int(version), found.tags.get(names.PACKAGE))
    if problem:
        return problem
    if find_alias(workspace.client, name, names.CHAMPION) is None:
        return f"{name} has no champion"
    return None


def find_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that has an alias, if any has."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None  # no such alias; no such model
        raise


def damage(workspace: Workspace, name: str, version: int, digest: str | None) -> str | None:
    """Say whether the files of a version differ from those that were registered."""
    mlflow = import_mlflow()
    with TemporaryDirectory(prefix="mno-registry-") as copies:
        try:
            folder = mlflow.artifacts.download_artifacts(
                f"models:/{name}/{version}",
                dst_path=None if workspace.embedded else copies,
                tracking_uri=mlflow.get_tracking_uri(),
            )
        except Exception as error:  # missing files, or a store that cannot be reached
            return f"the files of version {version} of {name} cannot be read ({first_line(error)})"
        if package_digest(Path(folder)) != digest:
            return f"the files of version {version} of {name} are missing or altered"
    return None


def registered_folder(root: Path, uri: str) -> Path:
    """Return the folder of a registered model's candidate; its error estimate lies beside it.

    Args:
        root: The workspace whose registry is asked.
        uri: For example `models:/mno-darcy@champion`.

    Raises:
        InputError: There is no such model.
    """
    use_workspace(root)
    return candidate_folder(uri)


def load_surrogate(root: Path, uri: str) -> Surrogate:
    """Load a registered model as a surrogate.

    Args:
        root: The workspace whose registry is asked.
        uri: For example `models:/mno-darcy@champion`.

    Raises:
        InputError: There is no such model, or its files cannot be read.
    """
    from mno.surrogate.surrogate import Surrogate

    return Surrogate.load(registered_folder(root, uri))


def whole_version(root: Path, uri: str) -> str:
    """Return the URI of the version that another stands for, after its files were checked.

    Args:
        root: The workspace whose registry is asked.
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        InputError: It is no such URI, there is no such version, or its files are damaged.
        MnoError: MLflow cannot be used.
    """
    workspace = use_workspace(root)
    found = find_version_of(workspace, uri)
    problem = damage(workspace, found.name, int(found.version), found.tags.get(names.PACKAGE))
    if problem:
        raise InputError(f"{uri}: {problem}; choose another")
    return f"models:/{found.name}/{found.version}"


def find_version_of(workspace: Workspace, uri: str) -> ModelVersion:
    """Return the version that an address names.

    Args:
        workspace: Whose registry is asked.
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        InputError: It is no such address, or there is no such version.
    """
    from mlflow.exceptions import MlflowException

    match = _URI.fullmatch(uri)
    if match is None:
        raise InputError(f"{uri!r}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    name, number, alias = match.groups()
    client = workspace.client
    try:
        found = find_alias(client, name, alias) if alias else client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        found = None
    if found is None:
        raise InputError(f"{uri} is not in the registry; see what is with: mno status")
    return found


def candidate_folder(uri: str) -> Path:
    """Return the folder of a registered model's candidate: the files that training wrote.

    Args:
        uri: For example `models:/mno-darcy/3`, of the workspace in use.

    Raises:
        InputError: There is no such model.
    """
    mlflow = import_mlflow()
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    except Exception as error:
        raise InputError(
            f"{uri} cannot be read ({first_line(error)}); see the names with: mno status"
        ) from None
    return folder / "artifacts" / "candidate"


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _local_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
