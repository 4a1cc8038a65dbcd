"""The seal of a registered version: what all record-keepers said of it when it was registered.

It holds the record, the version's and the run's rows in MLflow, the SHA-256 of every file of the
package and of the run, DVC's lock, the snapshot at registration, and the aliases after the
decision. Each seal names the one before it, so that the promotions of a model are a chain in which
none can be altered, left out or put in without breaking it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from mno.core.files import sha256 as seal_sha256

SCHEMA = 1
SEALS = "seals"  # a folder among the files of a run
_OF_THE_MOMENT = ("sealed", "previous")  # what differs between two seals of the same facts
_POINTER = re.compile("([0-9a-f]+)/([0-9a-f]{64})")


class SealPointer(NamedTuple):
    """Where a seal lies: among the files of an MLflow run, by the digest of its bytes."""

    run_id: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.run_id}/{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote; none if it is something else."""
        match = _POINTER.fullmatch(text)
        return cls(*match.groups()) if match else None


def seal_path(pointer: SealPointer) -> str:
    """Return where in the files of its run a seal lies."""
    return f"{SEALS}/{pointer.sha256}.json"


@dataclass(frozen=True)
class Seal:
    """A seal as it was found; where it is missing or damaged it is empty and has a problem."""

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
        return SealPointer.parse(self.content.get("previous") or "")


def seal_text(content: Mapping[str, Any], previous: SealPointer | None) -> str:
    """Write a seal of plain values, after the model's latest seal so far."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    full = {**content, "sealed": now, "previous": str(previous) if previous else None}
    return json.dumps(full, indent=1, sort_keys=True) + "\n"


def read_seal(pointer: SealPointer, text: bytes | None) -> Seal:
    """Read the bytes of a seal, if there are any, and hold them against the pointer's digest."""
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


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Return the leaves of plain values as JSON, since NaN differs from itself, by their path."""
    if not isinstance(value, Mapping) or not value:
        return {path: _canonical(value)}
    inside = (leaves(item, f"{path} {key}".strip()) for key, item in value.items())
    return {name: text for found in inside for name, text in found.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
