"""What somebody is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

Kind = Literal["failure", "promotion", "refusal", "waiting", "missed", "test"]
KINDS: tuple[str, ...] = get_args(Kind)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: `failure` of a run, `promotion`, `refusal` (a version did not become champion),
            `waiting` (for a person's approval), `missed` (a scheduled run did not happen), `test`.
        title: What happened, a few words.
        text: The same with its reason, one or more lines.
        next_command: What to type next.
        figures: What it was decided by, plain values.
        workspace: The folder it happened in.
        time: When, ISO 8601 with the offset from UTC.
    """

    kind: Kind
    title: str
    text: str
    next_command: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    workspace: str = ""
    time: str = field(default_factory=_now)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "figures": dict(self.figures)}

    def to_text(self) -> str:
        """Return it as a person reads it, in lines."""
        figures = [f"{name}: {value}" for name, value in self.figures.items()]
        where = [f"Workspace: {self.workspace}"] if self.workspace else []
        parts = [self.text, *figures, f"Next: {self.next_command}", *where, f"Time: {self.time}"]
        return "\n".join(parts) + "\n"
