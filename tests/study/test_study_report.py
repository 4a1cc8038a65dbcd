"""Reports are made from kept cells alone, and never mix what is stale with what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from study_records import ROOT, SPEC, answers_with, keep, record

from flows.study import load_study, report_study
from mno.core.errors import InputError
from mno.study.design import Cell
from mno.study.findings import front
from mno.study.results import Code, Results

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
