"""The seal of a registered version: what all record-keepers said of it when it was registered.

It holds the record, the version's and the run's rows in MLflow, the SHA-256 of every file of the
package and of the run, DVC's lock, the snapshot at registration, and the aliases after the
decision. Each seal names the one before it, so that the promotions of a model are a chain in which
none can be altered, left out or put in without breaking it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SCHEMA = 1
SEALS, CERTIFICATES = "seals", "certificates"  # folders among the files of a run
# What differs between two seals of the same facts.
_OF_THE_MOMENT = ("sealed", "previous")


@dataclass(frozen=True)
class SealPointer:
    """Where a seal lies.

    Attributes:
        run_id: The MLflow run among whose files it is.
        sha256: Of its bytes; also its name.
    """

    run_id: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.run_id}/{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> SealPointer | None:
        """Read what `str` wrote; none if it is something else."""
        run_id, slash, sha256 = text.partition("/")
        hexadecimal = set(run_id + sha256) <= set("0123456789abcdef")
        whole = slash and run_id and len(sha256) == 64 and hexadecimal
        return cls(run_id, sha256) if whole else None


def seal_path(pointer: SealPointer) -> str:
    """Return where in the files of its run a seal lies."""
    return f"{SEALS}/{pointer.sha256}.json"


@dataclass(frozen=True)
class Seal:
    """A seal as it was found.

    Attributes:
        pointer: Where it was looked for.
        content: What it holds; empty where it is missing or damaged.
        problem: Why there is no content.
    """

    pointer: SealPointer
    content: Mapping[str, Any]
    problem: str | None = None

    @property
    def version(self) -> int:
        """The version that it seals."""
        return int(self.content["number"])

    @property
    def previous(self) -> SealPointer | None:
        """Where the seal before it lies; none for the first."""
        text = self.content.get("previous")
        return SealPointer.parse(text) if text else None


def seal_text(content: Mapping[str, Any], previous: SealPointer | None) -> str:
    """Write a seal.

    Args:
        content: What is sealed, plain values.
        previous: The model's latest seal so far.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    full = {**content, "sealed": now, "previous": str(previous) if previous else None}
    return json.dumps(full, indent=1, sort_keys=True) + "\n"


def seal_sha256(text: str | bytes) -> str:
    """Return the digest of a seal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def read_seal(pointer: SealPointer, text: bytes | None) -> Seal:
    """Read a seal and hold it against the digest in its pointer.

    Args:
        pointer: Where it lies.
        text: Its bytes; none where there are none.
    """
    if text is None:
        return Seal(pointer, {}, "missing")
    if seal_sha256(text) != pointer.sha256:
        return Seal(pointer, {}, "changed")
    content = json.loads(text)  # of the digest that we wrote
    if content.get("schema") != SCHEMA:
        return Seal(pointer, {}, f"of schema {content.get('schema')}")
    return Seal(pointer, content)


def same_facts(seal: Seal, content: Mapping[str, Any]) -> bool:
    """Tell whether a seal holds just what would be sealed now."""
    held = {k: v for k, v in seal.content.items() if k not in _OF_THE_MOMENT}
    return seal.problem is None and _canonical(held) == _canonical(content)


def differences(expected: Any, found: Any) -> list[tuple[str, str | None, str | None]]:
    """Compare two plain values, leaf by leaf.

    Returns:
        For each leaf that differs its path and both values as JSON; None where there is none.
    """
    ours, theirs = dict(_leaves(expected)), dict(_leaves(found))
    return [
        (path, ours.get(path), theirs.get(path))
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    ]


def _leaves(value: Any, path: str = "") -> Any:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path} {key}".strip())
    else:
        yield path, _canonical(value)  # as text, since NaN differs from itself


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
