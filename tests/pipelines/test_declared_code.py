"""Each stage of dvc.yaml names all the code of ours that it runs, as it was computed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mno.core.config import IMPORTED, read_params
from mno.core.imports import imported_files
from mno.lineage.dvcfiles import IGNORED, stage_inputs
from mno.scenarios.base import scenario_names
from pipelines.deps import rewritten, stage_code

ROOT = Path(__file__).parents[2]
STAGES = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def test_dvc_yaml_names_what_the_stages_import():
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8") == rewritten(ROOT)


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_declared(stage):
    declared = set(stage_inputs(ROOT, stage, read_params(ROOT)).code)
    imported = imported_files(ROOT, [f"pipelines/{stage}.py"])
    assert len(imported) > 5
    assert sorted(imported - declared) == []


@pytest.mark.parametrize("name", [*scenario_names(), IMPORTED])
def test_what_a_scenario_imports_is_declared_by_generation(name):
    params = {**read_params(ROOT), "scenario": name}
    params["scenarios"] = {name: {}}
    declared = set(stage_inputs(ROOT, "generate", params).code)
    assert f"mno/scenarios/{name}.py" in declared
    assert sorted(imported_files(ROOT, [f"mno/scenarios/{name}.py"]) - declared) == []


def test_no_scenario_is_declared_that_is_not_solved():
    declared = set(stage_inputs(ROOT, "generate", read_params(ROOT)).code)
    scenario = read_params(ROOT)["scenario"]
    others = {f"mno/scenarios/{name}.py" for name in scenario_names() if name != scenario}
    assert len(others) > 5
    assert sorted(others & declared) == []


def test_training_depends_on_no_solver():
    declared = set(stage_inputs(ROOT, "train", read_params(ROOT)).code)
    assert not any("kernels" in name or name == "mno/scenarios/darcy.py" for name in declared)
    residuals = sorted((ROOT / "mno/scenarios/residuals").glob("*.py"))
    assert {path.relative_to(ROOT).as_posix() for path in residuals} <= declared


def test_files_that_are_read_rather_than_imported_are_declared_too():
    params = read_params(ROOT)
    report = stage_inputs(ROOT, "report", params).code
    read = [path for end in ("j2", "toml") for path in (ROOT / "mno/report").rglob(f"*.{end}")]
    assert len(read) > 5
    assert {path.relative_to(ROOT).as_posix() for path in read} <= set(report)
    assert "mno/registry/pyfunc_model.py" in stage_inputs(ROOT, "register", params).code


def checkout(root):
    for name, text in {
        "mno/__init__.py": "",
        "mno/apart/__init__.py": "",
        "mno/apart/used.py": "",
        "mno/apart/unused.py": "",
        "mno/whole/__init__.py": "",
        "mno/whole/one.py": "def late():\n    from mno.apart import used\n",
        "mno/whole/page.css": "",
        "pipelines/stage_a.py": "import mno.whole.one\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_folder_stands_for_its_files_only_where_all_of_them_are_needed(tmp_path):
    root = checkout(tmp_path)
    (root / "mno/whole/page.css").unlink()
    assert stage_code(root, "stage_a") == [
        "mno/__init__.py",
        "mno/apart/__init__.py",
        "mno/apart/used.py",
        "mno/whole",
        "pipelines",
    ]


def test_a_file_that_no_import_names_keeps_a_folder_apart(tmp_path):
    assert "mno/whole" not in stage_code(checkout(tmp_path), "stage_a")


def test_only_type_checkers_read_some_imports(tmp_path):
    root = checkout(tmp_path)
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mno.apart.unused\n"
    (root / "pipelines/stage_a.py").write_text(text)
    assert stage_code(root, "stage_a") == ["pipelines"]


def test_the_command_says_when_something_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.deps"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_what_dvc_leaves_out_is_no_code():
    patterns = (ROOT / ".dvcignore").read_text().splitlines()
    left_out = [pattern for pattern in patterns if pattern[0] not in "#/"]
    assert {"*~", "*.md", ".ipynb_checkpoints"} <= set(left_out)
    for pattern in left_out:
        name = pattern.replace("*", "code.py") if "*" in pattern else f"{pattern}/code.py"
        assert IGNORED.search(f"mno/core/{name}"), pattern
    assert not IGNORED.search("mno/core/code.py")
