"""The cells of a study: their order, what a budget buys, what makes them stale, what is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from study_records import ROOT, cells, found_with, keep, record, spec

from flows.study import load_study
from mno.core.errors import InputError, MnoError
from mno.study.design import Cell, StudySpec, cells_of
from mno.study.planning import make_plan
from mno.study.results import EQUIVALENCES, Code, Found, Results


def found_in(folder: Path, errors: dict[str, float]) -> list[Found]:
    """Cells of the small study, some of which are finished with an error."""
    return found_with(folder, lambda c: record(errors[c.name]) if c.name in errors else None)


def names(found: list[Found]) -> list[str]:
    return [item.cell.name for item in make_plan(found).order]


def test_every_model_comes_once_before_any_comes_twice(tmp_path: Path) -> None:
    order = names(found_in(tmp_path, {}))
    assert len(order) == 12
    assert order[:4] == [
        "darcy--plain-axial--0", "darcy--plain-softmax--0",
        "burgers--plain-axial--0", "burgers--plain-softmax--0",
    ]  # fmt: skip
    assert all(name.endswith("--2") for name in order[8:])


def test_a_hole_is_filled_first_then_what_scatters_most(tmp_path: Path) -> None:
    finished = {f"{s}--plain-{m}--{n}": 0.1 for s in ("darcy", "burgers")
                for m in ("axial", "softmax") for n in (0, 1)}  # fmt: skip
    finished["burgers--plain-axial--1"] = 0.2
    finished["darcy--plain-softmax--1"] = 0.11
    del finished["darcy--plain-axial--0"]
    order = names(found_in(tmp_path, finished))
    assert order[:3] == [
        "darcy--plain-axial--0", "burgers--plain-axial--2", "darcy--plain-softmax--2",
    ]  # fmt: skip


def test_a_budget_buys_what_like_cells_have_taken(tmp_path: Path) -> None:
    first = make_plan(found_in(tmp_path, {}))
    assert first.expected() is None
    assert first.within(3600) == 1  # nobody knows yet what a cell takes
    plan = make_plan(found_in(tmp_path, {"darcy--plain-axial--0": 0.1}))
    assert plan.expected() == pytest.approx(11 * 30)
    assert plan.expected(workers=2) == pytest.approx(5.5 * 30)
    assert (plan.within(100), plan.within(100, workers=2), plan.within(None)) == (3, 6, 11)


def test_nothing_that_is_written_in_params_yaml_changes_a_cell() -> None:
    study = spec(base={"generate": {"samples": 80, "resolution": 16}, "train": {"epochs": 3}})
    (cell, *_) = cells_of("small", study)
    assert cell.params["train"]["epochs"] == 3
    assert cell.params["model"]["layers"] == 4  # the default of the code
    assert cell.params["scenarios"] == {"darcy": {}}


def test_a_cell_has_every_parameter_that_a_stage_reads() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    read = {name for stage in stages.values() for name in stage["params"]}
    (cell, *_) = cells()
    assert {name.partition(".")[0] for name in read} <= set(cell.params)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seeds: [0, 0]", "lists one twice"),
        ("mixers: {}", "give both"),
        ("compare: nobody", "must be backbone, all, or a model"),
        ("base: {modle: {}}", "base.modle is not known"),
        ("surprise: 1", "surprise is not a parameter"),
        ("scenarios: {Bad Name: {}}", "the name 'Bad Name'"),
        ("title: [", "not valid YAML"),
    ],
)
def test_a_study_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, change: str, said: str
) -> None:
    key = change.partition(":")[0]
    given = {
        "title": "title: T", "seeds": "seeds: [0]", "scenarios": "scenarios: {darcy: {}}",
        "backbones": "backbones: {plain: {}}", "mixers": "mixers: {axial: {}}",
    }  # fmt: skip
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join((given | {key: change}).values()))
    with pytest.raises(InputError) as error:
        StudySpec.read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shipped_studies_can_be_read() -> None:
    assert {"ablation", "data", "paper", "who_wins"} <= set(StudySpec.names(ROOT))
    for name in StudySpec.names(ROOT):
        study = StudySpec.read(ROOT / f"studies/{name}.yaml")
        assert len(study.seeds) >= 3
        assert len({cell.name for cell in cells_of(name, study)}) == len(cells_of(name, study))


@pytest.mark.parametrize("name", StudySpec.names(ROOT))
def test_every_cell_of_a_shipped_study_can_be_made_at_its_size(name: str) -> None:
    study = load_study(name, ROOT)
    assert len(study.cells) == len(cells_of(name, study.spec))


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
