"""Curves of errors by level, of the model and of what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
    from matplotlib.axes import Axes

    from mno.report.language import Words

LOOKS = {
    "model": (PREDICTION_COLOUR, "-", "o"),
    "block": (PREDICTION_COLOUR, "--", "s"),
    "persistence": (TRUTH_COLOUR, "--", "^"),
    "mean_field": (REFERENCE_COLOUR, ":", "v"),
    "interpolated": ("#009e73", "-.", "D"),
    "solver": ("#000000", ":", "x"),
}


def drawn(
    name: str, title: str, caption: str, found: Sequence[str], draw: Callable[[Axes], None]
) -> Figure:
    """Return a figure, drawn for a page and for the screen of a telephone.

    Args:
        name: Its own, after that of the section.
        title: Its heading.
        caption: What to look for.
        found: What it shows, in sentences.
        draw: Draws it.
    """
    pictures = []
    for width in (WIDE, NARROW):
        with house_style():
            figure = new_figure(width, HEIGHT)
            draw(figure.add_subplot())
            pictures.append(png_bytes(figure))
    return Figure(f"robustness_{name}", title, caption, " ".join(found), *pictures)


def draw_curves(
    ax: Axes, levels: Sequence[float], curves: dict[str, Any], words: Words, marks: bool = True
) -> None:
    """Draw errors with their intervals by level.

    Args:
        ax: Where to.
        levels: Along the horizontal axis.
        curves: `mean`, `low` and `high`, by who predicted.
        words: Those of the section.
        marks: Whether levels are marked, as few of them should be.
    """
    for who, curve in curves.items():
        colour, dashes, marker = LOOKS[who]
        mean, low, high = (_numbers(curve[key]) for key in ("mean", "low", "high"))
        ax.plot(
            levels, mean, color=colour, ls=dashes, lw=1.7, label=words(f"who.{who}"),
            marker=marker if marks else None, ms=4,
        )  # fmt: skip
        ax.fill_between(levels, low, high, color=colour, alpha=0.15, lw=0)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PER_CENT)
    ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_ylabel(words("error"))
    _legend(ax)


def draw_rows(ax: Axes, names: Sequence[str], curves: dict[str, Any], words: Words) -> None:
    """Draw errors with their intervals in rows, each of which has a name."""
    rows = np.arange(len(names))
    for shift, (who, curve) in zip((0.0, 0.18, -0.18), curves.items(), strict=False):
        colour, _, marker = LOOKS[who]
        mean, low, high = (_numbers(curve[key]) for key in ("mean", "low", "high"))
        ax.hlines(rows + shift, low, high, color=colour, alpha=0.5, lw=2.5)
        ax.plot(mean, rows + shift, marker, color=colour, ms=6, label=words(f"who.{who}"))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for row, name in zip(rows, names, strict=True):  # above its marks, so that long ones have room
        ax.text(0.01, row - 0.3, name, transform=ax.get_yaxis_transform(), va="bottom")
    ax.set_ylim(len(names) - 0.5, -0.8)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.grid(axis="x", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_xlabel(words("error"))
    _legend(ax)


def _legend(ax: Axes) -> None:
    """Explain the marks, in as many columns as there is room for."""
    figure = ax.get_figure()
    narrow = figure is None or figure.get_figwidth() < WIDE  # type: ignore[union-attr]
    ax.legend(**{**LEGEND, "ncols": 1 if narrow else 2})


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return values as an array, NaN where there is none or it is infinite."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isfinite(array), array, np.nan)
