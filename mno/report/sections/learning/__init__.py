"""What more training data would bring: the learning curve, carried on to the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.evaluation.learning import FURTHEST, LearningCurve, fit_points
from mno.report.section import Section, render
from mno.report.sections.learning.drawing import curve_figure

if TYPE_CHECKING:
    from markupsafe import Markup

    from mno.evaluation.learning import Interval
    from mno.report.figures import Figure
    from mno.report.language import Words
    from mno.report.results import Results

_UNLIKELY = 0.05  # weight of the curves below which an error counts as out of reach


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing is known of a learning curve."""
    measured = results.learning_curve
    if not measured:
        return None
    if not measured["points"]:
        return Section("learning", words("title"), _body(words, [words("off")]))
    curve = fit_points(measured)
    if isinstance(curve, str):
        return Section("learning", words("title"), _body(words, [words("no_curve")]))
    target = target_of(results)
    figures = (curve_figure(measured, curve, target, words),)
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
    return render("learning/section.html.j2", words, said=said, figures=figures)


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
