"""Learning curves of cells: means, comparisons at each number, how fast errors fall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_records import answers_with, cells, found_with, record

from mno.core.errors import InputError
from mno.study.answers import StudyAnswers
from mno.study.design import Cell
from mno.study.report import samples_section
from mno.study.statistics import samples_of

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
