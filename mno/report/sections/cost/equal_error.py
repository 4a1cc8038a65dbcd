"""Figure of accuracy against time: the solver on coarser and finer grids, and the surrogate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mno.report.curves import HEIGHT, LEGEND, NARROW, PER_CENT, WIDE
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


def equal_error_figure(compared: Known | str, words: Words) -> Figure | None:
    """Return the figure; none where the two were not compared."""
    if isinstance(compared, str):
        return None
    values = {
        "problems": words.number(compared["problems"]),
        "reference": words.number(compared["reference"]),
        "error": words.percent(compared["model"]["error"]),
    }
    return Figure(
        name="equal_error",
        title=words("grids.title"),
        caption=words("grids.caption", **values),
        alt=words("grids.alt", **values),
        png=draw_equal_error(compared, words),
        narrow=draw_equal_error(compared, words, NARROW),
    )


def draw_equal_error(compared: Known, words: Words, width: float = WIDE) -> bytes:
    """Draw the relative L2 against the time of one solution.

    Args:
        compared: `equal_error` of `reports/cost.json`.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    curve, model = compared["curve"], compared["model"]
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        times, errors = ([point[key] for point in curve] for key in ("ms", "error"))
        ax.plot(times, errors, "o-", color=TRUTH_COLOUR, lw=1.5, label=words("grids.solver"))
        for point in curve:
            ax.annotate(
                str(point["resolution"]), (point["ms"], point["error"]),
                xytext=(4, 4), textcoords="offset points", color=TRUTH_COLOUR,
            )  # fmt: skip
        if math.isfinite(model["error"]):
            mark = {"color": PREDICTION_COLOUR, "mec": "black", "ms": 8}
            ax.plot(model["ms"], model["error"], "D", label=words("grids.surrogate"), **mark)
        ax.set_xscale("log")
        if all(error > 0 for error in (*errors, model["error"])):
            ax.set_yscale("log")
        ax.yaxis.set_major_formatter(PER_CENT)
        ax.yaxis.set_minor_formatter(PER_CENT)
        ax.grid(color=REFERENCE_COLOUR, alpha=0.2, lw=0.5, which="both")
        ax.set_xlabel(words("grids.time"))
        ax.set_ylabel(words("grids.error"))
        ax.legend(**LEGEND | ({"ncols": 1} if width < WIDE else {}))
        return png_bytes(figure)
