"""What differs between two records, whether that was intended, and what may differ anyway.

What may differ between two runs of the same code is masked.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from fnmatch import fnmatchcase
from pathlib import Path

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


_TIME_UNITS = r"(?:ns|µs|ms|s|min|h|d|seconds?|minutes?|hours?|days?|秒|分|時間|日)"
_FINDING = r'(?P<kept>"subject": "{}[^{{}}]*?"found": ")[^"]*'

# Name, regular expression, and why it is no result. A group `kept` stays as it is.
MASKS: tuple[tuple[str, str, str], ...] = (
    ("folder", r"(?:/[\w.+-]+)*/mno-golden-[\w-]+(?:/\d+)?", "where a temporary workspace lies"),
    ("moment", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.]*(?:Z|[+-]\d\d:\d\d)?", "the clock"),
    ("day", r"\b\d{4}-\d\d-\d\d\b", "the clock"),
    ("id", r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "drawn anew for each run"),
    (
        "digest", r"(?<!md5:)\b(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32}(?!\.dir))\b",
        "a commit, a run, or a hash that covers code; files of data and weights have their own md5",
    ),
    ("ref", r"(?<=refs/mno/)[0-9a-f]+", "names a snapshot of code"),
    ("machine", r'(?P<kept>"machine": ")[^"]*', "the processor"),
    (
        "dependencies", r"\d+ files and folders of the snapshot",
        "how many modules a stage depends on",
    ),
    ("files", _FINDING.format("commit of the training"), "how many files the project has"),
    ("cost", r"(?<![\w.,])\d[\d\u202f.,]*\s?" + _TIME_UNITS + r"(?![\w/])", "a measured time"),
    ("cost", r"(?<![\w.,])\d[\d\u202f.,]*\s?(?:[KMG]iB|m?Wh|kWh)\b", "measured memory or energy"),
    (
        "throughput",
        r"(?P<kept>\n(?:Solutions per second|1秒あたりの解の数))[^\n<]*\n[^\n<]+\n[^\n<]+",
        "measured, with the fastest batch size in its name",
    ),
    ("cost", r"(?P<kept><cost>\n<cost>\n)\d[\d\u202f.,]*(?=\n)", "the price of measured times"),
    ("batch", r"\b\d+(?=(?: at a time| 件ずつ)\n)", "the batch size that was fastest"),
    ("commit", r"(?P<kept>\n(?:Commit|コミット)\n)[0-9a-f]{12}\b", "of a temporary workspace"),
)  # fmt: skip

_COMPILED = tuple((name, re.compile(pattern)) for name, pattern, _ in MASKS)


def mask(text: str) -> str:
    """Return a text without what may differ between runs; what is masked already stays so."""
    for name, pattern in _COMPILED:
        text = pattern.sub(lambda m, name=name: f"{m.groupdict().get('kept') or ''}<{name}>", text)
    return text
