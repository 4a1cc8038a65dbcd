"""Sealing a version when it is registered, and again when something was decided on it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError
from mno.lineage.record import Record, Tag
from mno.lineage.seal import (
    SCHEMA,
    Seal,
    SealPointer,
    same_facts,
    seal_path,
    seal_sha256,
    seal_text,
)
from mno.lineage.snapshot import Snapshot
from mno.registry.catalogue import aliases, find_version_of, registry_of
from mno.registry.evidence import read_chain, read_facts, read_one
from mno.registry.settings import Workspace

_OF_A_DECISION = (Tag.RIVAL, Tag.RIVAL_L2, Tag.REASON, Tag.DECISION, Tag.JUDGED)


def seal_version(
    workspace: Workspace,
    name: str,
    number: int,
    record: Record,
    snapshot: Snapshot,
    lock: Mapping[str, Any],
) -> SealPointer:
    """Seal a version as the last act of registering it; the same facts are sealed once.

    A kill between two of the steps leaves what doing it again completes: the seal, then the
    model's pointer to it, then the version's. The lock is what `locked_stages` returned.
    """
    registry = registry_of(workspace)
    version = find_version_of(registry, f"models:/{name}/{number}")
    with tempfile.TemporaryDirectory(prefix="mno-seal-") as scratch:
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "model": name,
            "number": number,
            **read_facts(registry, version, Path(scratch)),
            "record": dict(record),
            "lock": lock,
            "snapshot": {key: getattr(snapshot, key) for key in ("commit", "tree", "head")},
            "aliases": aliases(registry, name),
        }
    return _put(workspace, content, *_latest(workspace, name, number))


def seal_decision(workspace: Workspace, name: str, number: int) -> SealPointer:
    """Seal what was decided on a version after it was registered.

    The new seal holds what the one before held of everything but the decision and the aliases: what
    was changed past the line since must not become right by it.
    """
    before, registry = own_seal(workspace, name, number), registry_of(workspace)
    head, _ = _latest(workspace, name, number)
    tags = find_version_of(registry, f"models:/{name}/{number}").tags
    decided = {str(key): tags[key] for key in _OF_A_DECISION if key in tags}
    sealed = before.content["version"]
    content = {k: v for k, v in before.content.items() if k not in ("sealed", "previous")} | {
        "version": {**sealed, "tags": {**sealed["tags"], **decided}},
        "aliases": aliases(registry, name),
    }
    return _put(workspace, content, head, head)


def own_seal(workspace: Workspace, name: str, number: int) -> Seal:
    """Return the latest seal of a version."""
    head, own = _latest(workspace, name, number)
    if head is not None and head.problem:
        raise MnoError(
            f"the latest seal of {name} is {head.problem} ({head.pointer}), so no decision can be "
            f"added to the chain; see: mno audit models:/{name}/{number}"
        )
    if own is None or own.problem:
        raise MnoError(
            f"version {number} of {name} has no seal that can be read "
            f"({own.problem if own else 'it was not registered to the end'}); register it again "
            "with: mno run"
        )
    return own


def keep_with_version(
    workspace: Workspace, uri: str, path: str, files: Mapping[str, bytes], tag: Tag, value: str
) -> str:
    """Keep files with a version's run, and name them in a tag of the version.

    The tag comes last: after a kill it names what was kept before, which is whole. A seal covers
    neither `CERTIFICATES` nor the tag of them, so that an audit looks at the same as before. Where
    the files are is returned, as `runs:/ID/PATH`.
    """
    from mlflow.exceptions import MlflowException

    version = find_version_of(registry_of(workspace), uri)
    if not version.run_id:
        raise MnoError(f"{uri} has no run to keep anything with")
    try:
        with tempfile.TemporaryDirectory(prefix="mno-kept-") as folder:
            for name, content in files.items():
                place = Path(folder, name)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(content)
            workspace.client.log_artifacts(version.run_id, folder, path)
        workspace.client.set_model_version_tag(version.name, str(version.number), tag, value)
    except (MlflowException, OSError) as error:
        raise MnoError(f"{path} cannot be kept in the registry: {error}") from None
    return f"runs:/{version.run_id}/{path}"


def _latest(workspace: Workspace, name: str, number: int) -> tuple[Seal | None, Seal | None]:
    """Return the latest seals of a model and of a version.

    The version may not name its own yet, if a kill came between.
    """
    registry = registry_of(workspace)
    tag = find_version_of(registry, f"models:/{name}/{number}").tags.get(Tag.SEAL, "")
    pointer = SealPointer.parse(tag)
    with tempfile.TemporaryDirectory(prefix="mno-seal-") as scratch:
        head = next(read_chain(registry, name, Path(scratch)), None)
        if head is not None and not head.problem and head.version == number:
            return head, head
        return head, read_one(registry, pointer, Path(scratch)) if pointer else None


def _put(
    workspace: Workspace, content: dict[str, Any], head: Seal | None, latest: Seal | None
) -> SealPointer:
    """Add a seal to the chain of a model, unless the latest holds just the same."""
    client, name = workspace.client, content["model"]
    if latest is not None and same_facts(latest, content):
        pointer = latest.pointer
    else:
        text = seal_text(content, head.pointer if head else None)
        pointer = SealPointer(content["run"]["id"], seal_sha256(text))
        client.log_text(pointer.run_id, text, seal_path(pointer))
        client.set_registered_model_tag(name, Tag.SEAL, str(pointer))
    client.set_model_version_tag(name, str(content["number"]), Tag.SEAL, str(pointer))
    return pointer
