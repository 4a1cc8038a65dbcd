"""Sealing a version when it is registered, and reading the chain of a model's seals."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError
from mno.lineage import rule
from mno.lineage.dvcfiles import locked_stages
from mno.lineage.record import Record
from mno.lineage.seal import (
    SCHEMA,
    Seal,
    SealPointer,
    read_seal,
    same_facts,
    seal_sha256,
    seal_text,
)
from mno.lineage.snapshot import take_snapshot
from mno.registry import names
from mno.registry.facts import SEALS, aliases, read_facts, run_folder
from mno.registry.settings import Workspace

_OF_A_DECISION = (names.RIVAL, names.RIVAL_L2, names.REASON, names.DECISION, rule.PROMOTION)


def seal_version(
    workspace: Workspace, name: str, version: int, record: Record, root: Path
) -> SealPointer:
    """Seal a version as the last act of registering it; the same facts are sealed once.

    A kill between two of the steps leaves what doing it again completes: the seal, then the
    model's pointer to it, then the version's.

    Args:
        workspace: The MLflow that it is registered in.
        name: The registered model.
        version: The version's number.
        record: Its completed lineage record.
        root: The folder whose code, parameters and `dvc.lock` made it.
    """
    client = workspace.client
    snapshot = take_snapshot(root)
    with tempfile.TemporaryDirectory(prefix="mno-seal-") as scratch:
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "model": name,
            "number": version,
            **read_facts(workspace, name, version, Path(scratch)),
            "record": dict(record),
            "lock": locked_stages(root),
            "snapshot": {
                "commit": snapshot.commit,
                "tree": snapshot.tree,
                "head": snapshot.head,
            },
            "aliases": aliases(workspace, name),
        }
        head = next(read_chain(workspace, name, Path(scratch)), None)
        latest = _own(workspace, name, version, head, Path(scratch))
    if latest is not None and same_facts(latest, content):
        pointer = latest.pointer
    else:
        pointer = _put(workspace, name, content, head)
    client.set_model_version_tag(name, str(version), names.SEAL, str(pointer))
    return pointer


def seal_decision(workspace: Workspace, name: str, version: int) -> SealPointer:
    """Seal what was decided on a version after it was registered.

    The new seal holds what the one before held of everything but the decision and the aliases: what
    was changed past the line since must not become right by it.

    Raises:
        MnoError: The version has no seal, or it cannot be relied on.
    """
    client = workspace.client
    with tempfile.TemporaryDirectory(prefix="mno-seal-") as scratch:
        head = next(read_chain(workspace, name, Path(scratch)), None)
        before = own_seal(workspace, name, version, Path(scratch))
    tags = client.get_model_version(name, str(version)).tags
    decided = {key: tags[key] for key in _OF_A_DECISION if key in tags}
    sealed = before.content["version"]
    content = {k: v for k, v in before.content.items() if k not in ("sealed", "previous")} | {
        "version": {**sealed, "tags": {**sealed["tags"], **decided}},
        "aliases": aliases(workspace, name),
    }
    same = head is not None and same_facts(head, content)
    pointer = head.pointer if same and head else _put(workspace, name, content, head)
    client.set_model_version_tag(name, str(version), names.SEAL, str(pointer))
    return pointer


def own_seal(workspace: Workspace, name: str, version: int, scratch: Path) -> Seal:
    """Return the latest seal of a version.

    Raises:
        MnoError: It has none, or it cannot be relied on.
    """
    head = next(read_chain(workspace, name, scratch), None)
    if head is not None and head.problem:
        raise MnoError(
            f"the latest seal of {name} is {head.problem} ({head.pointer}), so no decision can be "
            f"added to the chain; see: mno audit models:/{name}/{version}"
        )
    seal = _own(workspace, name, version, head, scratch)
    if seal is None or seal.problem:
        raise MnoError(
            f"version {version} of {name} has no seal that can be read "
            f"({seal.problem if seal else 'it was not registered to the end'}); register it again "
            "with: mno run"
        )
    return seal


def _put(
    workspace: Workspace, name: str, content: dict[str, Any], head: Seal | None
) -> SealPointer:
    """Add a seal to the chain of a model."""
    text = seal_text(content, head.pointer if head else None)
    pointer = SealPointer(content["run"]["id"], seal_sha256(text))
    workspace.client.log_text(pointer.run_id, text, f"{SEALS}/{pointer.sha256}.json")
    workspace.client.set_registered_model_tag(name, names.SEAL, str(pointer))
    return pointer


def _own(
    workspace: Workspace, name: str, version: int, head: Seal | None, scratch: Path
) -> Seal | None:
    """Return the latest seal of a version, which it may not name yet if a kill came between."""
    if head is not None and not head.problem and head.version == version:
        return head
    tag = workspace.client.get_model_version(name, str(version)).tags.get(names.SEAL, "")
    pointer = SealPointer.parse(tag)
    return read_one(workspace, pointer, scratch) if pointer else None


def read_chain(workspace: Workspace, name: str, scratch: Path) -> Iterator[Seal]:
    """Yield a model's seals, the latest first; one that is missing or damaged is the last.

    Args:
        workspace: The MLflow to ask.
        name: The registered model.
        scratch: Where files of a distant store are copied to.
    """
    tags = workspace.client.get_registered_model(name).tags
    pointer = SealPointer.parse(tags.get(names.SEAL, ""))
    while pointer is not None:
        seal = read_one(workspace, pointer, scratch)
        yield seal
        pointer = None if seal.problem else seal.previous


def read_one(workspace: Workspace, pointer: SealPointer, scratch: Path) -> Seal:
    """Read a seal where its pointer says."""
    folder = run_folder(workspace, pointer.run_id, scratch)
    path = folder / SEALS / f"{pointer.sha256}.json" if folder else None
    return read_seal(pointer, path.read_bytes() if path and path.is_file() else None)
