"""All that the stage `evaluate` measures and writes, of models and data at their worst."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_lines import Line, line, solved_split

from mno.core.times import Seconds
from mno.core.words import LANGUAGES
from mno.data.reading import Split
from mno.evaluation.config import EconomicsConfig, EvaluateConfig, KpiConfig, RobustnessConfig
from mno.evaluation.cost import measure_cost, spent
from mno.evaluation.decision import decide
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.evaluation.influence import influence
from mno.evaluation.robustness import measure_robustness
from mno.evaluation.solver import physical_consistency
from mno.evaluation.trust import calibrated_trust
from mno.report.document import render_report
from mno.report.page import Results
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.config import TrustConfig
from tests.support.untrained import broken

ROBUSTNESS = RobustnessConfig(samples=3, solved_samples=1, noise=[0.1], missing=[0.25])
ECONOMICS = EconomicsConfig(comparison_seconds=0.2, queries_per_day=100.0)
KPIS = KpiConfig(relative_l2=0.03, latency_ms=50.0)
TAKEN = Seconds(seconds=2.0, cpu_seconds=3.0, attempts=1, cores=2)


def results_of(surrogate: Surrogate, train: Split, validation: Split, test: Split) -> Results:
    """What the stage measures, in its order."""
    mean = mean_fields(train)
    evaluation = evaluate(surrogate, test, mean, EvaluateConfig())
    physics = physical_consistency(surrogate, test, 3, 8)
    trust = calibrated_trust(surrogate, train, validation, test, TrustConfig(), "0" * 64, 8)
    cost = measure_cost(surrogate, test, ECONOMICS) | {
        "peak_memory_mib": 300.0,
        "solver_memory_mib": 170.0,
        "spent": spent(dict.fromkeys(("generate", "train", "evaluate"), TAKEN), 12.0),
    }
    metrics = {**evaluation.metrics(), "physics": physics}
    measured = trust.to_json()
    counts = {"train": len(train), "all": len(train) + len(validation) + len(test)}
    return Results(
        scenario="darcy",
        schema=test.schema,
        evaluation=evaluation,
        metrics=metrics,
        cost=cost,
        decision=decide(
            KPIS, ECONOMICS, metrics=metrics, cost=cost, samples=counts, trust=measured
        ),
        robustness=measure_robustness(surrogate, test, mean, ROBUSTNESS, 8),
        trust=measured,
        influence=influence(surrogate, evaluation.example("median")),
    )


def texts(results: Results) -> dict[str, str]:
    """The words of the report, by language."""
    pages = {language: render_report(results, language) for language in LANGUAGES}
    return {
        language: re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page, flags=re.S))
        for language, page in pages.items()
    }


@pytest.fixture(scope="module")
def small() -> Line:
    return line("darcy")


@pytest.fixture(scope="module")
def splits() -> tuple[Split, Split, Split]:
    train, validation, test = (
        solved_split(name, "darcy", count, seed, 16)
        for seed, (name, count) in enumerate({"train": 16, "validation": 12, "test": 4}.items())
    )
    return train, validation, test


def unlike_numbers(text: str) -> list[str]:
    return re.findall(r"\b(?:nan|inf|None|NaN %)\b", text)


def test_a_model_that_predicts_no_numbers_gets_a_verdict(
    small: Line, splits: tuple[Split, Split, Split]
) -> None:
    results = results_of(broken(small.surrogate), *splits)
    assert results.decision["verdict"] == "not_worth_it"
    assert results.decision["reasons"][0]["code"] == "unusable"
    (accuracy,) = (kpi for kpi in results.decision["kpis"] if kpi["name"] == "relative_l2")
    assert accuracy["status"] == "missed"
    said = texts(results)
    assert "not a number" in said["en"] and "非数" in said["ja"]
    assert {language: unlike_numbers(text) for language, text in said.items()} == {
        language: [] for language in LANGUAGES
    }


def zero(field: np.ndarray) -> np.ndarray:
    return np.zeros_like(field)


def constant(field: np.ndarray) -> np.ndarray:
    return np.full_like(field, 3.0)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("change", [zero, constant])
def test_data_without_any_variation_get_a_report(
    small: Line, splits: tuple[Split, Split, Split], change: Callable[[np.ndarray], Any]
) -> None:
    flat = [
        replace(split, fields={name: change(field) for name, field in split.fields.items()})
        for split in splits
    ]
    results = results_of(small.surrogate, *flat)
    assert results.decision["verdict"] == "not_worth_it"
    for text in texts(results).values():
        assert unlike_numbers(text) == []


@pytest.mark.slow
@pytest.mark.nightly
def test_a_single_sample_in_each_split_gets_a_report(
    small: Line, splits: tuple[Split, Split, Split]
) -> None:
    single = [split.take(np.array([0])) for split in splits]
    results = results_of(small.surrogate, *single)
    assert results.metrics["samples"] == 1
    assert isinstance(results.metrics["intervals"]["relative_l2"], str | type(None))
    for text in texts(results).values():
        assert unlike_numbers(text) == []
