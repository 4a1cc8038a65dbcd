"""What the model is, and how it was trained."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.report import style
from mno.report.language import Known, Words, fact_rows
from mno.report.page import Figure, Results, Section, figure_of, section_of

NARROW_SPREAD = 4.0  # of errors, up to which a linear axis shows more than a logarithmic one


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    history, known = results.training, {}
    if history:
        known = {"epochs": len(history["epochs"]), "best_epoch": history["best_epoch"]}
    return section_of(
        words,
        [losses(history, words)] if history else [],
        model=fact_rows(results.model, words),
        training=fact_rows({**known, "settings": results.settings}, words),
    )


def losses(history: Known, words: Words) -> Figure:
    """Return the figure of what training's `History.to_dict()` returns."""
    best, epochs = history["best_epoch"], len(history["epochs"])
    kept = words("losses.none") if best is None else words("losses.kept", best=best)
    drawn = style.curves(lambda ax: _draw_losses(ax, history, words))
    return figure_of("loss_curves", words, "losses", drawn, epochs=epochs, kept=kept)


def _draw_losses(ax: Axes, history: Known, words: Words) -> None:
    epochs, best = history["epochs"], history["best_epoch"]
    numbers, marker = [record["epoch"] for record in epochs], "." if len(epochs) == 1 else ""
    errors = []
    for split, colour, dashes in (
        ("train", style.TRUTH_COLOUR, "--"),
        ("validation", style.PREDICTION_COLOUR, "-"),
    ):
        values = [record[f"{split}_relative_l2"] for record in epochs]
        label = words(f"losses.{split}")
        ax.plot(numbers, values, color=colour, ls=dashes, lw=1.7, marker=marker, label=label)
        errors += [value for value in values if np.isfinite(value) and value > 0]
    for record in epochs:
        value = record["validation_relative_l2"]
        if record["epoch"] == best and np.isfinite(value):
            mark = {"color": style.PREDICTION_COLOUR, "mec": "black", "ms": 7, "zorder": 3}
            label = words("losses.best", best=best, error=words.percent(value))
            ax.plot(best, value, "o", label=label, **mark)
    if errors and max(errors) / min(errors) > NARROW_SPREAD:
        ax.set_yscale("log")
        style.log_ticks(ax.yaxis)
    style.grid(ax, which="both")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.finish(ax, words("losses.epoch"), words("losses.error"), per_cent="y")
