"""Decisions on versions: the rule of promotion, and the history that sealed decisions tell.

The registry applies the rule, and an audit applies it again. What was judged is a mapping that is
kept with the version (`Tag.JUDGED`):

- `standing`: `first` (there was no champion), `already` (it was the champion), `unusable` (the
  champion's files are gone or do not predict), `unreachable` (the champion could not be read from
  a server, perhaps for a while only) or `against` (it was compared with the champion);
- `approval`, `rule`, `margin`: as `params.yaml` had them;
- `gates`: of each indicator that had to be met, whether it was `met`, `missed`, `undecided` or
  `unknown`;
- `difference`: its error minus the champion's on the same samples; `interval`: the two ends of the
  interval of that, or why there is none; `champion_relative_l2`: the champion's error.

The history is read from the chain of seals, so that it cannot be altered without breaking that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mno.lineage.record import Tag
from mno.lineage.seal import Seal

CHAMPION, CHALLENGER, WAITING, REFUSED = "champion", "challenger", "waiting", "refused"
BY_RULE = "rule"
# What a person may do, and what the decision on the version then is.
BY_PERSON = {"manual": CHAMPION, "approval": CHAMPION, "rollback": CHAMPION, "refusal": REFUSED}
BY_HAND = "the alias was moved past the recorded decisions"
UNKNOWN = "unknown"


def verdict(judged: Mapping[str, Any]) -> str:
    """Return what the rule makes of a version: champion, challenger, or waiting for approval."""
    if judged["standing"] == "already":
        return CHAMPION
    if judged["standing"] == "unreachable" or failing(judged):
        return CHALLENGER
    if judged["standing"] == "against" and not is_better(judged):
        return CHALLENGER
    return WAITING if judged["approval"] == "human" else CHAMPION


def failing(judged: Mapping[str, Any]) -> list[str]:
    """Name the indicators that keep a version from becoming champion."""
    return [name for name, status in judged["gates"].items() if status in ("missed", "unknown")]


def is_better(judged: Mapping[str, Any]) -> bool:
    """Tell whether the error is lower than the champion's, as surely as the rule asks.

    With the rule `certain` the whole interval of the difference has to lie below -margin times the
    champion's error; with `likely` the difference itself.
    """
    limit = -judged["margin"] * judged["champion_relative_l2"]
    if judged["rule"] == "likely":
        return judged["difference"] < limit
    interval = judged["interval"]
    return not isinstance(interval, str) and interval[1] < limit


@dataclass(frozen=True)
class Decision:
    """One decision, as it was sealed."""

    version: int
    decision: str  # `champion`, `challenger`, `waiting` or `refused`
    how: str  # `rule`, `manual`, `approval`, `rollback` or `refusal`; `unknown` where that is lost
    by: str
    reason: str
    at: str  # ISO 8601
    champion: int | None  # the version that was champion afterwards
    figures: Mapping[str, Any]  # what it was judged by


@dataclass(frozen=True)
class Reign:
    """A version's time in production, ISO 8601; how it came is as for `Decision`."""

    version: int
    since: str
    until: str | None  # none while it lasts
    how: str
    by: str
    reason: str


@dataclass(frozen=True)
class History:
    """All decisions on a model, and the reigns that came of them, the oldest first."""

    decisions: tuple[Decision, ...]  # also those that changed no champion
    reigns: tuple[Reign, ...]
    problem: str | None = None  # why it does not begin at the first decision

    def before(self, champion: int | None) -> int | None:
        """Return the version to go back to from a champion: rolling back twice goes two back."""
        stack: list[int] = []
        for reign in self.reigns:
            if reign.how == "rollback" and reign.version in stack:
                stack = stack[: len(stack) - 1 - stack[::-1].index(reign.version)]
            stack.append(reign.version)
        earlier = stack[:-1] if stack and stack[-1] == champion else stack
        return next((version for version in reversed(earlier) if version != champion), None)


def _decision_of(sealed: Mapping[str, Any]) -> Decision:
    tags = sealed["version"].get("tags") or {}
    figures = json.loads(tags.get(Tag.JUDGED, "{}"))
    champion = sealed["aliases"].get(CHAMPION)
    return Decision(
        version=int(sealed["number"]), decision=tags.get(Tag.DECISION, UNKNOWN),
        how=figures.pop("how", UNKNOWN), by=figures.pop("by", UNKNOWN),
        reason=tags.get(Tag.REASON, ""), at=figures.pop("at", sealed["sealed"]),
        champion=None if champion is None else int(champion), figures=figures,
    )  # fmt: skip


def history_of(chain: Iterable[Seal]) -> History:
    """Read the history of a model from its seals, the latest first as `read_chain` yields them.

    A version may be sealed again for other reasons than a new decision.
    """
    decisions, problem = [], None
    for seal in chain:
        if seal.problem:
            problem = (
                f"the seal {seal.pointer} is {seal.problem}: what was decided before is not known"
            )
            break
        decisions.append(_decision_of(seal.content))
    kept: list[Decision] = []
    latest: dict[int, Decision] = {}
    for found in reversed(decisions):
        same = latest.get(found.version)
        told = (found.decision, found.reason, found.champion)
        if same is None or (same.decision, same.reason, kept[-1].champion) != told:
            kept.append(found)
            latest[found.version] = found
    return History(tuple(kept), _reigns(kept), problem)


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
