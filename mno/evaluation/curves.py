"""Figures of a whole training or test split: learning curves and the histogram of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mno.evaluation.errors import OverTime
from mno.evaluation.panels import labelled, mark_alone
from mno.evaluation.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)
from mno.evaluation.words import percent

WIDE, NARROW = 7.2, 4.2  # inches, for a page and for a telephone
_HEIGHT = 3.4
_MOST_BINS = 40
LEGEND: dict[str, Any] = {  # above the axes, where it hides nothing
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 3,
    "frameon": False,
    "borderaxespad": 0.2,
    "columnspacing": 1.0,
    "handlelength": 1.5,
    "handletextpad": 0.5,
}
_PER_CENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g}\u202f%")


def draw_losses(history: Mapping[str, Any], width: float = WIDE) -> bytes:
    """Draw the relative L2 on training and validation split by epoch, with the best epoch marked.

    Args:
        history: `best_epoch` (or None) and `epochs`, a list of mappings with `epoch`,
            `train_relative_l2` and `validation_relative_l2`.
        width: Width of the figure in inches.
    """
    epochs, best = history["epochs"], history["best_epoch"]
    with house_style():
        figure = new_figure(width, _HEIGHT)
        ax = figure.add_subplot()
        _draw_curve(ax, epochs, "train_relative_l2", "training", TRUTH_COLOUR, "--")
        _draw_curve(ax, epochs, "validation_relative_l2", "validation", PREDICTION_COLOUR, "-")
        for record in epochs:
            value = record["validation_relative_l2"]
            if record["epoch"] == best and np.isfinite(value):
                mark = {"color": PREDICTION_COLOUR, "mec": "black", "ms": 7, "zorder": 3}
                ax.plot(best, value, "o", label=f"best epoch {best}: {percent(value)}", **mark)
        _use_percent(ax, logarithmic=any(_has_logarithm(record) for record in epochs))
        ax.grid(axis="y", which="both", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("epoch")
        ax.set_ylabel("relative L2")
        ax.legend(**LEGEND)
        return png_bytes(figure)


def draw_histogram(errors: np.ndarray, baseline: float, width: float = WIDE) -> bytes:
    """Draw how the per-sample relative L2 is spread, with its median and the baseline marked.

    Args:
        errors: Shape `(samples,)`; values that are not finite are left out.
        baseline: Mean relative L2 of predicting the mean field.
        width: Width of the figure in inches.
    """
    finite = errors[np.isfinite(errors)]
    with house_style():
        figure = new_figure(width, _HEIGHT)
        ax = figure.add_subplot()
        if finite.size:
            bins = int(np.clip(1.5 * np.sqrt(finite.size), 1, _MOST_BINS))
            ax.hist(finite, bins=bins, color=TRUTH_COLOUR, edgecolor="white", linewidth=0.6)
            median = float(np.median(finite))
            ax.axvline(median, color="black", lw=1.5, label=f"median {percent(median)}")
        if np.isfinite(baseline):
            label = f"predicting the mean field {percent(baseline)}"
            ax.axvline(baseline, color=PREDICTION_COLOUR, lw=1.5, ls="--", label=label)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(_PER_CENT)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("relative L2 of one sample")
        ax.set_ylabel("test samples")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(**LEGEND)
        return png_bytes(figure)


def draw_over_time(errors: OverTime, width: float = WIDE) -> bytes:
    """Draw the relative L2 of each predicted frame, of the model and of both baselines.

    Args:
        errors: What `evaluate` found.
        width: Width of the figure in inches.
    """
    curves = [
        (errors.model, "this model", PREDICTION_COLOUR, "-"),
        (errors.persistence, "last given frame", TRUTH_COLOUR, "--"),
        (errors.baseline, "mean field", REFERENCE_COLOUR, ":"),
    ]
    with house_style():
        figure = new_figure(width, _HEIGHT)
        ax = figure.add_subplot()
        for values, label, colour, dashes in curves:
            ax.plot(errors.times, values, color=colour, ls=dashes, label=label, lw=1.7)
            mark_alone(ax, errors.times, values, colour)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(_PER_CENT)
        ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.set_xlabel(labelled("time", errors.units))
        ax.set_ylabel("relative L2 of one frame")
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _draw_curve(
    ax: Axes, epochs: list[Mapping[str, Any]], key: str, label: str, colour: str, dashes: str
) -> None:
    numbers = [record["epoch"] for record in epochs]
    values = [record[key] for record in epochs]
    marker = "." if len(epochs) == 1 else ""
    ax.plot(numbers, values, color=colour, ls=dashes, lw=1.7, marker=marker, label=label)


def _has_logarithm(record: Mapping[str, Any]) -> bool:
    errors = (record["train_relative_l2"], record["validation_relative_l2"])
    return any(np.isfinite(error) and error > 0 for error in errors)


def _use_percent(ax: Axes, *, logarithmic: bool) -> None:
    if logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(_PER_CENT)
