"""What one prediction listened to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.report.section import Section, render
from mno.report.sections.explainability.drawing import influence_figure

if TYPE_CHECKING:
    from mno.evaluation.influence import Influence
    from mno.report.language import Words
    from mno.report.results import Results


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nobody asked."""
    found = results.influence
    if found is None:
        return None
    drawn = influence_figure(found, results.schema, words)
    body = render(
        "explainability/section.html.j2",
        words,
        figure=drawn,
        finding=_finding(found, words),
        shares=_shares(found, results, words),
    )
    return Section("explainability", words("title"), body, (drawn,))


def _finding(found: Influence, words: Words) -> str:
    """Say how many points make up half of the influence."""
    weights = np.sort(found.total.ravel())[::-1]
    if not weights.any():
        return words("finding.none")
    half = int(np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())) + 1
    return words("finding.half", share=words.percent(half / weights.size))


def _shares(found: Influence, results: Results, words: Words) -> list[tuple[str, str]]:
    """Return the share that each input has in the influence, where there are several."""
    sizes = {name: float(size.sum()) for name, size in found.maps.items()} | found.scalars
    total = sum(sizes.values())
    if len(sizes) < 2 or not total:
        return []
    names = {field.name: field.long_name for field in results.schema.fields}
    return [(names[name], words.percent(size / total)) for name, size in sizes.items()]
