"""What makes a cell stale, and that nothing else does; what is kept, and how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from study_records import ROOT, cells, keep, record

from mno.core.errors import MnoError
from mno.study.design import Cell
from mno.study.results import EQUIVALENCES, Code, Results

FIRST = "darcy--plain-axial--0"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The code of the project, which a test may change, and finished cells."""
    for name in ("mno", "pipelines", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    results, code = Results(tmp_path, "small"), Code(tmp_path)
    for cell in cells():
        keep(results, cell, code, record(0.1))
    return tmp_path


def states(root: Path, these: list[Cell] | None = None) -> dict[str, str]:
    found = Results(root, "small").find(these or cells(), Code(root))
    return {item.cell.name: f"{item.state} {item.reason}".strip() for item in found}


def change(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")


def stale(root: Path) -> set[str]:
    return {name for name, state in states(root).items() if state.startswith("stale")}


def test_nothing_changed_means_nothing_is_stale(workspace: Path) -> None:
    assert set(states(workspace).values()) == {"fresh"}


def test_changed_parameters_make_their_cells_stale(workspace: Path) -> None:
    changed = cells(mixers={"axial": {}, "softmax": {"mixer": "softmax", "layers": 3}})
    found = states(workspace, changed)
    assert {n for n, s in found.items() if s != "fresh"} == {n for n in found if "softmax" in n}
    assert found["darcy--plain-softmax--1"] == "stale its parameters have changed"


def test_training_code_makes_all_cells_stale_and_what_draws_none(workspace: Path) -> None:
    change(workspace / "mno/report/report.css")
    change(workspace / "mno/report/document.py")
    change(workspace / "mno/study/report.py")
    assert stale(workspace) == set()
    change(workspace / "mno/training/fit.py")
    assert len(stale(workspace)) == 12


def test_a_changed_solver_makes_the_cells_of_its_scenario_stale(workspace: Path) -> None:
    change(workspace / "mno/scenarios/burgers.py")
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("burgers")}


def test_new_code_that_makes_the_same_data_leaves_cells_fresh(workspace: Path) -> None:
    change(workspace / "mno/data/generate/work.py")  # of `generate` alone
    assert len(stale(workspace)) == 12  # nobody has made the data since
    results, code = Results(workspace, "small"), Code(workspace)
    for cell in cells():
        results.keep_dataset(cell, code.dataset_digest(cell), "m")
    assert stale(workspace) == set()
    for cell in cells():
        if cell.scenario == "darcy":
            results.keep_dataset(cell, code.dataset_digest(cell), "other")
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("darcy")}
    assert states(workspace)[FIRST] == "stale its data have changed"


def test_code_that_was_shown_to_make_the_same_cells_leaves_them_fresh(workspace: Path) -> None:
    was = {cell.name: Code(workspace).cell_digest(cell) for cell in cells()}
    data = {cell.name: Code(workspace).dataset_digest(cell) for cell in cells()}
    change(workspace / "mno/training/fit.py")
    change(workspace / "mno/data/generate/work.py")  # of `generate`
    assert len(stale(workspace)) == 12
    shown, code = [cell for cell in cells() if cell.scenario == "darcy"], Code(workspace)
    entry = {
        "code": {was[cell.name]: code.cell_digest(cell) for cell in shown},
        "datasets": {data[cell.name]: code.dataset_digest(cell) for cell in shown},
    }
    kept = {"schema": 1, "equivalences": [entry]}
    (workspace / EQUIVALENCES).write_text(json.dumps(kept))
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("burgers")}
    change(workspace / "mno/training/fit.py")
    assert len(stale(workspace)) == 12


def test_a_failure_is_told_until_what_failed_is_changed(workspace: Path) -> None:
    results = Results(workspace, "small")
    kept = results.read(FIRST)
    assert kept is not None
    results.write(FIRST, {**kept, "state": "failed", "reason": "it diverged"})
    assert states(workspace)[FIRST] == "failed it diverged"
    change(workspace / "mno/training/fit.py")
    assert states(workspace)[FIRST] == "missing"


def test_a_result_is_whole_or_not_there_and_strict_json(workspace: Path) -> None:
    results = Results(workspace, "small")
    path = results.write("darcy--plain-axial--9", {"value": [float("nan"), 1.0], "state": "done"})
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["value"] == [None, 1.0]
    assert list(path.parent.glob("*.partial")) == []
    assert results.strays(cells()) == ["darcy--plain-axial--9"]
    path.write_text(path.read_text()[:20])
    with pytest.raises(MnoError, match="git checkout it, or remove it"):
        results.read(path.stem)
