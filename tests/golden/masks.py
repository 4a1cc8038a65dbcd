"""What may differ between two runs of the same code, and what is put in its place."""

from __future__ import annotations

import re

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
)  # fmt: skip

_COMPILED = tuple((name, re.compile(pattern)) for name, pattern, _ in MASKS)


def mask(text: str) -> str:
    """Return a text without what may differ between runs; what is masked already stays so."""
    for name, pattern in _COMPILED:
        text = pattern.sub(lambda match, name=name: _kept(match) + f"<{name}>", text)
    return text


def _kept(match: re.Match[str]) -> str:
    return match.groupdict().get("kept") or ""
