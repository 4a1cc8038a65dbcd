"""Missing sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.curves import PER_CENT
from mno.report.sections.robustness.drawing import draw_curves, drawn
from mno.report.sections.robustness.part import Part, against_guesses, change

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return what missing measurements do."""
    random, block = found["random"], found["block"]
    levels = random["level"]
    sentences = [words("missing.told" if found["told"] else "missing.filled")]
    for kind, curve in (("random", random), ("block", block)):
        errors = curve["relative_l2"]["model"]["mean"]
        if len(levels) > 1:
            condition = words(f"missing.{kind}", share=words.percent(levels[1]))
            sentences.append(change(condition, errors[0], errors[1], words))
    sentences += against_guesses(block, min(1, len(levels) - 1), words)
    curves = {**random["relative_l2"], "block": block["relative_l2"]["model"]}

    def draw(ax: Axes) -> None:
        draw_curves(ax, levels, curves, words)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.set_xlabel(words("missing.axis"))

    figure = drawn("missing", title, words("missing.caption"), sentences, draw)
    return Part(title, tuple(sentences), figure)
