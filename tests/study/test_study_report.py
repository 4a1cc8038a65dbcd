"""Reports and pages say of a study what its cells say, and never mix stale cells with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from study_records import ROOT, SPEC, answers_with, cells, keep, record, spec

from flows.study import load_study, report_study
from mno.core.errors import InputError
from mno.study.answers import Reported, StudyAnswers, fill, reported
from mno.study.design import Cell, StudySpec
from mno.study.findings import front
from mno.study.report import sections_of
from mno.study.results import Code, Found, Identity, Results

SCALES = {"plain-axial": 0.02, "plain-softmax": 0.04}


def test_findings_hold_means_comparisons_and_a_verdict(tmp_path: Path) -> None:
    def finished(cell: Cell) -> dict[str, Any]:
        if cell.scenario == "burgers":  # where seeds matter more than models
            return record((0.03, 0.02, 0.05)[(cell.seed + ("axial" in cell.model.name)) % 3])
        return record(SCALES[cell.model.name] * (1 + 0.02 * cell.seed))

    found = answers_with(tmp_path, finished).findings
    assert found["darcy"].best.model == "plain-axial"
    assert found["darcy"].verdict.startswith("plain-axial wins: the lowest error is that of")
    assert found["burgers"].verdict.startswith("nobody wins: ")
    row = found["darcy"].rows[0]
    assert row.mean.value == pytest.approx(0.02 * 1.02)
    assert (row.finer_ratio, row.finer) == (2.0, pytest.approx(2 * 0.02 * 1.02))
    assert row.break_even == 8000  # (8 s of data + 8 s of training) / (4 ms - 2 ms)
    assert row.undertrained == ()


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    points = [("slow", 9.0, 0.1), ("best", 2.0, 0.1), ("cheap", 1.0, 0.3), ("bad", 3.0, 0.2)]
    assert front(points) == ["cheap", "best"]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "reported.yaml"
    path.write_text(json.dumps({**SPEC, "scenarios": {"darcy": {}}}))
    return path


@pytest.fixture
def kept(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Finished cells of the study, but for one; results lie outside of the checkout."""
    monkeypatch.setattr("mno.study.results.FOLDER", tmp_path)
    study, code = load_study(str(study_file), ROOT), Code(ROOT)
    for cell in study.cells[:-1]:
        keep(study.results, cell, code, record(SCALES[cell.model.name] + 0.001 * cell.seed))
    return study.results


def test_a_report_is_a_page_markdown_and_figures(
    kept: Results, study_file: Path, tmp_path: Path
) -> None:
    done = report_study(str(study_file), tmp_path / "out", allow_stale=False)
    html, markdown = (Path(done[key]).read_text() for key in ("page", "markdown"))
    for text in (html, markdown):
        assert "1 of 6 cells have not been made." in text
        assert "plain-axial has a lower error than plain-softmax" in text
        assert "the solver" in text and "Holm" in text
    assert 'src="http' not in html
    drawn = {path.name for path in (tmp_path / "out/figures").glob("*.png")}
    assert {"errors_darcy.png", "front_latency_ms_darcy.png"} <= drawn
    numbers = json.loads((tmp_path / "out/report.json").read_text())
    assert numbers["fresh"] == 5
    assert numbers["scenarios"]["darcy"]["best"] == "plain-axial"


def test_stale_and_fresh_are_not_mixed_unless_asked_and_then_marked(
    kept: Results, study_file: Path, tmp_path: Path
) -> None:
    name = "darcy--plain-softmax--1"
    content = kept.read(name)
    assert content is not None
    kept.write(name, {**content, "identity": {**content["identity"], "code": "older"}})
    with pytest.raises(InputError) as refused:
        report_study(str(study_file), tmp_path / "out", allow_stale=False)
    said = str(refused.value)
    assert f"{name}: the code that trains and measures it has changed" in said
    assert "--allow-stale" in said and "\n" not in said
    assert not (tmp_path / "out").exists()
    done = report_study(str(study_file), tmp_path / "out", allow_stale=True)
    text = Path(done["markdown"]).read_text()
    assert "1 results are STALE" in text
    assert "STALE (seeds 1)" in text


def test_without_a_cell_there_is_no_report(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mno.study.results.FOLDER", tmp_path)
    with pytest.raises(InputError, match="has no finished cell yet"):
        report_study(str(study_file), tmp_path / "out", allow_stale=False)


ERRORS = {"plain-axial": 0.02, "plain-softmax": 0.04}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswers:
    def finished(cell: Cell) -> dict[str, Any]:
        if cell.scenario == "burgers":
            return record(0.03 * (1 + 0.01 * ((2 * cell.seed + len(cell.model.name)) % 3)))
        return record(ERRORS[cell.model.name] * (1 + 0.02 * cell.seed))

    return answers_with(tmp_path_factory.mktemp("study"), finished)


def test_kinds_of_models_are_compared_pair_by_pair(answers: StudyAnswers) -> None:
    tally = answers.tally("axial", "softmax")
    assert (tally.lower, tally.higher, tally.equal, tally.unknown) == (1, 0, 1, 0)
    assert answers.tally("plain-axial", "plain-softmax") == tally
    back = answers.tally("softmax", "axial")
    assert (back.lower, back.higher, back.equal) == (0, 1, 1)
    ratio = answers.ratio("error", "axial", "softmax", "darcy")
    assert (ratio.mean, ratio.pairs) == (pytest.approx(0.5), 1)
    assert answers.ratio("latency_ms", "axial", "softmax").low == 1.0
    assert ratio.likely is None  # one pair does not tell how pairs scatter
    everywhere = answers.ratio("error", "axial", "softmax")
    assert everywhere.likely is not None
    assert everywhere.likely[0] < everywhere.low < everywhere.mean < everywhere.likely[1]
    assert answers.cells == 12


def test_operators_are_compared_grid_by_grid() -> None:
    def grid(mixer: str, milliseconds: float) -> Found:
        (cell,) = [c for c in cells() if c.name == f"darcy--plain-{mixer}--0"]
        points = [{"resolution": 64, "predict_ms": milliseconds, "step_mib": None}]
        known = {"scenario": "darcy", "backbone": "plain", "mixer": mixer}
        identity = Identity("", "", "", "")
        return Found(cell, identity, "fresh", "", {"cell": known, "points": points})

    asked = StudyAnswers(spec(), [], {}, [grid("axial", 2.0), grid("softmax", 8.0)])
    ratio = asked.ratio_on_grid("predict_ms", "axial", "softmax", 64)
    assert (ratio.mean, ratio.pairs, ratio.likely) == (pytest.approx(0.25), 1, None)
    for quantity, resolution in (("predict_ms", 32), ("step_mib", 64)):
        with pytest.raises(InputError, match="was not measured"):
            asked.ratio_on_grid(quantity, "axial", "softmax", resolution)


def test_a_comparison_may_be_asked_either_way(answers: StudyAnswers) -> None:
    one = answers.comparison("darcy", "plain-axial", "plain-softmax")
    other = answers.comparison("darcy", "plain-softmax", "plain-axial")
    assert one.verdict == "lower" and other.verdict == "higher"
    assert one.low is not None and other.high == pytest.approx(1 / one.low)


def test_a_page_is_filled(answers: StudyAnswers) -> None:
    template = (
        "Axial: {{ study('small').row('darcy', 'plain-axial') | error }},\n"
        "{{ study('small').ratio('error', 'axial', 'softmax', 'darcy') | times }} of softmax.\n"
        "{{ study('small').row('darcy', 'plain-axial').mean | mean }} is the same.\n"
        "Predictions: {{ study('small').ratio('latency_ms', 'axial', 'softmax') | likely }}.\n"
        "{{ table('small', 'darcy', heads={'model': 'operator'}) }}\n"
        "{{ figure('small', 'darcy', 'errors_darcy', 'Errors') }}\n"
    )
    text, figures = fill(template, lambda _: _reported(answers), "figures")
    assert "Axial: 2.0\u202f% (1.9\u202f%–2.1\u202f%),\n0.50× (0.50–0.50) of softmax." in text
    assert "Predictions: 1.00 (1.00–1.00)." in text
    assert "\n0.020 (0.019 to 0.021) is the same.\n" in text
    assert "| operator | parameters |" in text
    assert "![Errors](figures/small_errors_darcy.png)" in text
    assert figures["small_errors_darcy.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ study('small').row('darcy', 'fno') | error }}", "no cell of 'fno' on darcy"),
        ("{{ table('small', 'heat') }}", "no section 'heat'"),
        ("\n{{ study('small' }}", "line 2"),
        ("\n\n{{ None | number }}", "line 3"),
        ("\n{{ 1 / 0 }}", "line 2: division by zero"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ study('small').tally('axial', 'gnot') }}", "no two mixers"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_a_page_asks_for_in_vain_is_said(
    answers: StudyAnswers, template: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fill(template, lambda _: _reported(answers), "figures")


def test_a_page_mixes_no_cells_of_different_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reported.yaml"
    path.write_text(json.dumps({**SPEC, "scenarios": {"darcy": {}}}))
    monkeypatch.setattr("mno.study.results.FOLDER", tmp_path)
    study, code = load_study(str(path), ROOT), Code(ROOT)
    for cell in study.cells:
        keep(study.results, cell, code, record(ERRORS[cell.model.name]))
        _set_code(study.results, cell.name, "older")
    page = reported(study)  # all of one code, though not of today's
    assert page.answers.row("darcy", "plain-axial").stale == ()
    _set_code(study.results, study.cells[0].name, "newer")
    with pytest.raises(InputError, match="cells of darcy come of different code or data"):
        reported(study)


def test_a_scenario_may_be_asked_of_some_models_only() -> None:
    some = {**SPEC["scenarios"], "burgers": {"only": ["plain-axial"]}}
    names = {cell.name for cell in cells(scenarios=some)}
    assert "burgers--plain-axial--0" in names and "burgers--plain-softmax--0" not in names
    assert "darcy--plain-softmax--0" in names
    with pytest.raises(ValueError, match="must list models of the study"):
        StudySpec.model_validate({**SPEC, "scenarios": {"darcy": {"only": ["plain-gnot"]}}})


def _reported(answers: StudyAnswers) -> Reported:
    sections = sections_of(answers.findings, answers.found, answers.grids)
    return Reported(answers, sections)


def _set_code(results: Results, name: str, code: str) -> None:
    content = results.read(name)
    assert content is not None
    results.write(name, {**content, "identity": {**content["identity"], "code": code}})
