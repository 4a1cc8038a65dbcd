"""The registry as a service sees it: which version is named now, and loading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.errors import InputError
from mno.registry import names
from mno.registry.reading import candidate_folder, damage, find_version_of
from mno.registry.settings import import_mlflow, use_workspace

if TYPE_CHECKING:
    from mno.surrogate import Surrogate


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

    def load(self, uri: str) -> tuple[Surrogate, Mapping[str, np.ndarray]]:
        """Load a version, after its files were checked, and the example of inputs in it.

        Args:
            uri: What `named` returned.

        Raises:
            InputError: Its files are missing or altered, or cannot be read.
        """
        from mno.surrogate import Surrogate

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
        return Surrogate.load(folder), {name: np.asarray(x) for name, x in example.items()}
