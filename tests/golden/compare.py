"""What differs between two records, and whether that was intended."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from fnmatch import fnmatchcase
from pathlib import Path

from tests.golden.masks import mask

DIGEST = "md5:"
_LONGEST = 80  # lines of a difference that are shown

Values = Mapping[str, str]


def read_intended(path: Path) -> dict[str, str]:
    """Read what may differ, as a shell's pattern of names in a record, and why it does."""
    changes = tomllib.loads(path.read_text(encoding="utf-8")).get("change", [])
    return {change["key"]: change["why"] for change in changes}


def differences(before: Values, after: Values) -> Iterator[tuple[str, str]]:
    """Give each name whose values differ, and how they do."""
    for key in sorted({*before, *after}):
        old, new = (mask(values[key]) if key in values else None for values in (before, after))
        if old is None or new is None:
            yield key, f"only {'after' if old is None else 'before'}"
        elif old != new:
            yield key, "other bytes" if DIGEST in (old[:4], new[:4]) else _diff(old, new)


def report(before: Values, after: Values, intended: Mapping[str, str]) -> bool:
    """Print what differs, and return whether all of that was intended."""
    used, good, count = set(), True, 0
    for key, difference in differences(before, after):
        patterns = [pattern for pattern in intended if fnmatchcase(key, pattern)]
        count, good = count + 1, good and bool(patterns)
        used.update(patterns)
        verdict = f"intended: {intended[patterns[0]]}" if patterns else "DIFFERS"
        print(f"{key}  {verdict}\n{difference}\n")
    for pattern, why in intended.items():
        if pattern not in used:
            print(f"intended, but nothing differs: {pattern} ({why})")
    print(f"{len({*before, *after})} compared, {count} differ; {'good' if good else 'NOT GOOD'}")
    return good


def _diff(old: str, new: str) -> str:
    lines = list(unified_diff(old.split("\n"), new.split("\n"), "before", "after", "", "", 2, ""))
    more = [f"… {len(lines) - _LONGEST} more lines"] if len(lines) > _LONGEST else []
    return "\n".join(lines[:_LONGEST] + more)
