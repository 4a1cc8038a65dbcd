"""Intervals and paired comparisons, against scipy and known cases; learning curves of cells."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from study_records import answers_with, cells, found_with, record

from mno.core.errors import InputError
from mno.study.answers import StudyAnswers
from mno.study.design import Cell
from mno.study.findings import is_undertrained
from mno.study.report import samples_section
from mno.study.statistics import compare, holm, mean_with_interval, samples_of

SEEDS = range(5)


def errors(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("seed", range(4))
def test_of_two_models_a_comparison_is_the_paired_t_test_of_logarithms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(-3, 0.2, 5), rng.lognormal(-2.8, 0.2, 5)
    (found,) = compare({"a": errors(*a), "b": errors(*b)}, [("a", "b")])
    expected = stats.ttest_rel(np.log(a), np.log(b))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    interval = expected.confidence_interval(0.95)
    assert found.low == pytest.approx(math.exp(interval.low), rel=1e-10)
    assert found.high == pytest.approx(math.exp(interval.high), rel=1e-10)


def simulated(
    scatters: list[float], seeds: int, studies: int, effects: list[float] | None = None
) -> list[list]:
    """Comparisons of all pairs of models in studies whose logarithms of errors are normal."""
    rng = np.random.default_rng(0)
    names = [f"m{place}" for place in range(len(scatters))]
    pairs = list(combinations(names, 2))
    means = np.zeros(len(names)) if effects is None else np.asarray(effects)
    found = []
    for _ in range(studies):
        logs = rng.normal(means[:, None], np.asarray(scatters)[:, None], (len(names), seeds))
        found.append(
            compare({n: errors(*np.exp(own)) for n, own in zip(names, logs, strict=True)}, pairs)
        )
    return found


@pytest.mark.parametrize(
    "scatters",
    [[0.05] * 8, [0.05] * 6 + [0.25] * 2, list(np.geomspace(0.02, 0.2, 8)), [0.02, 0.02, 0.2]],
    ids=["alike", "two wild", "spread", "three models"],
)
def test_of_no_difference_hardly_a_study_names_one(scatters: list[float]) -> None:
    studies = simulated(scatters, seeds=3, studies=300)
    wrong = [any(c.verdict in ("lower", "higher") for c in found) for found in studies]
    assert np.mean(wrong) <= 0.09  # 0.05, and what chance and a few wild models add


def test_three_seeds_of_many_models_show_a_difference_of_a_quarter() -> None:
    studies = simulated([0.05] * 13, seeds=3, studies=40, effects=[0.0] * 6 + [0.25] * 7)
    told = [
        c.verdict == "lower" for found in studies for c in found if int(c.a[1:]) < 6 <= int(c.b[1:])
    ]
    assert np.mean(told) > 0.5


def test_a_pair_is_taken_to_scatter_no_less_than_it_was_seen_to() -> None:
    calm = {f"m{place}": errors(0.02, 0.0201 + 1e-4 * place, 0.0199) for place in range(8)}
    wild = {"wild": errors(0.01, 0.02, 0.04)}
    (alone,) = compare(wild | {"m0": calm["m0"]}, [("wild", "m0")])
    (among,) = compare(wild | calm, [("wild", "m0")])
    assert among.ratio == alone.ratio
    assert among.verdict == "unknown"
    own = np.std(np.log([0.01, 0.02, 0.04]) - np.log(list(calm["m0"].values())), ddof=1)
    assert among.low is not None
    assert math.log(among.ratio / among.low) > 1.9 * own / math.sqrt(3)


def test_the_mean_has_students_interval() -> None:
    values = [0.031, 0.034, 0.029]
    mean = mean_with_interval(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(values), low, high))


def test_holm_corrects_as_in_its_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_more_comparisons_make_the_same_difference_less_sure() -> None:
    rng = np.random.default_rng(0)
    models = {f"m{i}": errors(*rng.lognormal(-3, 0.1, 5)) for i in range(6)}
    models |= {"low": errors(*(0.02 * rng.lognormal(0, 0.1, 5)))}
    (alone,) = compare(models, [("low", "m0")])
    family = compare(models, [("low", name) for name in models if name != "low"])
    assert family[0].p == alone.p == alone.corrected
    assert family[0].corrected is not None and alone.corrected is not None
    assert family[0].corrected > alone.corrected
    assert {c.family for c in family} == {6}


def test_a_clear_difference_is_told_and_named_from_either_side() -> None:
    pair = {"a": errors(0.010, 0.011, 0.0102), "b": errors(0.020, 0.0221, 0.0203)}
    (found,) = compare(pair, [("a", "b")])
    assert found.verdict == "lower"
    assert "a has a lower error than b, by 50%" in found.sentence()
    (turned,) = compare(pair, [("b", "a")])
    assert turned.verdict == "higher"


def test_no_difference_is_called_that_whether_equal_or_unknown() -> None:
    same = {"a": errors(0.0200, 0.0210, 0.0190), "b": errors(0.0201, 0.0209, 0.0190)}
    (equal,) = compare(same, [("a", "b")])
    assert equal.verdict == "equal"
    assert "no difference between a and b: equal within 10%" in equal.sentence()
    wild = {"a": errors(0.01, 0.04, 0.02), "b": errors(0.03, 0.02, 0.05)}
    (unknown,) = compare(wild, [("a", "b")])
    assert unknown.verdict == "unknown"
    assert "no difference shown between a and b by 3 seeds" in unknown.sentence()


def test_one_common_seed_does_not_tell() -> None:
    (found,) = compare({"a": {0: 0.01, 1: 0.02}, "b": {0: 0.05, 7: 0.02}}, [("a", "b")])
    assert (found.seeds, found.p, found.verdict) == (1, None, "unknown")
    assert compare({"a": {0: 0.01}, "b": {1: 0.02}}, [("a", "b")]) == []


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ([0.9, 0.5, 0.3, 0.2, 0.15, 0.12, 0.11, 0.08], True),
        ([0.9, 0.5, 0.3, 0.2, 0.105, 0.102, 0.1, 0.1], False),
        ([0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], False),
        ([0.5], True),
    ],
)
def test_training_that_still_improves_at_its_end_is_called_short(
    validation: list[float], expected: bool
) -> None:
    assert is_undertrained({"validation": validation}) is expected


NUMBERS = (50, 200, 800)
POWERS = {"plain-axial": 0.5, "plain-softmax": 0.25}  # by which errors fall


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswers:
    def finished(cell: Cell) -> dict[str, Any]:
        luck, power = 1 + 0.01 * ((cell.seed + len(cell.model.name)) % 3), POWERS[cell.model.name]
        errors: list[float | None] = [0.3 * luck * (number / 50) ** -power for number in NUMBERS]
        if cell.scenario == "burgers" and cell.seed == 2:
            errors[1] = None  # not finite
        curve = [
            {"samples": number, "seed": cell.seed, "test": {"relative_l2": error}}
            for number, error in zip(NUMBERS, errors, strict=True)
        ]
        return record(0.1, learning_curve=curve)

    return answers_with(tmp_path_factory.mktemp("study"), finished)


def test_errors_fall_by_the_power_that_the_cells_have(answers: StudyAnswers) -> None:
    of = answers.samples("darcy")
    assert of.numbers == list(NUMBERS)
    for model, power in POWERS.items():
        curve = of.curves[model]
        assert curve.exponent.value == pytest.approx(power)
        few, *_, many = (mean.value for mean in curve.errors.values())
        assert few / many == pytest.approx(16**power)
        assert [mean.seeds for mean in curve.errors.values()] == [3, 3, 3]


def test_models_are_compared_at_each_number_of_samples_as_one_family(answers: StudyAnswers) -> None:
    few, many = (answers.comparison("darcy", *POWERS, samples=n) for n in (50, 800))
    assert (few.verdict, many.verdict) == ("equal", "lower")
    assert many.ratio == pytest.approx(0.5, rel=0.02)
    assert few.family == many.family == 3
    with pytest.raises(InputError, match="were not compared on darcy at 70 samples"):
        answers.comparison("darcy", *POWERS, samples=70)
    with pytest.raises(InputError, match="no learning curve of 'heat'; there are darcy, burgers"):
        answers.samples("heat")


def test_a_training_that_failed_is_left_out(answers: StudyAnswers) -> None:
    of = answers.samples("burgers")
    assert [mean.seeds for mean in of.curves["plain-axial"].errors.values()] == [3, 2, 3]
    assert of.curves["plain-axial"].exponent.seeds == 2
    assert {c.seeds for c in of.comparisons[200]} == {2}


def test_the_report_has_a_column_for_each_number_of_samples(answers: StudyAnswers) -> None:
    section = samples_section(answers.found)
    assert section is not None
    errors, comparisons = section.tables[:2]
    assert list(errors.rows[0]) == ["model", "50", "200", "800", "exponent"]
    assert errors.rows[0]["exponent"] == "0.50 (0.50 to 0.50)"
    assert [row["samples"] for row in comparisons.rows] == ["50", "200", "800"]
    assert {figure.name for figure in section.figures} == {"samples_darcy", "samples_burgers"}


def test_without_learning_curves_there_is_no_section(tmp_path: Path) -> None:
    found = found_with(tmp_path, lambda cell: record(0.1) if cell == cells()[0] else None)
    assert samples_of(found) == {}
    assert samples_section(found) is None
