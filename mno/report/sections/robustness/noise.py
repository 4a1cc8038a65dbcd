"""Noise on the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.curves import PER_CENT
from mno.report.sections.robustness.drawing import draw_curves, drawn
from mno.report.sections.robustness.part import Part, against_guesses, change

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return what noise does."""
    levels, errors = found["level"], found["relative_l2"]["model"]["mean"]
    middle = (len(levels) + 1) // 2
    sentences = [words("noise.what", samples=words.number(found["samples"]))]
    for at in dict.fromkeys([middle, len(levels) - 1]):
        if at:
            condition = words("noise.condition", level=words.percent(levels[at]))
            sentences.append(change(condition, errors[0], errors[at], words))
    sentences += against_guesses(found, -1, words)

    def draw(ax: Axes) -> None:
        draw_curves(ax, levels, found["relative_l2"], words)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.set_xlabel(words("noise.axis"))

    figure = drawn("noise", title, words("noise.caption"), sentences, draw)
    return Part(title, tuple(sentences), figure)
