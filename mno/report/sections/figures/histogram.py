"""Figure of how the error is spread over the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from mno.evaluation.metrics import mean
from mno.report.curves import HEIGHT, LEGEND, NARROW, PER_CENT, WIDE
from mno.report.figures import Figure
from mno.report.style import PREDICTION_COLOUR, TRUTH_COLOUR, house_style, new_figure, png_bytes

if TYPE_CHECKING:
    from mno.evaluation.result import Evaluation
    from mno.report.language import Words

_MOST_BINS = 40


def histogram(evaluation: Evaluation, words: Words) -> Figure:
    """Return the figure of an evaluation's errors of single samples."""
    known = evaluation.measured
    errors = evaluation.relative_l2[known]
    baseline = mean(evaluation.baseline_relative_l2[known])
    finite = errors[np.isfinite(errors)]
    spread = words("histogram.no_spread")
    if finite.size:
        spread = words(
            "histogram.spread",
            best=words.percent(float(finite.min())),
            median=words.percent(float(np.median(finite))),
            worst=words.percent(float(finite.max())),
        )
    lost, without = errors.size - finite.size, int((~known).sum())
    left_out = words("histogram.lost", lost=lost, of=errors.size) if lost else ""
    left_out += words("histogram.without_truth", count=without) if without else ""
    return Figure(
        name="error_histogram",
        title=words("histogram.title"),
        caption=words("histogram.caption", spread=spread, left_out=left_out),
        alt=words("histogram.alt", count=errors.size, spread=spread),
        png=draw_histogram(errors, baseline, words),
        narrow=draw_histogram(errors, baseline, words, NARROW),
    )


def draw_histogram(errors: np.ndarray, baseline: float, words: Words, width: float = WIDE) -> bytes:
    """Draw how the per-sample relative L2 is spread, with its median and the baseline marked.

    Args:
        errors: Shape `(samples,)`; values that are not finite are left out.
        baseline: Mean relative L2 of predicting the mean field.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    finite = errors[np.isfinite(errors)]
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        if finite.size:
            bins = int(np.clip(1.5 * np.sqrt(finite.size), 1, _MOST_BINS))
            ax.hist(finite, bins=bins, color=TRUTH_COLOUR, edgecolor="white", linewidth=0.6)
            median = float(np.median(finite))
            ax.axvline(
                median,
                color="black",
                lw=1.5,
                label=words("histogram.median", error=words.percent(median)),
            )
        if np.isfinite(baseline):
            label = words("histogram.baseline", error=words.percent(baseline))
            ax.axvline(baseline, color=PREDICTION_COLOUR, lw=1.5, ls="--", label=label)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel(words("histogram.error"))
        ax.set_ylabel(words("histogram.samples"))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(**LEGEND)
        return png_bytes(figure)
