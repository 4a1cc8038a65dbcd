"""What was in production from when to when, by the decisions recorded on the versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from mno.lineage.questions.version import DECISION, REASON, RegisteredVersion

CHAMPION = "champion"
_BY_HAND = "the alias was moved since, past these decisions; mno audit says what was decided"


@dataclass(frozen=True)
class Period:
    """A time during which one version was the champion of its model.

    Attributes:
        version: The version.
        since: When it was decided on, in UTC; none where no decision made it champion.
        until: When the next one took over, in UTC; none where that is not known or it is champion.
        current: Whether it has the alias now.
        reason: The reason recorded with the decision.
    """

    version: RegisteredVersion
    since: str | None
    until: str | None
    current: bool
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            **self.version.to_dict(),
            "since": self.since,
            "until": self.until,
            "current": self.current,
            "reason": self.reason,
        }


def periods(versions: Iterable[RegisteredVersion]) -> list[Period]:
    """Return who was champion of each model, the latest first.

    Args:
        versions: Versions of any models.
    """
    by_model = sorted(versions, key=lambda version: (version.name, version.number))
    found: list[Period] = []
    for _, group in groupby(by_model, key=lambda version: version.name):
        found += _of_model(list(group))
    return found


def _of_model(versions: list[RegisteredVersion]) -> list[Period]:
    decided = [version for version in versions if version.tags.get(DECISION) == CHAMPION]
    current = next((version for version in versions if CHAMPION in version.aliases), None)
    ends = [version.registered for version in decided[1:]] + [None]
    found = [
        Period(version, version.registered, end, version is current, version.tags.get(REASON, ""))
        for version, end in zip(decided, ends, strict=True)
    ]
    last = decided[-1] if decided else None
    if current is not None and current is not last:
        found = [
            Period(p.version, p.since, p.until, False, p.reason) if p.current else p for p in found
        ]
        found.append(Period(current, None, None, True, _BY_HAND))
    return found[::-1]
