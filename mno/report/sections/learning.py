"""What more training data would bring: the learning curve, carried on to the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mno.core.absent import Absent
from mno.evaluation.learning import FURTHEST, LearningCurve, fit_points
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.style import (
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    draw_legend,
)

if TYPE_CHECKING:
    from markupsafe import Markup

    from mno.evaluation.learning import Interval
    from mno.report.language import Words
    from mno.report.page import Figure, Results


_DRAWN = 40  # places at which the band is drawn


def _curve_figure(
    measured: Mapping[str, Any], curve: LearningCurve, target: float | None, words: Words
) -> Figure:
    """Return the figure of what `reports/learning_curve.json` holds.

    Args:
        measured: That.
        curve: The fit through it.
        target: Error to reach; none where none is set.
        words: Those of the section.
    """
    points = [p for p in measured["points"] if p["validation"]["relative_l2"] is not None]
    first, last = points[0], points[-1]
    return curve_figure(
        "learning_curve",
        words("curve.title"),
        words("curve.caption"),
        words(
            "curve.alt",
            first=words.percent(first["validation"]["relative_l2"]),
            few=words.number(first["samples"]),
            last=words.percent(last["validation"]["relative_l2"]),
            many=words.number(last["samples"]),
            times=words.number(FURTHEST),
        ),
        lambda ax: _draw(ax, points, curve, target, words),
    )


def _draw(
    ax: Axes,
    points: list[Mapping[str, Any]],
    curve: LearningCurve,
    target: float | None,
    words: Words,
) -> None:
    _draw_fit(ax, points[0]["samples"], curve, words("curve.fit"))
    _draw_points(ax, points, "test", words("curve.test"), TRUTH_COLOUR, "s")
    _draw_points(ax, points, "validation", words("curve.validation"), PREDICTION_COLOUR, "o")
    if target is not None:
        label = words("curve.target", target=words.percent(target))
        ax.axhline(target, color="black", ls="--", lw=1, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(PER_CENT)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_xlabel(words("curve.samples"))
    ax.set_ylabel(words("curve.error"))
    draw_legend(ax)


def _draw_fit(ax: Axes, fewest: int, curve: LearningCurve, label: str) -> None:
    samples = np.geomspace(fewest, FURTHEST * curve.largest, _DRAWN)
    errors = [curve.error(min(n, FURTHEST * curve.largest)) for n in samples]
    low, middle, high = ([getattr(e, k) for e in errors] for k in ("low", "middle", "high"))
    ax.fill_between(samples, low, high, color=PREDICTION_COLOUR, alpha=0.15, lw=0)
    ax.plot(samples, middle, color=PREDICTION_COLOUR, lw=1.2, label=label)


def _draw_points(
    ax: Axes,
    points: list[Mapping[str, Any]],
    split: str,
    label: str,
    colour: str,
    marker: str,
) -> None:
    known = [(p["samples"], p[split]) for p in points if p[split]["relative_l2"] is not None]
    samples = [n for n, _ in known]
    errors = [found["relative_l2"] for _, found in known]
    # Not below a tenth of the error, which a logarithmic axis would not show.
    bars = [2 * (found["standard_error"] or 0.0) for _, found in known]
    below = [min(bar, 0.9 * error) for bar, error in zip(bars, errors, strict=True)]
    ax.errorbar(
        samples, errors, yerr=(below, bars), fmt=marker, ms=4, color=colour, lw=1, label=label
    )


_UNLIKELY = 0.05  # weight of the curves below which an error counts as out of reach


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing is known of a learning curve."""
    measured = results.learning_curve
    if not measured:
        return None
    if not measured["points"]:
        return Section("learning", words("title"), _body(words, [words("off")]))
    curve = fit_points(measured)
    if isinstance(curve, Absent):
        return Section("learning", words("title"), _body(words, [words("no_curve")]))
    target = target_of(results)
    figures = (_curve_figure(measured, curve, target, words),)
    said = [_tenfold(curve, words)]
    if target is not None:
        said.insert(0, _answer(curve, results, target, words))
    said.append(words("how"))
    return Section("learning", words("title"), _body(words, said, figures), figures)


def target_of(results: Results) -> float | None:
    """Return the target of the relative L2; none where none is set."""
    kpis = results.decision.get("kpis", ())
    return next((kpi["target"] for kpi in kpis if kpi["name"] == "relative_l2"), None)


def _body(words: Words, said: list[str], figures: tuple[Figure, ...] = ()) -> Markup:
    return render("learning", words, said=said, figures=figures)


def _answer(curve: LearningCurve, results: Results, target: float, words: Words) -> str:
    """Say how many training samples the target takes."""
    goal = words.percent(target)
    last = results.learning_curve["points"][-1]["validation"]["relative_l2"]
    if last is not None and last <= target:
        return words("met", target=goal, error=words.percent(last))
    chance = curve.chance(target)
    if chance < _UNLIKELY:
        furthest = curve.error(FURTHEST * curve.largest)
        reached = _errors(furthest, words)
        return words("out_of_reach", target=goal, times=words.number(FURTHEST), **reached)
    needed = curve.samples_for(target)
    if needed.middle is None:
        return words(
            "uncertain", target=goal, times=words.number(FURTHEST), chance=words.percent(chance)
        )
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
    seconds = results.decision.get("break_even", {}).get("solver_seconds")
    if not isinstance(seconds, int | float):
        return text
    return text + words("hours", hours=words.number(solves * seconds / 3600, 2))


def _tenfold(curve: LearningCurve, words: Words) -> str:
    tenfold = curve.error(FURTHEST * curve.largest)
    return words("tenfold", times=words.number(FURTHEST), **_errors(tenfold, words))


def _errors(errors: Interval, words: Words) -> dict[str, str]:
    values = {"middle": errors.middle, "low": errors.low, "high": errors.high}
    return {name: words.percent(float("nan") if v is None else v) for name, v in values.items()}
