"""Figure of how the error of a forecast grows from frame to frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.report.curves import HEIGHT, LEGEND, NARROW, PER_CENT, WIDE
from mno.report.figures import Figure
from mno.report.panels import labelled, mark_alone
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from mno.evaluation.errors import OverTime
    from mno.report.language import Words


def over_time(errors: OverTime, words: Words) -> Figure:
    """Return the figure of an evaluation's errors of single frames."""
    known = np.flatnonzero(~np.isnan(errors.baseline))  # else no sample has a true value there
    ends = known[[0, -1]] if known.size else (0, -1)
    first, last = (words.percent(float(errors.model[k])) for k in ends)
    left_out = words("over_time.left_out") if known.size < len(errors.times) else ""
    return Figure(
        name="error_over_time",
        title=words("over_time.title"),
        caption=words("over_time.caption", first=first, last=last, left_out=left_out),
        alt=words("over_time.alt", frames=len(errors.times), first=first, last=last),
        png=draw_over_time(errors, words),
        narrow=draw_over_time(errors, words, NARROW),
    )


def draw_over_time(errors: OverTime, words: Words, width: float = WIDE) -> bytes:
    """Draw the relative L2 of each predicted frame, of the model and of both baselines.

    Args:
        errors: What `evaluate` found.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    curves = [
        (errors.model, words("over_time.model"), PREDICTION_COLOUR, "-"),
        (errors.persistence, words("over_time.kept"), TRUTH_COLOUR, "--"),
        (errors.baseline, words("over_time.mean"), REFERENCE_COLOUR, ":"),
    ]
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        for values, label, colour, dashes in curves:
            ax.plot(errors.times, values, color=colour, ls=dashes, label=label, lw=1.7)
            mark_alone(ax, errors.times, values, colour)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(PER_CENT)
        ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.set_xlabel(labelled(words("over_time.time"), errors.units))
        ax.set_ylabel(words("over_time.error"))
        ax.legend(**LEGEND)
        return png_bytes(figure)
