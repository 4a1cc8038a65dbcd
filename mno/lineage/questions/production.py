"""What was in production from when to when, by the sealed decisions of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mno.lineage.history import BY_HAND, DECISION, REASON, Reign, history_of
from mno.lineage.questions.decisions import decisions
from mno.lineage.questions.index import Index
from mno.lineage.questions.version import RegisteredVersion, RunFiles
from mno.lineage.rule import CHAMPION

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
    versions: Iterable[RegisteredVersion], seals: Mapping[str, str], files: RunFiles, index: Index
) -> tuple[list[Period], list[str]]:
    """Return who was champion of each model, the latest first, and what is not known of it.

    Args:
        versions: Versions of any models.
        seals: Where the latest seal of each model lies.
        files: The files of the runs.
        index: Keeps what was read.
    """
    by_model: dict[str, list[RegisteredVersion]] = {}
    for version in versions:
        by_model.setdefault(version.name, []).append(version)
    found: list[Period] = []
    problems: list[str] = []
    for name, made in sorted(by_model.items()):
        history = history_of(decisions(seals.get(name, ""), files, index))
        problems += [f"{name}: {history.problem}"] if history.problem else []
        ordered = sorted(made, key=lambda version: version.number)
        sealed = bool(history.decisions)
        told = _of_seals(name, ordered, history.reigns) if sealed else _of_tags(ordered)
        found += _with_the_present(told, ordered)[::-1]
    return found, problems


def _of_seals(
    name: str, versions: list[RegisteredVersion], reigns: Sequence[Reign]
) -> list[Period]:
    """Return the periods that sealed decisions tell of, the first one first."""
    known = {version.number: version for version in versions}
    found = []
    for reign in reigns:
        version, reason = known.get(reign.version), reign.reason
        if version is None:
            version = RegisteredVersion(name, reign.version, 0, None, None, {})
            reason = f"{reason} ({_DELETED})"
        found.append(Period(version, reign.since, reign.until, False, reason, reign.by))
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
    return [*found, Period(current, None, None, True, f"{BY_HAND}; mno audit says more")]
