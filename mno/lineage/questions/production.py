"""What was in production from when to when, by the sealed decisions of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mno.lineage.questions.decisions import Decision, decisions
from mno.lineage.questions.version import DECISION, REASON, RegisteredVersion, RunFiles

CHAMPION = "champion"
_BY_HAND = "the alias was moved past the recorded decisions; mno audit says more"
_DELETED = "the version was deleted since"


@dataclass(frozen=True)
class Period:
    """A time during which one version was the champion of its model.

    Attributes:
        version: The version.
        since: When it became champion, in UTC; none where no decision made it that.
        until: When that ended, in UTC; none where it lasts, or is not known.
        current: Whether it has the alias now.
        reason: The reason recorded with the decision.
        by: Who decided; none where that is not recorded.
    """

    version: RegisteredVersion
    since: str | None
    until: str | None
    current: bool
    reason: str
    by: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            **self.version.to_dict(),
            "since": self.since,
            "until": self.until,
            "current": self.current,
            "reason": self.reason,
            "by": self.by,
        }


def periods(
    versions: Iterable[RegisteredVersion], seals: Mapping[str, str], files: RunFiles
) -> tuple[list[Period], list[str]]:
    """Return who was champion of each model, the latest first, and what is not known of it.

    Args:
        versions: Versions of any models.
        seals: Where the latest seal of each model lies.
        files: The files of the runs.
    """
    by_model: dict[str, list[RegisteredVersion]] = {}
    for version in versions:
        by_model.setdefault(version.name, []).append(version)
    found: list[Period] = []
    problems: list[str] = []
    for name, made in sorted(by_model.items()):
        chain = list(decisions(seals.get(name, ""), files))
        problems += [f"{name}: {problem}" for problem in chain if isinstance(problem, str)]
        told = [decision for decision in chain[::-1] if isinstance(decision, Decision)]
        ordered = sorted(made, key=lambda version: version.number)
        reigns = _of_seals(name, ordered, told) if told else _of_tags(ordered)
        found += _with_the_present(reigns, ordered)[::-1]
    return found, problems


def _of_seals(name: str, versions: list[RegisteredVersion], told: list[Decision]) -> list[Period]:
    """Return the periods that sealed decisions tell of, the first one first."""
    known = {version.number: version for version in versions}
    found: list[Period] = []
    champion = None
    for decision in told:
        if decision.champion == champion:
            continue
        champion = decision.champion
        if found and found[-1].until is None:
            found[-1] = replace(found[-1], until=decision.at)
        if champion is None:
            continue
        is_own = champion == decision.version
        reason = decision.reason if is_own else _BY_HAND
        version = known.get(champion)
        if version is None:
            version = RegisteredVersion(name, champion, 0, None, None, {})
            reason = f"{reason} ({_DELETED})"
        by = decision.by if is_own else None
        found.append(Period(version, decision.at, None, False, reason, by))
    return found


def _of_tags(versions: list[RegisteredVersion]) -> list[Period]:
    """Return what the tags of versions say that were registered before seals were made."""
    decided = [version for version in versions if version.tags.get(DECISION) == CHAMPION]
    ends = [*(version.registered for version in decided[1:]), None]
    return [
        Period(version, version.registered, end, False, version.tags.get(REASON, ""))
        for version, end in zip(decided, ends, strict=False)
    ]


def _with_the_present(found: list[Period], versions: list[RegisteredVersion]) -> list[Period]:
    """Mark the period that lasts, or add one that no decision began."""
    current = next((version for version in versions if CHAMPION in version.aliases), None)
    if current is None:
        return found
    if found and found[-1].version == current and found[-1].until is None:
        return [*found[:-1], replace(found[-1], current=True)]
    return [*found, Period(current, None, None, True, _BY_HAND)]
