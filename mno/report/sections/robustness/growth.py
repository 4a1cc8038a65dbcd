"""The growth of errors over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.panels import labelled
from mno.report.sections.robustness.drawing import draw_curves, drawn
from mno.report.sections.robustness.part import Part, reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return how errors grow, and for how long predictions are usable."""
    within, beyond = found["within"], found["beyond"]
    shown = within if isinstance(beyond, str) else beyond
    unit = "" if found["unit"] == "1" else f"\u202f{found['unit']}"
    limit = words.percent(found["threshold"])
    sentences = [words("over_time.what", threshold=limit)]
    for who, usable in shown["usable"].items():
        sentences.append(_usable(who, usable, limit, unit, words))
    if isinstance(beyond, str):
        sentences.append(words("over_time.no_beyond", reason=reason(beyond, words)))

    def draw(ax: Axes) -> None:
        draw_curves(ax, shown["time"], shown["relative_l2"], words, marks=len(shown["time"]) < 15)
        ax.axhline(found["threshold"], color="#6b6b6b", lw=0.8, alpha=0.6)
        if shown is beyond:
            ax.axvline(found["trained_until"], color="#6b6b6b", lw=0.8, alpha=0.6)
        ax.set_xlabel(labelled(words("over_time.axis"), found["unit"]))

    caption = "over_time.caption_within" if shown is within else "over_time.caption_beyond"
    until = f"{words.setting(found['trained_until'])}{unit}"
    figure = drawn(
        "over_time",
        title,
        words(caption, threshold=limit, until=until),
        sentences,
        draw,
    )
    return Part(title, tuple(sentences), figure)


def _usable(who: str, usable: Any, limit: str, unit: str, words: Words) -> str:
    median, name = usable["median"], words(f"who.{who}")
    name = name[:1].upper() + name[1:]
    if median is None:
        reached = words.percent(usable["reached"])
        return words("over_time.not_reached", who=name, threshold=limit, reached=reached)
    low, high = (
        words("over_time.later") if end is None else words.setting(end)
        for end in (usable["low"], usable["high"])
    )
    return words(
        "over_time.reached",
        who=name,
        threshold=limit,
        time=f"{words.setting(median)}{unit}",
        low=low,
        high=high,
    )
