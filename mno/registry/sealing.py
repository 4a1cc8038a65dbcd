"""Sealing a version when it is registered, and reading the chain of a model's seals."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        text = seal_text(content, head.pointer if head else None)
        pointer = SealPointer(content["run"]["id"], seal_sha256(text))
        client.log_text(pointer.run_id, text, f"{SEALS}/{pointer.sha256}.json")
        client.set_registered_model_tag(name, names.SEAL, str(pointer))
    client.set_model_version_tag(name, str(version), names.SEAL, str(pointer))
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
