"""Problems outside those of the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.sections.robustness.drawing import draw_rows, drawn
from mno.report.sections.robustness.part import Part, against_guesses, change, reason

if TYPE_CHECKING:
    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return what other parameters of the scenario do."""
    names = [_name(found["changed"][label], words) for label in found["level"]]
    rows = [
        words.name(label) if found["changed"][label] else words("outside.as_trained")
        for label in found["level"]
    ]  # short, as there is little room in a figure
    errors = found["relative_l2"]["model"]["mean"]
    sentences = [words("outside.what", samples=words.number(found["samples"]))]
    for at, name in enumerate(names):
        if at:
            condition = words("outside.condition", change=name)
            sentences.append(change(condition, errors[0], errors[at], words))
            sentences += against_guesses(found, at, words)
    for label, why in found.get("absent", {}).items():
        name = _name(found["changed"][label], words)
        sentences.append(words("left_out", what=name, reason=reason(why, words)))
    figure = drawn(
        "outside",
        title,
        words("outside.caption"),
        sentences,
        lambda ax: draw_rows(ax, rows, found["relative_l2"], words),
    )
    return Part(title, tuple(sentences), figure)


def _name(changed: Any, words: Words) -> str:
    """Return what was changed, `contrast 1 → 1.5`; of nothing, that it is as trained."""
    if not changed:
        return words("outside.as_trained")
    return ", ".join(
        f"{words.name(name)} {_value(was, words)} → {_value(value, words)}"
        for name, (was, value) in changed.items()
    )


def _value(value: Any, words: Words) -> str:
    return words.setting(value) if isinstance(value, int | float) else str(value)
