"""What predictions look like, and how their errors are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.section import Section, render
from mno.report.sections.figures.animation import animation
from mno.report.sections.figures.error_map import error_map
from mno.report.sections.figures.example import example_figure
from mno.report.sections.figures.histogram import histogram
from mno.report.sections.figures.over_time import over_time

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Results


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    found = results.evaluation
    figures = (
        *(example_figure(example, results.schema, words) for example in found.examples),
        *filter(None, [error_map(found, results.schema, words)]),
        *filter(None, [animation(found.example("median"), results.schema, words)]),
        *([over_time(found.over_time, words)] if found.over_time else []),
        histogram(found, words),
    )
    body = render("figures/section.html.j2", words, figures=figures)
    return Section("figures", words("title"), body, figures)
