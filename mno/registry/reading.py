"""Asking the registry: what is registered, whether it is whole, and the models in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.lineage.decision import CHAMPION
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import PACKAGED, Tag, candidate_digest
from mno.registry.catalogue import (
    Registry,
    find_alias,
    find_version_of,
    read_catalogue,
    registry_of,
)
from mno.registry.evidence import damage, find_model, package_folder
from mno.registry.settings import Workspace, import_mlflow, model_name

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate
    from mno.surrogate.trust.trust import Trust

TRUST_FILE = "trust.json"  # what predictions are judged by, beside the candidate in a package


def describe_registry(root: Path, scenario: str) -> list[dict[str, Any]]:
    """List the registered versions of a scenario's model, newest first.

    Returns:
        For each its `name`, `version`, `aliases`, `relative_l2` (none where it is not recorded)
        and `created` (local time).

    Raises:
        MnoError: MLflow cannot be used.
    """
    name = model_name(scenario)
    found = [version for version in read_catalogue(root).versions if version.name == name]
    return [
        {
            "name": name,
            "version": version.number,
            "aliases": list(version.aliases),
            "relative_l2": version.relative_l2,
            "created": _local_time(version.created),
        }
        for version in sorted(found, key=lambda version: -version.number)
    ]


def why_version_is_unusable(root: Path, registered: Mapping[str, Any]) -> str | None:
    """Say why the version that `registered.json` names cannot be relied on; none if it can.

    It can if it is in the registry, its files are those that were loaded and tried before it got
    its alias, byte for byte, and the model has a champion, unless it was decided that this version
    is none.

    Args:
        root: The workspace.
        registered: The content of `reports/registered.json`.

    Raises:
        MnoError: MLflow cannot be used.
    """
    name, number = registered.get("name"), registered.get("version")
    if not name or not number:
        return "it names no version"
    known = {version.uri: version for version in read_catalogue(root).versions}
    found = known.get(f"models:/{name}/{number}")
    if found is None:
        return f"version {number} of {name} is not in the registry"
    if found.tags.get(Tag.LINEAGE) != registered.get("lineage_sha256"):
        return f"version {number} of {name} is another model"
    registry = registry_of(Workspace(root))
    problem = damage(registry, found)
    expected = registered.get("decision", CHAMPION) == CHAMPION
    if problem is None and expected and find_alias(registry, name, CHAMPION) is None:
        return f"{name} has no champion"
    return problem


def candidate_folder(registry: Registry, version: RegisteredVersion) -> Path:
    """Return the folder of a version's candidate: the files that training wrote.

    Raises:
        InputError: They cannot be read.
    """
    folder = package_folder(registry, version)
    if folder is None or not (folder / PACKAGED).is_dir():
        raise InputError(f"{version.uri} cannot be read; see the names with: mno status")
    return folder / PACKAGED


def registered_folder(root: Path, uri: str) -> Path:
    """Return the folder of a registered model's candidate; its error estimate lies beside it.

    Args:
        root: The workspace whose registry is asked.
        uri: For example `models:/mno-darcy@champion`.

    Raises:
        InputError: There is no such model.
    """
    registry = registry_of(Workspace(root))
    return candidate_folder(registry, find_model(registry, uri))


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


def whole_version(root: Path, uri: str) -> tuple[str, Path]:
    """Return the version that an address stands for, after its files were checked.

    Args:
        root: The workspace whose registry is asked.
        uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Returns:
        Its address, `models:/NAME/VERSION`, and the folder of its candidate.

    Raises:
        InputError: It is no such URI, there is no such version, or its files are damaged.
        MnoError: MLflow cannot be used.
    """
    registry = registry_of(Workspace(root))
    found = find_version_of(registry, uri)
    problem = damage(registry, found)
    if problem:
        raise InputError(f"{uri}: {problem}; choose another")
    return found.uri, candidate_folder(registry, found)


class NamedModel:
    """A registered model by the name that clients know it by.

    Args:
        root: The workspace whose registry is asked.
        uri: `models:/NAME@ALIAS`, which may come to name another version, or
            `models:/NAME/VERSION`.

    Raises:
        InputError: It is no such address.
        MnoError: MLflow cannot be used.
    """

    def __init__(self, root: Path, uri: str) -> None:
        self._registry, self._uri = registry_of(Workspace(root)), uri
        find_version_of(self._registry, uri)

    def named(self) -> str:
        """Return the address of the version, `models:/NAME/VERSION`.

        Raises:
            InputError: There is none.
        """
        return find_version_of(self._registry, self._uri).uri

    def load(self, uri: str) -> tuple[Surrogate, Mapping[str, np.ndarray], Trust | Absent]:
        """Load a version, after its files were checked, its example of inputs, and its trust.

        Args:
            uri: What `named` returned.

        Raises:
            InputError: Its files are missing or altered, or cannot be read.
        """
        from mno.surrogate.surrogate import Surrogate

        found = find_version_of(self._registry, uri)
        problem = damage(self._registry, found)
        if problem:
            raise InputError(problem)
        folder = candidate_folder(self._registry, found)
        import_mlflow()
        from mlflow.models import Model

        package = folder.parents[1]
        example: Any = Model.load(str(package)).load_input_example(str(package))
        given = {name: np.asarray(x) for name, x in example.items()}
        return Surrogate.load(folder), given, registered_trust(folder)


def registered_trust(folder: Path) -> Trust | Absent:
    """Return what a registered model's predictions are judged by; or why nothing is.

    Args:
        folder: Of its candidate; the estimate lies beside it.
    """
    path = folder.with_name(TRUST_FILE)
    if not path.is_file():
        return Absent("estimate.older")
    return trust_in(path, folder)


def trust_in(path: Path, folder: Path) -> Trust | Absent:
    """Return what a file says of the model in a folder; or why it says nothing."""
    from mno.surrogate.trust.trust import Trust

    try:
        trust = Trust.read(path)
    except InputError as error:
        return Absent("estimate.fails", {"error": error})
    if trust.model_sha256 != candidate_digest(folder):
        return Absent("estimate.other_model", {"path": path})
    return trust


def _local_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
