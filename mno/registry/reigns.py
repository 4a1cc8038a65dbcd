"""The history of a model: which version was in production from when to when, and why.

It is read from the chain of seals, so that what it tells cannot be altered without breaking that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mno.lineage import rule
from mno.lineage.seal import Seal
from mno.registry import names

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Decided:
    """One decision, as it was sealed.

    Attributes:
        version: On which version.
        decision: `champion`, `challenger`, `waiting` or `refused`.
        how: `rule`, `manual`, `approval`, `rollback` or `refusal`; `unknown` in old seals.
        by: Who decided.
        reason: Why.
        at: When, ISO 8601.
        champion: The version that was champion afterwards.
        figures: What it was judged by.
    """

    version: int
    decision: str
    how: str
    by: str
    reason: str
    at: str
    champion: int | None
    figures: dict[str, Any]


@dataclass(frozen=True)
class Reign:
    """A version's time in production.

    Attributes:
        version: Which.
        since: From when, ISO 8601.
        until: To when; none while it lasts.
        how: How it came; see `Decided`.
        by: Who decided.
        reason: Why.
    """

    version: int
    since: str
    until: str | None
    how: str
    by: str
    reason: str


@dataclass(frozen=True)
class History:
    """All decisions on a model, and the reigns that came of them, the oldest first.

    Attributes:
        decisions: Also those that changed no champion.
        reigns: Of champions.
        problem: Why the history does not begin at the first decision; none if it does.
    """

    decisions: tuple[Decided, ...]
    reigns: tuple[Reign, ...]
    problem: str | None = None

    def before(self, champion: int | None) -> int | None:
        """Return the version to go back to from a champion: rolling back twice goes two back."""
        stack: list[int] = []
        for reign in self.reigns:
            if reign.how == "rollback" and reign.version in stack:
                stack = stack[: len(stack) - 1 - stack[::-1].index(reign.version)]
            stack.append(reign.version)
        earlier = stack[:-1] if stack and stack[-1] == champion else stack
        return next((version for version in reversed(earlier) if version != champion), None)


def history_of(chain: Sequence[Seal]) -> History:
    """Read the history of a model.

    Args:
        chain: What `read_chain` yields: the latest seal first.
    """
    broken = [seal for seal in chain if seal.problem]
    decisions: list[Decided] = []
    for seal in reversed(chain):
        if not seal.problem:
            found = _decided(seal)
            # A version may be sealed again for other reasons than a new decision.
            if not decisions or not _repeats(found, decisions):
                decisions.append(found)
    problem = None
    if broken:
        problem = f"a seal is {broken[0].problem} ({broken[0].pointer}): what was before is lost"
    return History(tuple(decisions), _reigns(decisions), problem)


def _decided(seal: Seal) -> Decided:
    tags = seal.content["version"]["tags"]
    figures = json.loads(tags.get(rule.PROMOTION, "{}"))
    return Decided(
        version=seal.version,
        decision=tags.get(names.DECISION, _UNKNOWN),
        how=figures.pop("how", _UNKNOWN),
        by=figures.pop("by", "the rule of the time"),
        reason=tags.get(names.REASON, ""),
        at=figures.pop("at", seal.content["sealed"]),
        champion=seal.content["aliases"].get(names.CHAMPION),
        figures=figures,
    )


def _repeats(found: Decided, decisions: Sequence[Decided]) -> bool:
    same = [d for d in decisions if d.version == found.version]
    return (
        bool(same)
        and decisions[-1].champion == found.champion
        and (same[-1].decision, same[-1].reason) == (found.decision, found.reason)
    )


def _reigns(decisions: Sequence[Decided]) -> tuple[Reign, ...]:
    reigns: list[Reign] = []
    for decided in decisions:
        lasting = bool(reigns) and reigns[-1].until is None
        if lasting and reigns[-1].version == decided.champion:
            continue
        if lasting:
            reigns[-1] = replace(reigns[-1], until=decided.at)
        if decided.champion is None:
            continue
        how, by, reason = decided.how, decided.by, decided.reason
        if decided.champion != decided.version:
            how, by, reason = _UNKNOWN, _UNKNOWN, "the alias was moved past the line"
        reigns.append(Reign(decided.champion, decided.at, None, how, by, reason))
    return tuple(reigns)
