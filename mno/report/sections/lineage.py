"""What the model was made from."""

from mno.report.language import Words, fact_rows
from mno.report.page import Results, Section, section_of


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing is known."""
    if not results.lineage:
        return None
    return section_of(words, rows=fact_rows(results.lineage, words))
