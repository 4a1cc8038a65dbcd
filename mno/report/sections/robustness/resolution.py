"""Other resolutions than that of the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.sections.robustness.drawing import draw_curves, drawn
from mno.report.sections.robustness.part import Part, against_guesses, change, reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words


def part(title: str, found: Any, words: Words) -> Part:
    """Return what coarser and finer points do."""
    levels, trained, solver = found["level"], found["trained"], found["solver"]
    errors = found["relative_l2"]["model"]["mean"]
    own = errors[levels.index(trained)]
    sentences = [words("resolution.what", samples=words.number(found["samples"]))]
    for at, points in enumerate(levels):
        if points != trained:
            numbers = {"points": words.number(points), "trained": words.number(trained)}
            condition = words("resolution.condition", **numbers)
            sentences.append(change(condition, own, errors[at], words))
            sentences += against_guesses(found, at, words)
    curves = dict(found["relative_l2"])
    if isinstance(solver, str):
        sentences.append(words("resolution.no_solver_error", reason=reason(solver, words)))
    else:
        curves["solver"] = solver
        listed = words.list(map(words.percent, solver["mean"]))
        grids = words.list(map(words.number, levels))
        sentences.append(words("resolution.solver", grids=grids, errors=listed))
    for points, why in found.get("absent", {}).items():
        sentences.append(words("left_out", what=points, reason=reason(why, words)))

    def draw(ax: Axes) -> None:
        draw_curves(ax, levels, curves, words)
        ax.set_xscale("log", base=2)
        ax.set_xticks(levels, [str(points) for points in levels])
        ax.minorticks_off()
        ax.axvline(trained, color="#6b6b6b", lw=0.8, alpha=0.6)
        ax.set_xlabel(words("resolution.axis"))

    figure = drawn(
        "resolution",
        title,
        words("resolution.caption", trained=words.number(trained)),
        sentences,
        draw,
    )
    return Part(title, tuple(sentences), figure)
