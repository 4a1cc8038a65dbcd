"""What the model is, and how it was trained."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.nn.backbones import BACKBONES
from mno.nn.mixers import MIXERS
from mno.report import style
from mno.report.language import Known, Words, fact_rows
from mno.report.page import Facts, Figure, Results, Section, figure_of, section_of

NARROW_SPREAD = 4.0  # of errors, up to which a linear axis shows more than a logarithmic one

_OF_BACKBONES = {
    "latent": ("patch", "cells", "local_width"),
    "gnot": ("experts", "perceptron_layers"),
    "galerkin": ("modes", "spectral_layers", "spectral_width"),
    "oformer": ("perceptron_layers", "latent_steps", "frequencies"),
    "fno": ("modes", "padding"),
    "unet": ("levels",),
}  # options of a model that one backbone alone has


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    history = results.training
    return section_of(
        words,
        losses(history, words) if history else None,
        Facts(words("model"), fact_rows(_of_the_model(results.model), words)),
        Facts(words("training"), fact_rows(results.settings, words)),
    )


def _of_the_model(model: Known) -> dict[str, Any]:
    """Return the facts of a model without the options of other backbones and mixers."""
    if (backbone := model.get("backbone")) not in BACKBONES:
        return dict(model)
    own = BACKBONES[backbone].own_mixers
    mixers = {name for m in model["mixer"] for name in (own if m == "own" else (m,))} if own else ()
    used = {option for name in mixers for option in MIXERS[name].options}
    used |= {"time_state", "expand"} if model.get("along_time") else set()
    used |= {"scale_delta"} if {"mamba", "ssd"} & set(mixers) else set()
    used |= set(_OF_BACKBONES.get(backbone, ())) | ({"mixer"} if own else set())
    options = {"mixer", "scale_delta", "time_state"}
    options |= {option for entry in MIXERS.values() for option in entry.options}
    options |= {option for options in _OF_BACKBONES.values() for option in options}
    return {name: value for name, value in model.items() if name in used or name not in options}


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
