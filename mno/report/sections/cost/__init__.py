"""What predictions cost beside solving, and when the surrogate has paid for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.reasons import told
from mno.report.section import Section, render
from mno.report.sections.cost.break_even import break_even_figure
from mno.report.sections.cost.equal_error import equal_error_figure
from mno.report.sections.cost.tables import break_even_rows, side_by_side, spent_rows

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Results


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured.

    Its figures are measured times, which differ from run to run, so they are in the page alone and
    not among the files, which are made of what the parameters determine.
    """
    cost, decision = results.cost, results.decision
    if not (cost and decision):
        return None
    figures = [
        equal_error_figure(cost["equal_error"], words),
        break_even_figure(decision["break_even"], words),
    ]
    body = render(
        "cost/section.html.j2",
        words,
        compared=side_by_side(cost, words),
        absent={
            name: told(cost[name], words)
            for name in ("solver", "equal_error")
            if isinstance(cost[name], str)
        },
        spent=spent_rows(cost["spent"], words),
        pays=break_even_rows(decision["break_even"], words),
        why=told(decision["break_even"]["why"] or "", words),
        figures=[figure for figure in figures if figure is not None],
    )
    return Section("cost", words("title"), body)
