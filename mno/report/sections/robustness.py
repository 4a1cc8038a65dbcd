"""How errors grow on data unlike those of the training, and what predictions do to the physics."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.report import style
from mno.report.language import Known, Words
from mno.report.page import Figure, Results, Section, section_of
from mno.report.panels import in_hours, labelled

_LOOKS = {
    "model": (style.PREDICTION_COLOUR, "-", "o"),
    "block": (style.PREDICTION_COLOUR, "--", "s"),
    "persistence": (style.TRUTH_COLOUR, "--", "^"),
    "mean_field": (style.REFERENCE_COLOUR, ":", "v"),
    "interpolated": ("#009e73", "-.", "D"),
    "solver": ("#000000", ":", "x"),
}
_MARK: dict[str, Any] = {"color": style.REFERENCE_COLOUR, "lw": 0.8, "alpha": 0.6}
_FEW = 15  # levels that are marked
_NOTABLE = 1.02  # times an error that another has to be, so that it counts as larger


class Part(NamedTuple):
    """What was found of one kind, and its curves: their caption, and what draws them."""

    sentences: list[str]
    caption: str = ""
    draw: Callable[[Axes], None] | None = None


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was measured."""
    physics = results.metrics.get("physics")
    if not results.robustness and physics is None:
        return None
    found = results.robustness
    parts = [_told(name, found[name], words) for name in _PARTS if name in found]
    return section_of(
        words,
        [part["figure"] for part in parts],
        parts=parts,
        physics=None if physics is None else _physics(physics, words),
    )


def _told(name: str, found: Any, words: Words) -> dict[str, Any]:
    title, figure = words(f"kind.{name}"), None
    if isinstance(found, Absent):
        part = Part([words("not_tried", reason=words.why(found))])
    else:
        part = _PARTS[name](found, words)
    if part.draw:
        alt = " ".join(part.sentences)
        figure = Figure(f"robustness_{name}", title, part.caption, alt, *style.curves(part.draw))
    return {"title": title, "sentences": part.sentences, "figure": figure}


def _noise(found: Any, words: Words) -> Part:
    levels, errors = found["level"], _errors(found)
    sentences = [words("noise.what", samples=words.number(found["samples"]))]
    for at in dict.fromkeys([(len(levels) + 1) // 2, len(levels) - 1]):
        if at:
            condition = words("noise.condition", level=words.percent(levels[at]))
            sentences.append(change(condition, errors[0], errors[at], words))
    sentences += _against_guesses(found, -1, words)
    shown, axis = found["relative_l2"], words("noise.axis")
    draw = partial(_draw_curves, levels=levels, shown=shown, axis=axis, words=words, share=True)
    return Part(sentences, words("noise.caption"), draw)


def _missing(found: Any, words: Words) -> Part:
    random, block = found["random"], found["block"]
    levels = random["level"]
    sentences = [words("missing.told" if found["told"] else "missing.filled")]
    for kind, curve in (("random", random), ("block", block)):
        if len(levels) > 1:
            condition = words(f"missing.{kind}", share=words.percent(levels[1]))
            before, after, *_ = _errors(curve)
            sentences.append(change(condition, before, after, words))
    sentences += _against_guesses(block, min(1, len(levels) - 1), words)
    both = {**random["relative_l2"], "block": block["relative_l2"]["model"]}
    axis = words("missing.axis")
    draw = partial(_draw_curves, levels=levels, shown=both, axis=axis, words=words, share=True)
    return Part(sentences, words("missing.caption"), draw)


def _resolution(found: Any, words: Words) -> Part:
    levels, trained, solver = found["level"], found["trained"], found["solver"]
    errors = _errors(found)
    own = errors[levels.index(trained)]
    sentences = [words("resolution.what", samples=words.number(found["samples"]))]
    for at, points in enumerate(levels):
        if points != trained:
            numbers = {"points": words.number(points), "trained": words.number(trained)}
            condition = words("resolution.condition", **numbers)
            sentences.append(change(condition, own, errors[at], words))
            sentences += _against_guesses(found, at, words)
    shown = dict(found["relative_l2"])
    if isinstance(solver, Absent):
        sentences.append(words("resolution.no_solver_error", reason=words.why(solver)))
    else:
        shown["solver"] = solver
        listed = words.list(map(words.percent, solver["mean"]))
        grids = words.list(map(words.number, levels))
        sentences.append(words("resolution.solver", grids=grids, errors=listed))
    for points, why in found.get("absent", {}).items():
        sentences.append(words("left_out", what=points, reason=words.why(why)))

    def draw(ax: Axes) -> None:
        _draw_curves(ax, levels, shown, words("resolution.axis"), words)
        ax.set_xscale("log", base=2)
        ax.set_xticks(levels, [str(points) for points in levels])
        ax.minorticks_off()
        ax.axvline(trained, **_MARK)

    return Part(sentences, words("resolution.caption", trained=words.number(trained)), draw)


def _frame_rate(found: Any, words: Words) -> Part:
    told = "_told" if any(isinstance(f, dict) and "told" in f for f in found.values()) else ""
    sentences = [words(f"frame_rate.what{told}")]
    for kind in ("half", "double"):
        condition = words(f"frame_rate.{kind}{told}")
        if isinstance(found[kind], Absent):
            why = words.why(found[kind])
            sentences.append(words("left_out", what=condition, reason=why))
        else:
            before, after = _errors(found[kind])
            sentences.append(change(condition, before, after, words))
    return Part(sentences)


def _outside(found: Any, words: Words) -> Part:
    changed, errors, as_trained = found["changed"], _errors(found), words("outside.as_trained")
    told = {label: _changes(label, of, words) or as_trained for label, of in changed.items()}
    sentences = [words("outside.what", samples=words.number(found["samples"]))]
    for at, label in enumerate(found["level"][1:], start=1):
        condition = words("outside.condition", change=told[label])
        sentences.append(change(condition, errors[0], errors[at], words))
        sentences += _against_guesses(found, at, words)
    for label, why in found.get("absent", {}).items():
        sentences.append(words("left_out", what=told[label], reason=words.why(why)))
    # Short names, as there is little room in a figure.
    rows = [words.name(label) if changed[label] else as_trained for label in found["level"]]
    draw = partial(_draw_rows, names=rows, shown=found["relative_l2"], words=words)
    return Part(sentences, words("outside.caption"), draw)


def _changes(label: str, changed: Mapping[str, Any], words: Words) -> str:
    """Return what was changed, `contrast 1 → 1.5`; its label where that are no numbers."""
    if not all(isinstance(value, int | float) for both in changed.values() for value in both):
        return words.name(label)
    return ", ".join(
        f"{words.name(name)} {words.setting(was)} → {words.setting(value)}"
        for name, (was, value) in changed.items()
    )


def _over_time(found: Any, words: Words) -> Part:
    within, beyond = found["within"], found["beyond"]
    inside = isinstance(beyond, Absent)
    shown = within if inside else beyond
    times, unit_of_axis = in_hours(np.array(shown["time"]), found["unit"])
    lasts = float(shown["time"][-1] / times[-1])  # one unit of the axis
    unit = "" if unit_of_axis == "1" else f"\u202f{unit_of_axis}"
    limit = words.percent(found["threshold"])
    sentences = [words("over_time.what", threshold=limit)]
    for who, usable in shown["usable"].items():
        name = words(f"who.{who}")
        said = {"who": name[:1].upper() + name[1:], "threshold": limit}
        if usable["median"] is None:
            reached = words.percent(usable["reached"])
            sentences.append(words("over_time.not_reached", reached=reached, **said))
            continue
        low, high = (
            words("over_time.later") if usable[end] is None else words.setting(usable[end] / lasts)
            for end in ("low", "high")
        )
        time = f"{words.setting(usable['median'] / lasts)}{unit}"
        sentences.append(words("over_time.reached", time=time, low=low, high=high, **said))
    if inside:
        sentences.append(words("over_time.no_beyond", reason=words.why(beyond)))

    def draw(ax: Axes) -> None:
        axis = labelled(words("over_time.axis"), unit_of_axis)
        _draw_curves(ax, times.tolist(), shown["relative_l2"], axis, words)
        ax.axhline(found["threshold"], **_MARK)
        if not inside:
            ax.axvline(found["trained_until"] / lasts, **_MARK)

    caption = "over_time.caption_within" if inside else "over_time.caption_beyond"
    until = f"{words.setting(found['trained_until'] / lasts)}{unit}"
    return Part(sentences, words(caption, threshold=limit, until=until), draw)


_PARTS = {
    "noise": _noise,
    "missing": _missing,
    "resolution": _resolution,
    "frame_rate": _frame_rate,
    "outside": _outside,
    "over_time": _over_time,
}


def _errors(curve: Any) -> list[float]:
    return curve["relative_l2"]["model"]["mean"]


def change(condition: str, before: float, after: float, words: Words) -> str:
    """Say what becomes of the model's error under a condition."""
    values = {"before": words.percent(before), "after": words.percent(after)}
    if not math.isfinite(after):
        return words("unusable", condition=condition, **values)
    rises = after > _NOTABLE * before and values["after"] != values["before"]
    return words("rises" if rises else "stays", condition=condition, **values)


def _against_guesses(curve: Any, at: int, words: Words) -> list[str]:
    """Say which guess without a model is as good at one level of a curve; nothing if none is."""
    means = {who: found["mean"][at] for who, found in curve["relative_l2"].items()}
    guesses = ((who, means[who]) for who in ("mean_field", "persistence") if who in means)
    better = {who: error for who, error in guesses if not means["model"] < error}
    if not better:
        return []
    who = min(better, key=lambda name: better[name])
    return [words("no_better", guess=words(f"who.{who}"), error=words.percent(better[who]))]


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


def _row(what: str, values: Known, tolerance: float | None, words: Words) -> dict[str, Any]:
    prediction, truth = values["prediction"], values["truth"]
    numbers = [*(prediction[key] for key in ("median", "p95", "largest")), truth["largest"]]
    return {
        "what": what,
        "numbers": [words.number(value, 2) for value in numbers],
        "tolerance": "–" if tolerance is None else words.number(tolerance, 2),
    }


def _draw_curves(
    ax: Axes, levels: Sequence[float], shown: Known, axis: str, words: Words, share: bool = False
) -> None:
    """Draw errors with their intervals by level, or by a share; levels are marked if few."""
    for who, curve in shown.items():
        colour, dashes, marker = _LOOKS[who]
        mean, low, high = _with_ends(curve)
        ax.plot(
            levels, mean, color=colour, ls=dashes, lw=1.7, label=words(f"who.{who}"),
            marker=marker if len(levels) < _FEW else None, ms=4,
        )  # fmt: skip
        ax.fill_between(levels, low, high, color=colour, alpha=0.15, lw=0)
    style.error_scale(ax, *(_with_ends(curve)[0] for curve in shown.values()))
    per_cent = "xy" if share else "y"
    style.finish(ax, axis, words("error"), lines="y", per_cent=per_cent, columns=2, narrow=1)


def _draw_rows(ax: Axes, names: Sequence[str], shown: Mapping[str, Any], words: Words) -> None:
    rows = np.arange(len(names))
    for shift, (who, curve) in zip((0.0, 0.18, -0.18), shown.items(), strict=False):
        colour, _, marker = _LOOKS[who]
        mean, low, high = _with_ends(curve)
        ax.hlines(rows + shift, low, high, color=colour, alpha=0.5, lw=2.5)
        ax.plot(mean, rows + shift, marker, color=colour, ms=6, label=words(f"who.{who}"))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for row, name in zip(rows, names, strict=True):  # above its marks, so that long ones have room
        ax.text(0.01, row - 0.3, name, transform=ax.get_yaxis_transform(), va="bottom")
    ax.set_ylim(len(names) - 0.5, -0.8)
    ax.set_xlim(left=0)
    style.finish(ax, words("error"), "", lines="x", per_cent="x", columns=2, narrow=1)


def _with_ends(curve: Mapping[str, Any]) -> np.ndarray:
    """Return mean and ends of a curve, NaN where there is none or it is infinite."""
    found = np.array([curve[key] for key in ("mean", "low", "high")], dtype=float)
    return np.where(np.isfinite(found), found, np.nan)
