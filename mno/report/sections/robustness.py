"""How errors grow on data unlike those of the training, and what predictions do to the physics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.panels import labelled
from mno.report.style import (
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    draw_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words
    from mno.report.page import Figure, Results


_LOOKS = {
    "model": (PREDICTION_COLOUR, "-", "o"),
    "block": (PREDICTION_COLOUR, "--", "s"),
    "persistence": (TRUTH_COLOUR, "--", "^"),
    "mean_field": (REFERENCE_COLOUR, ":", "v"),
    "interpolated": ("#009e73", "-.", "D"),
    "solver": ("#000000", ":", "x"),
}


def _draw_curves(
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
        colour, dashes, marker = _LOOKS[who]
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
    draw_legend(ax, 2, narrow=1)


def _draw_rows(ax: Axes, names: Sequence[str], curves: dict[str, Any], words: Words) -> None:
    """Draw errors with their intervals in rows, each of which has a name."""
    rows = np.arange(len(names))
    for shift, (who, curve) in zip((0.0, 0.18, -0.18), curves.items(), strict=False):
        colour, _, marker = _LOOKS[who]
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
    draw_legend(ax, 2, narrow=1)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return values as an array, NaN where there is none or it is infinite."""
    array = np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


NOTABLE = 1.02  # times an error that another has to be, so that it counts as larger


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


def _part_with_figure(
    name: str, title: str, caption: str, sentences: list[str], draw: Callable[[Axes], None]
) -> Part:
    figure = curve_figure(f"robustness_{name}", title, caption, " ".join(sentences), draw)
    return Part(title, tuple(sentences), figure)


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


def _frame_rate(title: str, found: Any, words: Words) -> Part:
    """Return what slower and faster frames do."""
    sentences = [words("frame_rate.what")]
    for kind in ("half", "double"):
        curve = found[kind]
        condition = words(f"frame_rate.{kind}")
        if isinstance(curve, Absent):
            why = words.why(curve)
            sentences.append(words("left_out", what=condition, reason=why))
        else:
            before, after = curve["relative_l2"]["model"]["mean"]
            sentences.append(change(condition, before, after, words))
    return Part(title, tuple(sentences))


def _growth(title: str, found: Any, words: Words) -> Part:
    """Return how errors grow, and for how long predictions are usable."""
    within, beyond = found["within"], found["beyond"]
    shown = within if isinstance(beyond, Absent) else beyond
    unit = "" if found["unit"] == "1" else f"\u202f{found['unit']}"
    limit = words.percent(found["threshold"])
    sentences = [words("over_time.what", threshold=limit)]
    for who, usable in shown["usable"].items():
        sentences.append(_usable(who, usable, limit, unit, words))
    if isinstance(beyond, Absent):
        sentences.append(words("over_time.no_beyond", reason=words.why(beyond)))

    def draw(ax: Axes) -> None:
        _draw_curves(ax, shown["time"], shown["relative_l2"], words, marks=len(shown["time"]) < 15)
        ax.axhline(found["threshold"], color="#6b6b6b", lw=0.8, alpha=0.6)
        if shown is beyond:
            ax.axvline(found["trained_until"], color="#6b6b6b", lw=0.8, alpha=0.6)
        ax.set_xlabel(labelled(words("over_time.axis"), found["unit"]))

    caption = "over_time.caption_within" if shown is within else "over_time.caption_beyond"
    until = f"{words.setting(found['trained_until'])}{unit}"
    return _part_with_figure(
        "over_time", title, words(caption, threshold=limit, until=until), sentences, draw
    )


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


def _missing(title: str, found: Any, words: Words) -> Part:
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
        _draw_curves(ax, levels, curves, words)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.set_xlabel(words("missing.axis"))

    return _part_with_figure("missing", title, words("missing.caption"), sentences, draw)


def _noise(title: str, found: Any, words: Words) -> Part:
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
        _draw_curves(ax, levels, found["relative_l2"], words)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.set_xlabel(words("noise.axis"))

    return _part_with_figure("noise", title, words("noise.caption"), sentences, draw)


def _outside(title: str, found: Any, words: Words) -> Part:
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
        sentences.append(words("left_out", what=name, reason=words.why(why)))
    return _part_with_figure(
        "outside",
        title,
        words("outside.caption"),
        sentences,
        lambda ax: _draw_rows(ax, rows, found["relative_l2"], words),
    )


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


def _physics(found: Any, words: Words) -> dict[str, Any]:
    """Return the rows of the table, and the sentences around it."""
    if isinstance(found, Absent):
        return {"rows": [], "sentences": [words("not_tried", reason=words.why(found))]}
    rows = [
        _row(words.check(name, check["description"]), check, check["tolerance"], words)
        for name, check in found["checks"].items()
    ]
    sentences = [words("physics.what", samples=words.number(found["samples"]))]
    residual = found["residual"]
    if isinstance(residual, Absent):
        sentences.append(words("physics.no_residual", reason=words.why(residual)))
    else:
        rows.append(_row(words("physics.residual"), residual, None, words))
    return {"rows": rows, "sentences": sentences}


def _row(what: str, values: Any, tolerance: float | None, words: Words) -> dict[str, Any]:
    prediction, truth = values["prediction"], values["truth"]
    numbers = [*(prediction[key] for key in ("median", "p95", "largest")), truth["largest"]]
    return {
        "what": what,
        "numbers": [words.number(value, 2) for value in numbers],
        "tolerance": "–" if tolerance is None else words.number(tolerance, 2),
    }


def _resolution(title: str, found: Any, words: Words) -> Part:
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
    if isinstance(solver, Absent):
        sentences.append(words("resolution.no_solver_error", reason=words.why(solver)))
    else:
        curves["solver"] = solver
        listed = words.list(map(words.percent, solver["mean"]))
        grids = words.list(map(words.number, levels))
        sentences.append(words("resolution.solver", grids=grids, errors=listed))
    for points, why in found.get("absent", {}).items():
        sentences.append(words("left_out", what=points, reason=words.why(why)))

    def draw(ax: Axes) -> None:
        _draw_curves(ax, levels, curves, words)
        ax.set_xscale("log", base=2)
        ax.set_xticks(levels, [str(points) for points in levels])
        ax.minorticks_off()
        ax.axvline(trained, color="#6b6b6b", lw=0.8, alpha=0.6)
        ax.set_xlabel(words("resolution.axis"))

    return _part_with_figure(
        "resolution",
        title,
        words("resolution.caption", trained=words.number(trained)),
        sentences,
        draw,
    )


_PARTS = {
    "noise": _noise,
    "missing": _missing,
    "resolution": _resolution,
    "frame_rate": _frame_rate,
    "outside": _outside,
    "over_time": _growth,
}


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was measured."""
    found: Any = results.metrics.get("physics")
    if not results.robustness and found is None:
        return None
    parts = [
        _part(name, results.robustness[name], words)
        for name in _PARTS
        if name in results.robustness
    ]
    figures = tuple(part.figure for part in parts if part.figure)
    body = render(
        "robustness",
        words,
        parts=parts,
        physics=None if found is None else _physics(found, words),
    )
    return Section("robustness", words("title"), body, figures)


def _part(name: str, found: Any, words: Words) -> Part:
    title = words(f"kind.{name}")
    if isinstance(found, Absent):
        return Part(title, (words("not_tried", reason=words.why(found)),))
    return _PARTS[name](title, found, words)
