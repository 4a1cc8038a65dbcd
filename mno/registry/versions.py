"""Versions of a registered model: finding the one of a lineage, and making it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mno.core.errors import MnoError
from mno.registry import names
from mno.registry.digest import package_digest
from mno.registry.packaging import TRUST_FILE, check_predictions, load_model, save_package
from mno.registry.reading import candidate_folder, damage
from mno.registry.request import Evaluated
from mno.registry.settings import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run


def find_version(
    workspace: Workspace, name: str, tags: Mapping[str, str], evaluated: Evaluated
) -> int | None:
    """Return the version of this lineage if there is one and it is whole; refresh its figures.

    A version that judges predictions by something else is another one.
    """
    client = workspace.client
    lineage = f"name = '{name}' AND tags.`{names.LINEAGE}` = '{tags[names.LINEAGE]}'"
    found = client.search_model_versions(lineage)
    for version in sorted(found, key=lambda version: -int(version.version)):
        number = int(version.version)
        if damage(workspace, name, number, version.tags.get(names.PACKAGE)):
            continue
        if _trust_in(f"models:/{name}/{number}") != evaluated.trust:
            continue
        if check_predictions(
            load_model(f"models:/{name}/{number}"), evaluated.inputs, evaluated.predictions
        ):
            continue
        for tag, value in tags.items():
            if version.tags.get(tag) != value:
                client.set_model_version_tag(name, str(number), tag, value)
        return number
    return None


def create_version(
    workspace: Workspace,
    run: Run,
    name: str,
    tags: Mapping[str, str],
    candidate: Path,
    evaluated: Evaluated,
) -> int:
    """Package, try, log, register, and try again under the final name.

    Returns:
        The version's number; it has no alias yet.

    Raises:
        MnoError: The package does not load, or does not predict what was evaluated.
    """
    from mlflow.exceptions import MlflowException

    client = workspace.client
    with tempfile.TemporaryDirectory(prefix="mno-register-") as scratch:
        folder = Path(scratch) / "model"
        save_package(candidate, evaluated.inputs, folder, evaluated.trust)
        _try(load_model(folder), evaluated)
        model_id = _log_model(workspace, run, name, folder, tags[names.LINEAGE])
        package = package_digest(folder)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run.info.run_id,
        model_id=model_id,
        tags={**tags, names.PACKAGE: package},
    )
    _try(load_model(f"models:/{name}/{version.version}"), evaluated)
    return int(version.version)


def _trust_in(uri: str) -> bytes | None:
    """Return what a version judges predictions by, if anything."""
    path = candidate_folder(uri).with_name(TRUST_FILE)
    return path.read_bytes() if path.is_file() else None


def _try(model: Any, evaluated: Evaluated) -> None:
    difference = check_predictions(model, evaluated.inputs, evaluated.predictions)
    if difference:
        raise MnoError(
            f"not registered: the packaged model does not predict what was evaluated: {difference}"
            "; models/candidate was changed after its evaluation: evaluate again, or train again"
        )


def _log_model(workspace: Workspace, run: Run, name: str, folder: Path, lineage: str) -> str:
    """Log a package as a model of the run; what an earlier attempt left there goes."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client, run_id = workspace.client, run.info.run_id
    used = {version.model_id for version in client.search_model_versions(f"name = '{name}'")}
    for old in client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'"
    ):
        if old.model_id not in used:
            client.delete_logged_model(old.model_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name=name, source_run_id=run_id, tags={names.LINEAGE: lineage}
    )
    content = Model.load(str(folder))
    content.run_id, content.model_id = run_id, logged.model_id
    content.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged.model_id
