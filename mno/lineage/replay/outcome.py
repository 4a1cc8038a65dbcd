"""What a replay says of each thing that it made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Likeness(StrEnum):
    """How what was made again compares with what was recorded.

    `identical`: the same bytes, or the same figures to the last digit. `within tolerance`: close
    enough for another kind of machine. `different`: neither. `unknown`: there is nothing at hand to
    compare with.
    """

    IDENTICAL = "identical"
    CLOSE = "within tolerance"
    DIFFERENT = "different"
    UNKNOWN = "cannot be compared"


@dataclass(frozen=True)
class Item:
    """One thing that was made again.

    Attributes:
        name: For example `dataset` or `weights.safetensors`.
        likeness: The verdict.
        recorded: Digest of what was recorded; empty where nothing was.
        found: Digest of what was made.
        note: By how much it differs, or why it cannot be compared.
    """

    name: str
    likeness: Likeness
    recorded: str = ""
    found: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as plain values."""
        return {**asdict(self), "likeness": str(self.likeness)}


@dataclass(frozen=True)
class Change:
    """A fact of the environment or the machine that is another than at the time.

    Attributes:
        name: For example `cpu` or `torch`.
        recorded: What it was; none where there was nothing of the name.
        present: What it is; none where there is nothing of the name.
        matters: Whether the bits of a result may depend on it.
    """

    name: str
    recorded: str | None
    present: str | None
    matters: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.recorded or 'none'} → {self.present or 'none'}"


@dataclass(frozen=True)
class Outcome:
    """What a replay has come to.

    Attributes:
        stages: The stages that were run again, in their order.
        given: What was not made again but taken as it was recorded, its digests verified.
        packages: Packages that are not those of the record; none if those are not known.
        machine: Facts of the machine that are not those of the record.
        tolerance: What was allowed: text; says that bits had to be the same where nothing was.
        items: What was compared.
        folder: Where it was made; none where that was removed.
    """

    stages: Sequence[str]
    given: Sequence[str]
    packages: Sequence[Change] | None
    machine: Sequence[Change]
    tolerance: str
    items: Sequence[Item]
    folder: str | None = None

    @property
    def reproduced(self) -> bool:
        """Whether something was compared and nothing is different."""
        likenesses = {item.likeness for item in self.items}
        return Likeness.DIFFERENT not in likenesses and bool(likenesses - {Likeness.UNKNOWN})

    def count(self, likeness: Likeness) -> int:
        """Return how many items have a verdict."""
        return sum(item.likeness is likeness for item in self.items)

    def to_dict(self) -> Mapping[str, Any]:
        """Return it as plain values."""
        return {
            "reproduced": self.reproduced,
            "stages": list(self.stages),
            "given": list(self.given),
            "packages": None if self.packages is None else list(map(asdict, self.packages)),
            "machine": list(map(asdict, self.machine)),
            "tolerance": self.tolerance,
            "likenesses": {str(likeness): self.count(likeness) for likeness in Likeness},
            "items": [item.to_dict() for item in self.items],
            "folder": self.folder,
        }
