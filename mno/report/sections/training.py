"""What the model is, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mno.report.language import fact_rows
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.style import (
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    draw_legend,
)

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.page import Results


NARROW_SPREAD = 4.0
"""Largest over smallest error up to which a linear axis shows more than a logarithmic one."""


def losses(history: Mapping[str, Any], words: Words) -> Figure:
    """Return the figure of what training's `History.to_dict()` returns."""
    best, epochs = history["best_epoch"], len(history["epochs"])
    kept = words("losses.none") if best is None else words("losses.kept", best=best)
    return curve_figure(
        "loss_curves",
        words("losses.title"),
        words("losses.caption", epochs=epochs, kept=kept),
        words("losses.alt", epochs=epochs, kept=kept),
        lambda ax: draw_losses(ax, history, words),
    )


def draw_losses(ax: Axes, history: Mapping[str, Any], words: Words) -> None:
    """Draw the relative L2 on both splits by epoch, with the best epoch marked."""
    epochs, best = history["epochs"], history["best_epoch"]
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
    draw_legend(ax)


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


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    history = results.training
    figures = (losses(history, words),) if history else ()
    known = {}
    if history:
        known = {"epochs": len(history["epochs"]), "best_epoch": history["best_epoch"]}
    body = render(
        "training",
        words,
        figures=figures,
        model=fact_rows(results.model, words),
        training=fact_rows({**known, "settings": results.settings}, words),
    )
    return Section("training", words("title"), body, figures)
