"""What the report does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.evaluation.report.section import Section, render

if TYPE_CHECKING:
    from mno.evaluation.report.language import Words
    from mno.evaluation.report.results import Results

_LIMITS = ("unlike", "nature", "single", "equation", "luck")


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    limits = [words(f"limit.{name}") for name in _LIMITS]
    return Section("limits", words("title"), render("limits/section.html.j2", words, limits=limits))
