"""The history of a model: which version was in production from when to when, and why.

It is read from the chain of seals, so that what it tells cannot be altered without breaking that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mno.lineage import rule
from mno.lineage.seal import Seal

DECISION, REASON = "mno.decision", "mno.decision_reason"
BY_HAND = "the alias was moved past the recorded decisions"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Decision:
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
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Reign:
    """A version's time in production.

    Attributes:
        version: Which.
        since: From when, ISO 8601.
        until: To when; none while it lasts.
        how: How it came; see `Decision`.
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

    decisions: tuple[Decision, ...]
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


def decision_of(sealed: Mapping[str, Any]) -> Decision:
    """Return the decision that a seal holds.

    Args:
        sealed: The seal's content; of it `number`, `sealed`, `aliases` and the version's tags.
    """
    tags = sealed["version"].get("tags") or {}
    figures = json.loads(tags.get(rule.PROMOTION, "{}"))
    champion = sealed["aliases"].get(rule.CHAMPION)
    return Decision(
        version=int(sealed["number"]),
        decision=tags.get(DECISION, UNKNOWN),
        how=figures.pop("how", UNKNOWN),
        by=figures.pop("by", "the rule of the time"),
        reason=tags.get(REASON, ""),
        at=figures.pop("at", sealed["sealed"]),
        champion=None if champion is None else int(champion),
        figures=figures,
    )


def decisions_of(chain: Iterable[Seal]) -> Iterator[Decision | str]:
    """Yield the decisions of a chain of seals, and a sentence where one is not whole.

    Args:
        chain: What `read_chain` yields: the latest seal first.
    """
    for seal in chain:
        yield decision_of(seal.content) if not seal.problem else lost(seal.pointer, seal.problem)


def lost(seal: object, problem: str) -> str:
    """Return what is said of a seal that cannot be read."""
    return f"the seal {seal} is {problem}: what was decided before is not known"


def history_of(told: Iterable[Decision | str]) -> History:
    """Read the history of a model.

    Args:
        told: The decisions, the latest first, and a sentence where a seal is not whole.
    """
    decisions: list[Decision] = []
    latest: dict[int, Decision] = {}
    problem = None
    for found in reversed(list(told)):
        if isinstance(found, str):
            problem = problem or found
            continue
        # A version may be sealed again for other reasons than a new decision.
        if decisions and _repeats(found, latest.get(found.version), decisions[-1]):
            continue
        decisions.append(found)
        latest[found.version] = found
    return History(tuple(decisions), _reigns(decisions), problem)


def _repeats(found: Decision, same: Decision | None, last: Decision) -> bool:
    return (
        same is not None
        and last.champion == found.champion
        and (same.decision, same.reason) == (found.decision, found.reason)
    )


def _reigns(decisions: Sequence[Decision]) -> tuple[Reign, ...]:
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
            how, by, reason = UNKNOWN, UNKNOWN, BY_HAND
        reigns.append(Reign(decided.champion, decided.at, None, how, by, reason))
    return tuple(reigns)
