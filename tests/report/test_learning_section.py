"""What the report says of more training data, in both languages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mno.core.words import LANGUAGES
from mno.evaluation.learning import LearningCurve
from mno.evaluation.result import Evaluation
from mno.report.language import Words
from mno.report.page import Results
from mno.report.sections.learning import section
from tests.evaluation.drawn import results_of


def measured(floor: float = 0.0, exponent: float = 0.5) -> dict[str, Any]:
    points = []
    for n in (400, 800, 1600, 3200):
        error = 0.04 * ((1 - floor) * (n / 3200) ** -exponent + floor)
        found = {"relative_l2": error, "standard_error": error / 50, "measured": 400}
        points.append({"samples": n, "validation": found, "test": found})
    return {"points": points, "why_off": None}


@pytest.fixture
def results(evaluation: Evaluation, schema: Any) -> Results:
    known = {"samples": 4000, "splits": {"train": 3200, "validation": 400, "test": 400}}
    return results_of(evaluation, schema, {}, learning_curve=measured(), dataset=known)


def said(results: Results, target: float | None, language: str = "en", **solver: Any) -> str:
    decision = {"kpis": [{"name": "relative_l2", "target": target}], "break_even": solver}
    found = section(replace(results, decision=decision), Words.of(language, "learning"))
    assert found is not None
    return str(found.body)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_given_in_every_language(results: Results, language: str) -> None:
    words = Words.of(language, "learning")
    target = words.percent(0.03)
    assert said(results, 0.05, language).count(words.percent(0.05)) == 1
    assert target in said(results, 0.03, language)
    flat = replace(results, learning_curve=measured(floor=0.95))
    texts = {said(results, 0.05, language), said(results, 0.03, language)}
    texts |= {said(flat, 0.01, language), said(results, 0.011, language)}
    assert len(texts) == 4


def test_the_samples_that_a_target_takes_are_counted_in_solves_and_hours(results: Results) -> None:
    text = said(results, 0.03, solver_seconds=3600.0)
    points = results.learning_curve["points"]
    errors = [p["validation"]["relative_l2"] for p in points]
    curve = LearningCurve.fit([p["samples"] for p in points], errors, 1 / 50)
    needed = curve.samples_for(0.03).middle
    assert needed is not None
    solves = Words.of("en").number((needed - 3200) * 4000 / 3200, 2)
    assert f"about {solves} further solves" in text
    assert f"{solves} h" in text  # an hour each
    assert "further solves" not in said(replace(results, dataset={}), 0.03)
    assert " h." not in said(results, 0.03, solver_seconds=None)


def test_what_no_number_of_samples_reaches_is_said_plainly(results: Results) -> None:
    flat = replace(results, learning_curve=measured(floor=0.95))
    assert "not reachable by more data alone" in said(flat, 0.01)


def test_without_a_target_the_forecast_is_still_there(results: Results) -> None:
    assert "With 10 times the training samples" in said(results, None)
    found = section(replace(results, decision={}), Words.of("en", "learning"))
    assert found is not None and [figure.name for figure in found.figures] == ["learning_curve"]


def test_without_a_curve_the_report_says_why(results: Results) -> None:
    words = Words.of("en", "learning")
    off = section(replace(results, learning_curve={"points": [], "why_off": "off"}), words)
    assert off is not None and "mno evaluate --learning-curve" in off.body
    few = {"points": measured()["points"][:2], "why_off": None}
    too_few = section(replace(results, learning_curve=few), words)
    assert too_few is not None and "Too few" in too_few.body and not too_few.figures
    assert section(replace(results, learning_curve={}), words) is None
