"""Figure of the learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

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


NARROW_SPREAD = 4.0
"""Largest over smallest error up to which a linear axis shows more than a logarithmic one."""


def losses(history: Mapping[str, Any], words: Words) -> Figure:
    """Return the figure of what training's `History.to_dict()` returns."""
    best, epochs = history["best_epoch"], len(history["epochs"])
    kept = words("losses.none") if best is None else words("losses.kept", best=best)
    return Figure(
        name="loss_curves",
        title=words("losses.title"),
        caption=words("losses.caption", epochs=epochs, kept=kept),
        alt=words("losses.alt", epochs=epochs, kept=kept),
        png=draw_losses(history, words),
        narrow=draw_losses(history, words, NARROW),
    )


def draw_losses(history: Mapping[str, Any], words: Words, width: float = WIDE) -> bytes:
    """Draw the relative L2 on training and validation split by epoch, with the best epoch marked.

    Args:
        history: `best_epoch` (or None) and `epochs`, a list of mappings with `epoch`,
            `train_relative_l2` and `validation_relative_l2`.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    epochs, best = history["epochs"], history["best_epoch"]
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        _draw_curve(ax, epochs, "train_relative_l2", words("losses.train"), TRUTH_COLOUR, "--")
        _draw_curve(
            ax, epochs, "validation_relative_l2", words("losses.validation"), PREDICTION_COLOUR, "-"
        )
        for record in epochs:
            value = record["validation_relative_l2"]
            if record["epoch"] == best and np.isfinite(value):
                mark = {"color": PREDICTION_COLOUR, "mec": "black", "ms": 7, "zorder": 3}
                label = words("losses.best", best=best, error=words.percent(value))
                ax.plot(best, value, "o", label=label, **mark)
        _use_percent(ax, logarithmic=_spread(epochs) > NARROW_SPREAD)
        ax.grid(axis="y", which="both", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel(words("losses.epoch"))
        ax.set_ylabel(words("losses.error"))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _draw_curve(
    ax: Axes, epochs: list[Mapping[str, Any]], key: str, label: str, colour: str, dashes: str
) -> None:
    numbers = [record["epoch"] for record in epochs]
    values = [record[key] for record in epochs]
    marker = "." if len(epochs) == 1 else ""
    ax.plot(numbers, values, color=colour, ls=dashes, lw=1.7, marker=marker, label=label)


def _spread(epochs: list[Mapping[str, Any]]) -> float:
    """Return the largest error over the smallest one above zero; 1 where there is none."""
    keys = ("train_relative_l2", "validation_relative_l2")
    errors = [r[key] for r in epochs for key in keys if np.isfinite(r[key]) and r[key] > 0]
    return max(errors) / min(errors) if errors else 1.0


def _use_percent(ax: Axes, *, logarithmic: bool) -> None:
    if logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PER_CENT)
