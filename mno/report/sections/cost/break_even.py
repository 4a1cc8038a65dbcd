"""Figure of the break-even: what solver and surrogate have cost after a number of solves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.report.curves import HEIGHT, LEGEND, NARROW, WIDE
from mno.report.figures import Figure
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Known


def break_even_figure(found: Known, words: Words) -> Figure | None:
    """Return the figure; none where what a solve or the surrogate has cost is not known."""
    if found["solver_seconds"] is None or not found["total_spent"]:
        return None
    solves = found["solves"]
    said = (
        words("plot.never")
        if solves is None
        else words("plot.reached", solves=words.number(solves))
    )
    return Figure(
        name="break_even",
        title=words("plot.title"),
        caption=words("plot.caption", said=said),
        alt=words("plot.alt", said=said),
        png=draw_break_even(found, words),
        narrow=draw_break_even(found, words, NARROW),
    )


def draw_break_even(found: Known, words: Words, width: float = WIDE) -> bytes:
    """Draw the computing, in hours, that a number of solves takes; mark where the lines cross.

    Args:
        found: `break_even` of `reports/decision.json`, with the solver's time and what was spent.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    spent, solver, surrogate, crossing = (
        found[key] for key in ("total_spent", "solver_seconds", "surrogate_seconds", "solves")
    )
    middle = crossing or max(spent / solver, 1.0)
    solves = np.geomspace(max(1.0, middle / 300), max(10.0, 30 * middle), 200)
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        ax.loglog(solves, solves * solver / 3600, color=TRUTH_COLOUR, label=words("plot.solver"))
        ax.loglog(
            solves, (spent + solves * surrogate) / 3600, color=PREDICTION_COLOUR, ls="--",
            label=words("plot.surrogate"),
        )  # fmt: skip
        if crossing:
            label = words("plot.crossing", solves=words.number(crossing))
            ax.axvline(crossing, color=REFERENCE_COLOUR, lw=0.8, ls=":")
            ax.plot(crossing, crossing * solver / 3600, "o", color="black", label=label)
        ax.grid(color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.set_xlabel(words("plot.solves"))
        ax.set_ylabel(words("plot.hours"))
        ax.legend(**LEGEND | ({"ncols": 1} if width < WIDE else {}))
        return png_bytes(figure)
