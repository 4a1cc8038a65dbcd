"""Why a cost is not known, in the language of the report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mno.report.language import Words

_KNOWN = {
    r"no solver for imported data": "imported",
    r"not measured: evaluate\.economics\.comparison_seconds is 0": "off",
    r"not recorded: what this stage makes was not made here": "restored",
    r"no curve over grids: the points of this scenario": "points",
    r"no curve over grids: the same random .* differ by (?P<share>[^)]*)\)": "other_problem",
    r"no curve over grids: a problem would take up to (?P<seconds>\S+) s": "too_long",
    r"no time at equal error": "no_error",
}
_PART = re.compile("(data|training|learning_curve|evaluation) (?=not recorded:)")


def told(why: str, words: Words) -> str:
    """Return why something is not known, in the language; what has no words, as it was written.

    Args:
        why: From `reports/cost.json` or `reports/decision.json`; several parts of a break-even are
            joined by semicolons, each with its name before the reason.
        words: Of any section.
    """
    parts = why.split("; ") if _PART.match(why) else [why]
    return words.list(_told(part, words) for part in parts)


def _told(why: str, words: Words) -> str:
    part = _PART.match(why)
    reason = why[part.end() :] if part else why
    for pattern, key in _KNOWN.items():
        if found := re.match(pattern, reason):
            reason = words(f"why.{key}", **found.groupdict())
            break
    return words("nested", outer=words(f"part.{part[1]}"), inner=reason) if part else reason
