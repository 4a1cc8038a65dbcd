"""Whether registered versions are what they were: whole, loadable, predicting the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mno.core.errors import InputError, MnoError
from mno.lineage.questions.version import RegisteredVersion, RunFiles
from mno.registry import names
from mno.registry.recorded import CHECK_FILE, EVALUATION_FOLDER, Fields, parse_predictions
from mno.registry.settings import Workspace
from mno.registry.trying import try_version

_RECORDED = f"{EVALUATION_FOLDER}/{CHECK_FILE}"


@dataclass(frozen=True)
class Health:
    """What trying a version has shown.

    Attributes:
        verdict: `good`, `note` where nothing was recorded to compare with, or `problem`.
        detail: What was tried, or what is wrong.
    """

    verdict: Literal["good", "note", "problem"]
    detail: str


def try_health(workspace: Workspace, version: RegisteredVersion, files: RunFiles) -> Health:
    """Check the files of a version, load it, and let it predict what its evaluation predicted.

    Args:
        workspace: The MLflow that it is in.
        version: The version.
        files: The files of the runs.
    """

    def recorded() -> tuple[Fields, Fields] | None:
        content = files.read(version.run_id, _RECORDED) if version.run_id else None
        known = parse_predictions(content) if content is not None else None
        return known if known and known[1] else None

    package = version.tags.get(names.PACKAGE)
    try:
        trial = try_version(workspace, version.name, version.number, package, recorded)
    except InputError as error:
        return Health("problem", f"{error}; see: mno audit {version.uri}")
    except MnoError as error:
        return Health("problem", str(error))
    return Health("good" if trial.how == "compared" else "note", trial.what)
