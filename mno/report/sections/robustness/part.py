"""One part of the section, and the sentences that its parts have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mno.evaluation.robustness import reasons

if TYPE_CHECKING:
    from mno.report.figures import Figure
    from mno.report.language import Words

NOTABLE = 1.02  # times an error that another has to be, so that it counts as larger
_REASONS = {
    reasons.OFF: "off",
    reasons.NOTHING_LISTED: "nothing_listed",
    reasons.NO_STATES: "no_states",
    reasons.NO_PLACES: "no_places",
    reasons.OTHER_ON_EVERY_GRID: "other_on_every_grid",
    reasons.ONE_FRAME: "one_frame",
    reasons.FIXED_FRAMES: "fixed_frames",
    reasons.FORCED: "forced",
    reasons.NO_TIME: "no_time",
    reasons.NO_FRAME_LEFT: "no_frame_left",
    reasons.SOLVER_ON_POINTS: "solver_on_points",
    "no solver for imported data": "imported",
    "no residual is written for": "no_equation",
    "the residual takes differences between neighbours": "points",
}


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the section.

    Attributes:
        title: Its heading.
        sentences: What was found.
        figure: The curves; none where there are none.
    """

    title: str
    sentences: tuple[str, ...]
    figure: Figure | None = None


def reason(text: str, words: Words) -> str:
    """Return why something was not tried, in the language; what is not known, as it was written."""
    known = next((key for start, key in _REASONS.items() if text.startswith(start)), None)
    return words(f"reason.{known}") if known else text


def change(condition: str, before: float, after: float, words: Words) -> str:
    """Say what becomes of the model's error under a condition."""
    values = {"before": words.percent(before), "after": words.percent(after)}
    if not math.isfinite(after):
        return words("unusable", condition=condition, **values)
    rises = after > NOTABLE * before and values["after"] != values["before"]
    return words("rises" if rises else "stays", condition=condition, **values)


def against_guesses(curve: Any, at: int, words: Words) -> list[str]:
    """Say which guess without a model is as good at one level of a curve; nothing if none is."""
    model = curve["relative_l2"]["model"]["mean"][at]
    guesses = {
        who: curve["relative_l2"][who]["mean"][at]
        for who in ("mean_field", "persistence")
        if who in curve["relative_l2"]
    }
    better = {who: error for who, error in guesses.items() if not model < error}
    if not better:
        return []
    who = min(better, key=lambda name: better[name])
    return [words("no_better", guess=words(f"who.{who}"), error=words.percent(better[who]))]
