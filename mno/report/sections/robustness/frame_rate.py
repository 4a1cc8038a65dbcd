"""Frames at half and at double the trained rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.sections.robustness.part import Part, change, reason

if TYPE_CHECKING:
    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return what slower and faster frames do."""
    sentences = [words("frame_rate.what")]
    for kind in ("half", "double"):
        curve = found[kind]
        condition = words(f"frame_rate.{kind}")
        if isinstance(curve, str):
            why = reason(curve, words)
            sentences.append(words("left_out", what=condition, reason=why))
        else:
            before, after = curve["relative_l2"]["model"]["mean"]
            sentences.append(change(condition, before, after, words))
    return Part(title, tuple(sentences))
