"""The registry as a service sees it: which version is named now, and loading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import InputError
from mno.lineage.record import candidate_digest
from mno.registry import names
from mno.registry.packaging import TRUST_FILE
from mno.registry.reading import candidate_folder, damage, find_version_of
from mno.registry.settings import import_mlflow, use_workspace

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate
    from mno.surrogate.trust.trust import Trust


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
        self._workspace, self._uri = use_workspace(root), uri
        find_version_of(self._workspace, uri)

    def named(self) -> str:
        """Return the address of the version, `models:/NAME/VERSION`.

        Raises:
            InputError: There is none.
        """
        found = find_version_of(self._workspace, self._uri)
        return f"models:/{found.name}/{found.version}"

    def load(self, uri: str) -> tuple[Surrogate, Mapping[str, np.ndarray], Trust | str]:
        """Load a version, after its files were checked, its example of inputs, and its trust.

        Args:
            uri: What `named` returned.

        Raises:
            InputError: Its files are missing or altered, or cannot be read.
        """
        from mno.surrogate.surrogate import Surrogate

        found = find_version_of(self._workspace, uri)
        number = int(found.version)
        problem = damage(self._workspace, found.name, number, found.tags.get(names.PACKAGE))
        if problem:
            raise InputError(problem)
        folder = candidate_folder(uri)
        import_mlflow()
        from mlflow.models import Model

        package = folder.parents[1]
        example: Any = Model.load(str(package)).load_input_example(str(package))
        given = {name: np.asarray(x) for name, x in example.items()}
        return Surrogate.load(folder), given, registered_trust(folder)


def registered_trust(folder: Path) -> Trust | str:
    """Return what a registered model's predictions are judged by; or, in one line, why nothing is.

    Args:
        folder: Of its candidate; the estimate lies beside it.
    """
    path = folder.with_name(TRUST_FILE)
    if not path.is_file():
        remedy = "registered before there was one; make one with: mno evaluate"
        return f"no error estimate: {remedy}"
    return trust_in(path, folder)


def trust_in(path: Path, folder: Path) -> Trust | str:
    """Return what a file says of the model in a folder; or, in one line, why it says nothing."""
    from mno.surrogate.trust.trust import Trust

    try:
        trust = Trust.read(path)
    except InputError as error:
        return f"no error estimate: {error}"
    if trust.model_sha256 != candidate_digest(folder):
        return f"no error estimate: {path} is of another model; make a new one with: mno evaluate"
    return trust
