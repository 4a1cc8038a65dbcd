"""How errors grow on data unlike those of the training, and what predictions do to the physics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.section import Section, render
from mno.report.sections.robustness import (
    frame_rate,
    growth,
    missing,
    noise,
    outside,
    physics,
    resolution,
)
from mno.report.sections.robustness.part import Part, reason

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Results

PARTS = {
    "noise": noise.part,
    "missing": missing.part,
    "resolution": resolution.part,
    "frame_rate": frame_rate.part,
    "outside": outside.part,
    "over_time": growth.part,
}


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was measured."""
    found: Any = results.metrics.get("physics")
    if not results.robustness and found is None:
        return None
    parts = [
        _part(name, results.robustness[name], words) for name in PARTS if name in results.robustness
    ]
    figures = tuple(part.figure for part in parts if part.figure)
    body = render(
        "robustness/section.html.j2",
        words,
        parts=parts,
        physics=None if found is None else physics.table(found, words),
    )
    return Section("robustness", words("title"), body, figures)


def _part(name: str, found: Any, words: Words) -> Part:
    title = words(f"kind.{name}")
    if isinstance(found, str):
        return Part(title, (words("not_tried", reason=reason(found, words)),))
    return PARTS[name](title, found, words)
