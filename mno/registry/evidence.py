"""Gathering what an audit looks at: a version in the registry, found by any of its names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mno.core.errors import InputError, MnoError
from mno.lineage.audit.evidence import Evidence
from mno.lineage.record import candidate_digest
from mno.lineage.seal import Seal, SealPointer
from mno.registry import names
from mno.registry.facts import aliases, package_folder, read_facts, run_folder
from mno.registry.reading import find_alias
from mno.registry.sealing import read_chain, read_one
from mno.registry.settings import DATABASE, Workspace, is_embedded, use_workspace
from mno.surrogate.surrogate import DESCRIPTION_FILE

_MODEL = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")
_RUN = re.compile(r"runs:/([0-9a-f]+)(?:/.*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PACKAGED = Path("artifacts/candidate")


def existing_workspace(root: Path) -> Workspace:
    """Return the MLflow of a workspace, without making one.

    Raises:
        InputError: There is none.
        MnoError: It cannot be used.
    """
    if is_embedded(root) and not (root / DATABASE).exists():
        raise InputError(
            f"{root} has no registry ({DATABASE}): audit where the model was registered, or set "
            "MLFLOW_TRACKING_URI to its registry"
        )
    return use_workspace(root)


def find_model(workspace: Workspace, target: str) -> tuple[str, int]:
    """Return name and number of the version that a person means.

    Args:
        workspace: The MLflow to ask.
        target: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/ID`, the folder of a model or
            the file of its weights.

    Raises:
        InputError: It is nothing of that, or nothing of that is registered.
    """
    model, run = _MODEL.fullmatch(target), _RUN.fullmatch(target)
    if model:
        return _named(workspace, *model.groups())
    if run:
        filter_string, what = f"run_id = '{run[1]}'", "run"
    elif target.startswith(("models:", "runs:")):
        raise InputError(
            f"{target!r}: expected models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID"
        )
    else:
        digest = candidate_digest(_candidate(Path(target)))
        filter_string, what = f"tags.`{names.CANDIDATE}` = '{digest}'", f"model ({digest[:12]})"
    found = workspace.client.search_model_versions(filter_string)
    if not found:
        raise InputError(
            f"{target}: no registered version is of this {what}: it was never registered, or its "
            "files were changed since; see what is registered with: mno status"
        )
    latest = max(found, key=lambda version: int(version.version))
    return latest.name, int(latest.version)


@contextmanager
def gather(
    workspace: Workspace,
    name: str,
    version: int,
    caches: Sequence[Path],
    originals: Sequence[Path] = (),
) -> Iterator[Evidence]:
    """Yield all that an audit of a version looks at; files of distant stores are copied meanwhile.

    Args:
        workspace: The MLflow to ask; its folder is the clone that snapshots are looked for in.
        name: The registered model.
        version: The version's number.
        caches: Folders of DVC caches.
        originals: Folders in which files that were imported may lie.
    """
    client = workspace.client
    with TemporaryDirectory(prefix="mno-audit-") as folder:
        scratch = Path(folder)
        row = client.get_model_version(name, str(version))
        chain = tuple(read_chain(workspace, name, scratch))
        tag = row.tags.get(names.SEAL)
        yield Evidence(
            root=workspace.root,
            name=name,
            version=version,
            facts=read_facts(workspace, name, version, scratch),
            aliases=aliases(workspace, name),
            versions={
                int(found.version): found.tags
                for found in client.search_model_versions(f"name = '{name}'")
            },
            chain=chain,
            seal=_own_seal(workspace, chain, version, tag, scratch),
            sealed_tag=tag,
            package=package_folder(workspace, row, scratch),
            run=run_folder(workspace, row.run_id, scratch),
            caches=tuple(caches),
            originals=tuple(originals),
        )


def model_with_digest(workspace: Workspace, sha256: str, scratch: Path) -> Path:
    """Return the folder of a registered model's candidate by the digest of its files.

    Args:
        workspace: The MLflow to ask.
        sha256: The digest, from a record that may hold anything.
        scratch: Where files of a distant store are copied to.

    Raises:
        MnoError: No registered version has it.
    """
    found = []
    if _DIGEST.fullmatch(str(sha256)):
        found = workspace.client.search_model_versions(f"tags.`{names.CANDIDATE}` = '{sha256}'")
    folders = (package_folder(workspace, row, scratch / str(row.version)) for row in found)
    for folder in folders:
        if folder is not None and (folder / _PACKAGED).is_dir():
            return folder / _PACKAGED
    raise MnoError(
        f"no version in the registry is the model that training started from ({sha256}), so that "
        "it cannot be made again here"
    )


def _own_seal(
    workspace: Workspace, chain: Sequence[Seal], version: int, tag: str | None, scratch: Path
) -> Seal | None:
    """Return a version's latest seal: that of the chain, or else the one that the version names."""
    for seal in chain:
        if not seal.problem and seal.version == version:
            return seal
    pointer = SealPointer.parse(tag or "")
    return read_one(workspace, pointer, scratch) if pointer else None


def _named(
    workspace: Workspace, name: str, number: str | None, alias: str | None
) -> tuple[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        found = (
            workspace.client.get_model_version(name, number)
            if number
            else find_alias(workspace.client, name, alias or "")
        )
    except MlflowException:
        found = None
    if found is None:
        uri = f"models:/{name}" + (f"/{number}" if number else f"@{alias}")
        raise InputError(f"{uri} is not in the registry; see what is with: mno status")
    return name, int(found.version)


def _candidate(path: Path) -> Path:
    """Return the folder of the candidate that a file or folder is, or holds.

    Raises:
        InputError: There is none.
    """
    for folder in (path, path.parent if path.is_file() else path / _PACKAGED):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    raise InputError(
        f"{path} holds no model (no {DESCRIPTION_FILE} beside the weights); give its folder, "
        "models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID"
    )
