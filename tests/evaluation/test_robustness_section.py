"""The section of the report: plain sentences, curves, reasons, in both languages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from small_lines import line

from mno.core.absent import Absent
from mno.core.words import LANGUAGES, own_texts
from mno.evaluation.config import EvaluateConfig, RobustnessConfig
from mno.evaluation.evaluator import evaluate
from mno.evaluation.robustness import KINDS, measure_robustness
from mno.evaluation.solver import physical_consistency
from mno.report.language import Words
from mno.report.page import Results, Section
from mno.report.sections.robustness import change, section

CONFIG = RobustnessConfig(samples=4, solved_samples=2, noise=[0.1], missing=[0.25])


def written(
    scenario: str, language: str, config: RobustnessConfig = CONFIG, **changed: Any
) -> Section:
    small = line(scenario, **({"history": 2} if scenario == "diffusion_reaction" else {}))
    results = Results(
        scenario=scenario,
        schema=small.test.schema,
        evaluation=evaluate(small.surrogate, small.test, small.mean, EvaluateConfig()),
        metrics={"physics": physical_consistency(small.surrogate, small.test, 4, 8)},
        robustness=dict(measure_robustness(small.surrogate, small.test, small.mean, config, 8))
        | changed,
    )
    found = section(results, Words.of(language, "robustness"))
    assert found is not None
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scenario", ["darcy", "diffusion_reaction"])
def test_every_kind_is_told(scenario: str, language: str) -> None:
    found = written(scenario, language)
    words = Words.of(language, "robustness")
    for kind in KINDS:
        assert words(f"kind.{kind}") in found.body
    names = {figure.name.removeprefix("robustness_") for figure in found.figures}
    timed = {"over_time"} if scenario == "diffusion_reaction" else set()
    assert names == {"noise", "missing", "resolution", "outside"} | timed
    assert "None" not in re.sub(r'"data:[^"]*"', "", found.body)


def test_reasons_are_told_in_the_language() -> None:
    absent: dict[str, Any] = {
        "resolution": Absent("solver.imported", {"scenario": "plant"}),
        "over_time": Absent("robustness.no_states"),
    }
    found = written("darcy", "ja", **absent)
    assert "取り込みデータにはソルバーがないため" in found.body
    assert "時間発展する場を予測しないモデルであるため" in found.body
    assert "robustness_resolution" not in {figure.name for figure in found.figures}


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_an_empty_list_one_line_says_so(
    language: str,
) -> None:
    empty = RobustnessConfig(samples=4, solved_samples=2, noise=[], missing=[], resolutions=[])
    found, words = written("darcy", language, empty), Words.of(language, "robustness")
    said = words("not_tried", reason=words.why(Absent("robustness.nothing_listed")))
    assert found.body.count(said) == 3
    assert {figure.name for figure in found.figures} == {"robustness_outside"}


def test_nothing_measured_is_no_section() -> None:
    small = line("darcy")
    evaluation = evaluate(small.surrogate, small.test, small.mean, EvaluateConfig())
    results = Results("darcy", small.test.schema, evaluation, metrics={})
    assert section(results, Words.of("en", "robustness")) is None


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (0.031, "With noise, the error rises from 2.4 % to 3.1 %."),
        (0.024, "With noise, the error does not rise: 2.4 %, as against 2.4 %."),
        (float("nan"), "With noise, the predictions are not usable: their error is not a number"),
    ],
)
def test_changes_are_said_plainly(after: float, text: str) -> None:
    said = change("With noise", 0.024, after, Words.of("en", "robustness"))
    assert said.replace("\u202f", " ").startswith(text)


def test_all_known_reasons_have_words_of_their_own() -> None:
    texts = own_texts("mno.core.words", "en")
    known = {
        Absent(k) for k, text in texts.items() if k.startswith("robustness.") and "{" not in text
    }
    said = {Words.of("ja", "robustness").why(reason) for reason in known}
    assert len(said) == len(known)
    assert not said & {str(reason) for reason in known}
