"""What the model was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.language import fact_rows
from mno.report.page import Section, render

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.page import Results


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing is known."""
    if not results.lineage:
        return None
    rows = fact_rows(results.lineage, words)
    return Section("lineage", words("title"), render("lineage", words, rows=rows))
