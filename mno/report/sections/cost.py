"""What predictions cost beside solving, and when the surrogate has paid for itself."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.report import style
from mno.report.language import Known, Words, unknown
from mno.report.page import Figure, Results, Section, figure_of, section_of


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured.

    Its figures show times, which differ from run to run, so they are not among the files.
    """
    cost, decision = results.cost, results.decision
    if not (cost and decision):
        return None
    compared, pays = cost["equal_error"], decision["break_even"]
    return section_of(
        words,
        [_equal_error_figure(compared, words), _break_even_figure(pays, words)],
        kept=False,
        cost=cost,
        pays=pays,
        why=unknown(pays, words),
    )


def _break_even_figure(found: Known, words: Words) -> Figure | None:
    """Return the figure; none where what a solve or the surrogate has cost is not known."""
    if found["solver_seconds"] is None or not found["total_spent"]:
        return None
    solves, said = found["solves"], words("plot.never")
    if solves is not None:
        said = words("plot.reached", solves=words.number(solves))
    drawn = style.curves(lambda ax: _draw_break_even(ax, found, words))
    return figure_of("break_even", words, "plot", drawn, said=said)


def _draw_break_even(ax: Axes, found: Known, words: Words) -> None:
    """Draw the computing, in hours, that a number of solves takes; mark where the lines cross."""
    spent, solver, surrogate, crossing = (
        found[key] for key in ("total_spent", "solver_seconds", "surrogate_seconds", "solves")
    )
    middle = crossing or max(spent / solver, 1.0)
    solves = np.geomspace(max(1.0, middle / 300), max(10.0, 30 * middle), 200)
    ax.loglog(solves, solves * solver / 3600, color=style.TRUTH_COLOUR, label=words("plot.solver"))
    ax.loglog(
        solves, (spent + solves * surrogate) / 3600, color=style.PREDICTION_COLOUR, ls="--",
        label=words("plot.surrogate"),
    )  # fmt: skip
    if crossing:
        label = words("plot.crossing", solves=words.number(crossing))
        ax.axvline(crossing, color=style.REFERENCE_COLOUR, lw=0.8, ls=":")
        ax.plot(crossing, crossing * solver / 3600, "o", color="black", label=label)
    style.finish(ax, words("plot.solves"), words("plot.hours"), lines="both", narrow=1)


def _equal_error_figure(compared: Known | Absent, words: Words) -> Figure | None:
    if isinstance(compared, Absent):
        return None
    drawn = style.curves(lambda ax: _draw_equal_error(ax, compared, words))
    told: Any = {name: words.number(compared[name]) for name in ("problems", "reference")}
    error = words.percent(compared["model"]["error"])
    key = compared.get("by", "grids")
    return figure_of("equal_error", words, key, drawn, error=error, **told)


def _draw_equal_error(ax: Axes, compared: Known, words: Words) -> None:
    curve, model = compared["curve"], compared["model"]
    times, errors = ([point[key] for point in curve] for key in ("ms", "error"))
    ax.plot(times, errors, "o-", color=style.TRUTH_COLOUR, lw=1.5, label=words("grids.solver"))
    for point in curve:
        ax.annotate(
            str(point["resolution"]), (point["ms"], point["error"]),
            xytext=(4, 4), textcoords="offset points", color=style.TRUTH_COLOUR,
        )  # fmt: skip
    if math.isfinite(model["error"]):
        mark = {"color": style.PREDICTION_COLOUR, "mec": "black", "ms": 8}
        ax.plot(model["ms"], model["error"], "D", label=words("grids.surrogate"), **mark)
    ax.set_xscale("log")
    if all(error > 0 for error in (*errors, model["error"])):
        ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(style.PER_CENT)
    style.grid(ax, "both", "both")
    style.finish(ax, words("grids.time"), words("grids.error"), per_cent="y", narrow=1)
