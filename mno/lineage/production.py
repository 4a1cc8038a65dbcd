"""What was in production from when to when, by the sealed decisions of each model.

A seal is long, and a model may have had thousands. After its digest was checked, only what a
decision consists of is parsed (`mno.lineage.seal.seal_text` writes keys in order, the outermost
with one space before them), and that is kept in an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mno.lineage.decision import (
    BY_HAND,
    CHAMPION,
    Decision,
    History,
    decision_of,
    history_from,
    lost,
)
from mno.lineage.questions import Index, RegisteredVersion, RunFiles
from mno.lineage.seal import SealPointer, seal_path, seal_sha256


class Period(NamedTuple):
    """A time during which one version was the champion of its model, in UTC."""

    version: RegisteredVersion
    since: str | None  # none where no decision made it champion
    until: str | None  # none where it lasts, or is not known
    current: bool  # whether it has the alias now
    reason: str
    by: str | None = None


def periods(
    versions: Iterable[RegisteredVersion], seals: Mapping[str, str], files: RunFiles, index: Index
) -> tuple[list[Period], list[str]]:
    """Return who was champion of each model, the latest first, and what is not known of it.

    Args:
        versions: Versions of any models.
        seals: Where the latest seal of each model lies, as its tag says.
        files: The files of the runs.
        index: Keeps what was read.
    """
    by_model: dict[str, dict[int, RegisteredVersion]] = {}
    for version in versions:
        by_model.setdefault(version.name, {})[version.number] = version
    found: list[Period] = []
    problems: list[str] = []
    for name, made in sorted(by_model.items()):
        history = _history(SealPointer.parse(seals.get(name, "")), files, index)
        problems += [f"{name}: {history.problem}"] if history.problem else []
        of_model = []
        for reign in history.reigns:
            version, reason = made.get(reign.version), reign.reason
            if version is None:
                version = RegisteredVersion(name, reign.version, 0, None, None, {})
                reason = f"{reason} (the version was deleted since)"
            of_model.append(Period(version, reign.since, reign.until, False, reason, reign.by))
        found += _with_the_present(of_model, made.values())[::-1]
    return found, problems


def _with_the_present(found: list[Period], versions: Iterable[RegisteredVersion]) -> list[Period]:
    """Mark the period that lasts, or add one that no decision began."""
    current = next((version for version in versions if CHAMPION in version.aliases), None)
    if current is None:
        return found
    if found and found[-1].version == current and found[-1].until is None:
        return [*found[:-1], found[-1]._replace(current=True)]
    return [*found, Period(current, None, None, True, f"{BY_HAND}; mno audit says more")]


def _history(place: SealPointer | None, files: RunFiles, index: Index) -> History:
    """Return the history of a model, by its latest seal."""
    decisions: list[Decision] = []
    while place is not None:
        seal = place
        signature = files.signature(seal.run_id, seal_path(seal))
        read = index.kept(str(seal), signature, lambda s=seal: _read(s, files))
        if isinstance(read, str):
            return history_from(decisions, lost(seal, read))
        decisions.append(decision_of(read))
        place = SealPointer.parse(read["previous"] or "")
    return history_from(decisions, None)


def _read(seal: SealPointer, files: RunFiles) -> dict[str, Any] | str:
    """Return what a decision consists of in a seal, or what is wrong with that, for the index."""
    text = files.read(seal.run_id, seal_path(seal))
    if text is None or seal_sha256(text) != seal.sha256:
        return "missing" if text is None else "changed"
    return {
        **{key: _value(text, key) for key in ("number", "previous", "sealed")},
        "aliases": _inner(text, "aliases"),
        "version": {"tags": _inner(text, "version").get("tags", {})},
    }


def _value(text: bytes, key: str) -> Any:
    """Return the value of an outermost key that is written in one line."""
    mark = f'\n "{key}": '.encode()
    start = text.index(mark) + len(mark)
    return json.loads(text[start : text.index(b"\n", start)].removesuffix(b","))


def _inner(text: bytes, key: str) -> dict[str, Any]:
    """Return the object that is the value of an outermost key; an empty one is in one line."""
    mark, end = f'\n "{key}": '.encode(), b"\n }"
    start = text.find(mark + b"{\n")
    if start < 0:
        return {}
    return json.loads(text[start + len(mark) : text.index(end, start) + len(end)])
