"""Answers of `mno lineage` as tables for a person, with what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from flows.text_table import aligned
from mno.lineage.questions.affected import Verdict
from mno.lineage.questions.difference import Part, Side
from mno.lineage.questions.origins import Origin
from mno.lineage.questions.production import CHAMPION, Period
from mno.lineage.questions.version import RegisteredVersion

_SHOWN = 50  # rows; --json has them all
_HEAD = ("Model", "Version", "Alias", "Test error", "Registered")


def print_origin(origin: Origin, console: Console) -> None:
    """Show the versions that came from data."""
    if not origin.versions:
        console.print(f"No registered version came from {origin.asked}.")
    else:
        console.print(f"{_count(len(origin.versions), 'came', 'came')} from {origin.asked}\n")
        rows = [_row(version) for version in origin.versions]
        _print(console, _HEAD, rows)
    for md5, names in origin.files.items():
        console.print(f"In data {md5}: {', '.join(names[:3])}{' and more' if names[3:] else ''}")
    _print_unknown(
        console,
        {f"data {md5}": f"of {count} version(s); no list of its files is at hand"
         for md5, count in origin.unknown.items()},
    )  # fmt: skip
    if origin.versions:
        console.print(f"\nNext: mno audit {origin.versions[0].uri}")


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Show the versions that are affected, those in production first of all in the last lines."""
    console.print(f"If {verdict.asked} was bad:")
    if not verdict.affected:
        console.print("no registered version is affected.")
    else:
        console.print(f"{_count(len(verdict.affected), 'is', 'are')} affected\n")
        rows = [(*_row(f.version), ", ".join(f.stages), f.why) for f in verdict.affected]
        _print(console, (*_HEAD, "Stages", "Why"), rows)
    _print_unknown(console, verdict.unknown)
    champions = [f.version for f in verdict.affected if CHAMPION in f.version.aliases]
    if champions:
        named = ", ".join(version.uri for version in champions)
        console.print(f"\nIN PRODUCTION: {named}")
        console.print("Next: correct it and run again: mno run;  what it replaced: "
                      "mno lineage production")  # fmt: skip
    elif verdict.affected:
        console.print("\nNone of them is in production.")


def print_difference(before: Side, after: Side, parts: Sequence[Part], console: Console) -> None:
    """Show what changed between two versions, part by part."""
    one, other = before.version, after.version
    console.print(f"From {one.uri} to {other.uri}")
    for part in parts:
        console.print(f"\n{part.name}: {_size(part)}")
        if part.changes:
            head = ("", f"{one.name}/{one.number}", f"{other.name}/{other.number}")
            rows = [(f"  {c.subject}", _value(c.before), _value(c.after)) for c in part.changes]
            _print(console, head, rows)
        if part.changes and part.unknown:
            console.print(f"  cannot be known: {part.unknown}")
    if any(part.name == "code" and part.changes for part in parts):
        console.print(f"\nNext: git diff {before.snapshot} {after.snapshot}")
    else:
        console.print(f"\nNext: mno audit {other.uri}")


def print_production(found: Sequence[Period], problems: Sequence[str], console: Console) -> None:
    """Show who was champion from when to when."""
    if not found:
        console.print("No version was in production yet.\n\nNext: mno run")
        return
    rows = [
        (p.version.name, str(p.version.number), _time(p.since),
         "now" if p.current else _time(p.until), _error(p.version), p.by or "the rule", p.reason)
        for p in found
    ]  # fmt: skip
    _print(console, ("Model", "Version", "Since", "Until", "Test error", "By", "Why"), rows)
    for problem in problems:
        console.print(f"cannot be known: {problem}")
    current = next((period.version for period in found if period.current), None)
    if current is not None:
        console.print(f"\nNext: mno audit {current.uri}")


def difference_dict(before: Side, after: Side, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what `mno lineage diff --json` prints."""
    return {
        "before": before.version.to_dict(),
        "after": after.version.to_dict(),
        **{part.name: part.to_dict() for part in parts},
    }


def _size(part: Part) -> str:
    if part.changes:
        return "1 change" if len(part.changes) == 1 else f"{len(part.changes)} changes"
    return f"cannot be known: {part.unknown}" if part.unknown else "the same"


def _count(number: int, verb: str, verbs: str) -> str:
    return f"1 version {verb}" if number == 1 else f"{number} versions {verbs}"


def _row(version: RegisteredVersion) -> tuple[str, ...]:
    return (version.name, str(version.number), ", ".join(version.aliases), _error(version),
            _time(version.registered))  # fmt: skip


def _print(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(aligned(head, rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more; all of them: --json")


def _print_unknown(console: Console, unknown: Mapping[str, str]) -> None:
    for subject, why in list(unknown.items())[:_SHOWN]:
        console.print(f"cannot be known: {subject}: {why}")
    if len(unknown) > _SHOWN:
        console.print(f"… and {len(unknown) - _SHOWN} more; all of them: --json")


def _error(version: RegisteredVersion) -> str:
    return "" if version.relative_l2 is None else f"{version.relative_l2:.2%}"


def _time(text: str | None) -> str:
    return (text or "unknown").replace("T", " ").replace("+00:00", "")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
