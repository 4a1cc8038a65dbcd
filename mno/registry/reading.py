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
from mno.registry.catalogue import Registry, find_version_of, registry_of
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
    """
    found = registry_of(Workspace(root)).versions(model_name(scenario))
    return [
        {
            "name": version.name,
            "version": version.number,
            "aliases": list(version.aliases),
            "relative_l2": version.relative_l2,
            "created": f"{datetime.fromtimestamp(version.created / 1000):%Y-%m-%d %H:%M}",
        }
        for version in sorted(found, key=lambda version: -version.number)
    ]


def why_version_is_unusable(root: Path, registered: Mapping[str, Any]) -> str | None:
    """Say why the version that `registered.json` names cannot be relied on; none if it can.

    It can if it is in the registry, its files are those that were loaded and tried before it got
    its alias, byte for byte, and the model has a champion, unless it was decided that this version
    is none.
    """
    name, number = registered.get("name"), registered.get("version")
    if not name or not number:
        return "it names no version"
    registry = registry_of(Workspace(root))
    found = registry.find(name, number)
    if found is None:
        return f"version {number} of {name} is not in the registry"
    if found.tags.get(Tag.LINEAGE) != registered.get("lineage_sha256"):
        return f"version {number} of {name} is another model"
    problem = damage(registry, found)
    expected = registered.get("decision", CHAMPION) == CHAMPION
    if problem is None and expected and registry.find(name, alias=CHAMPION) is None:
        return f"{name} has no champion"
    return problem


def candidate_folder(registry: Registry, version: RegisteredVersion) -> Path:
    """Return the folder of a version's candidate: the files that training wrote."""
    folder = package_folder(registry, version)
    if folder is None or not (folder / PACKAGED).is_dir():
        raise InputError(f"{version.uri} cannot be read; see the names with: mno status")
    return folder / PACKAGED


def registered_folder(root: Path, uri: str) -> Path:
    """Return the folder of a registered model's candidate; its error estimate lies beside it."""
    registry = registry_of(Workspace(root))
    return candidate_folder(registry, find_model(registry, uri))


def load_surrogate(root: Path, uri: str) -> Surrogate:
    """Load a registered model, for example `models:/mno-darcy@champion`, as a surrogate."""
    from mno.surrogate.surrogate import Surrogate

    return Surrogate.load(registered_folder(root, uri))


def whole_version(root: Path, uri: str) -> tuple[str, Path]:
    """Return the version that an address stands for, after its files were checked.

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

    `models:/NAME@ALIAS` may come to name another version, `models:/NAME/VERSION` may not.
    """

    def __init__(self, root: Path, uri: str) -> None:
        self._registry, self._uri = registry_of(Workspace(root)), uri
        self.named()

    def named(self) -> str:
        """Return the address of the version, `models:/NAME/VERSION`."""
        return find_version_of(self._registry, self._uri).uri

    def load(self, uri: str) -> tuple[Surrogate, Mapping[str, np.ndarray], Trust | Absent]:
        """Load the version that `named` returned, after its files were checked.

        Returns:
            The model, its example of inputs, and its trust, or why there is none.
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
    """Return what the predictions of the registered candidate in a folder are judged by."""
    path = folder.with_name(TRUST_FILE)
    return trust_in(path, folder) if path.is_file() else Absent("estimate.older")


def trust_in(path: Path, folder: Path) -> Trust | Absent:
    """Return what a file says of the model in a folder."""
    from mno.surrogate.trust.trust import Trust

    try:
        trust = Trust.read(path)
    except InputError as error:
        return Absent("estimate.fails", {"error": error})
    if trust.model_sha256 != candidate_digest(folder):
        return Absent("estimate.other_model", {"path": path})
    return trust
