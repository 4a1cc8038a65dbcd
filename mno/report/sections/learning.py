"""What more training data would bring: the learning curve, carried on to the target."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.evaluation.learning import FURTHEST, LearningCurve, fit_points
from mno.report import style
from mno.report.language import Known, Words
from mno.report.page import Figure, Results, Section, figure_of, section_of

_DRAWN = 40  # places at which the band is drawn
_UNLIKELY = 0.05  # weight of the curves below which an error counts as out of reach


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing is known of a learning curve."""
    if not (measured := results.learning_curve):
        return None
    curve = fit_points(measured) if measured["points"] else None
    if curve is None or isinstance(curve, Absent):
        return section_of(words, words("off" if curve is None else "no_curve"))
    kpis = results.decision.get("kpis", ())
    target = next((kpi["target"] for kpi in kpis if kpi["name"] == "relative_l2"), None)
    answer = [] if target is None else [_answer(curve, results, target, words)]
    tenfold = words("tenfold", times=words.number(FURTHEST), **_furthest_errors(curve, words))
    figure = _curve_figure(measured["points"], curve, target, words)
    return section_of(words, *answer, tenfold, words("how"), figure)


def _answer(curve: LearningCurve, results: Results, target: float, words: Words) -> str:
    goal, times = words.percent(target), words.number(FURTHEST)
    last = results.learning_curve["points"][-1]["validation"]["relative_l2"]
    if last is not None and last <= target:
        return words("met", target=goal, error=words.percent(last))
    chance = curve.chance(target)
    if chance < _UNLIKELY:
        reached = _furthest_errors(curve, words)
        return words("out_of_reach", target=goal, times=times, **reached)
    needed = curve.samples_for(target)
    if needed.middle is None:
        return words("uncertain", target=goal, times=times, chance=words.percent(chance))
    high = words("beyond", samples=words.number(FURTHEST * curve.largest))
    text = words(
        "reachable",
        target=goal,
        middle=words.number(needed.middle, 2),
        low=words.number(needed.low or 0.0, 2),
        high=high if needed.high is None else words.number(needed.high, 2),
        now=words.number(curve.largest),
    )
    return text + _price(needed.middle - curve.largest, results, words)


def _price(more: float, results: Results, words: Words) -> str:
    """Say how many solves that is in all, since other splits grow along, and how long they take."""
    splits, samples = results.dataset.get("splits", {}), results.dataset.get("samples")
    if not samples or not splits.get("train"):
        return ""
    solves = max(0.0, more) * samples / splits["train"]
    text = words("solves", solves=words.number(solves, 2))
    seconds = results.decision.get("break_even", {}).get("solve_seconds")
    if not isinstance(seconds, int | float):
        return text
    return text + words("hours", hours=words.number(solves * seconds / 3600, 2))


def _furthest_errors(curve: LearningCurve, words: Words) -> dict[str, str]:
    values = curve.error(FURTHEST * curve.largest)._asdict()
    return {name: words.percent(float("nan") if v is None else v) for name, v in values.items()}


def _curve_figure(
    points: Sequence[Known], curve: LearningCurve, target: float | None, words: Words
) -> Figure:
    points = [p for p in points if p["validation"]["relative_l2"] is not None]
    ends = points[0], points[-1]
    first, last = (words.percent(point["validation"]["relative_l2"]) for point in ends)
    few, many = (words.number(point["samples"]) for point in ends)
    drawn = style.curves(lambda ax: _draw(ax, points, curve, target, words))
    told: Any = {"first": first, "few": few, "last": last, "many": many}
    times = words.number(FURTHEST)
    return figure_of("learning_curve", words, "curve", drawn, times=times, **told)


def _draw(
    ax: Axes, points: Sequence[Known], curve: LearningCurve, target: float | None, words: Words
) -> None:
    furthest = FURTHEST * curve.largest
    samples = np.geomspace(points[0]["samples"], furthest, _DRAWN)
    errors = [curve.error(min(n, furthest)) for n in samples]
    low, middle, high = ([getattr(e, k) for e in errors] for k in ("low", "middle", "high"))
    ax.fill_between(samples, low, high, color=style.PREDICTION_COLOUR, alpha=0.15, lw=0)
    ax.plot(samples, middle, color=style.PREDICTION_COLOUR, lw=1.2, label=words("curve.fit"))
    _draw_points(ax, points, "test", words("curve.test"), style.TRUTH_COLOUR, "s")
    _draw_points(ax, points, "validation", words("curve.validation"), style.PREDICTION_COLOUR, "o")
    if target is not None:
        label = words("curve.target", target=words.percent(target))
        ax.axhline(target, color="black", ls="--", lw=1, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    style.log_ticks(ax.xaxis)
    style.log_ticks(ax.yaxis, style.PER_CENT)
    style.finish(ax, words("curve.samples"), words("curve.error"), lines="y")


def _draw_points(
    ax: Axes, points: Sequence[Known], split: str, label: str, colour: str, marker: str
) -> None:
    known = [(p["samples"], p[split]) for p in points if p[split]["relative_l2"] is not None]
    errors = [found["relative_l2"] for _, found in known]
    bars = [2 * (found["standard_error"] or 0.0) for _, found in known]
    # Not below a tenth of the error, which a logarithmic axis would not show.
    below = [min(bar, 0.9 * error) for bar, error in zip(bars, errors, strict=True)]
    ax.errorbar(
        [samples for samples, _ in known], errors, yerr=(below, bars),
        fmt=marker, ms=4, color=colour, lw=1, label=label,
    )  # fmt: skip
