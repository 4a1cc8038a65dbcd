"""Each stage of dvc.yaml declares all the code of ours that it runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mno.config import IMPORTED, read_params
from mno.lineage.stages import CODE_FOLDERS, stage_inputs
from mno.scenarios import scenario_names

ROOT = Path(__file__).parents[2]
STAGES = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def modules_imported_by(start: Path) -> set[str]:
    """Every file of ours that importing a file runs, directly or not."""
    found: set[str] = set()
    waiting = [start.relative_to(ROOT).as_posix()]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        for module in _imports(tree):
            waiting.extend(_files(module))
    return found


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return [name for child in node.orelse for name in _imports(child)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for child in ast.iter_child_nodes(node) for name in _imports(child)]


def _files(module: str) -> list[str]:
    parts = module.split(".")
    if parts[0] not in CODE_FOLDERS:
        return []
    candidates = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    names = [f"{path}{end}" for path in candidates for end in (".py", "/__init__.py")]
    return [name for name in names if (ROOT / name).is_file()]


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_declared(stage: str) -> None:
    declared = set(stage_inputs(ROOT, stage, read_params(ROOT)).code)
    imported = modules_imported_by(ROOT / "pipelines" / f"{stage}.py")
    assert len(imported) > 5
    assert sorted(imported - declared) == []


def test_what_imported_data_are_read_by_is_declared_by_generation() -> None:
    params = {**read_params(ROOT), "scenario": IMPORTED}
    params["scenarios"] = {IMPORTED: {}}
    declared = set(stage_inputs(ROOT, "generate", params).code)
    assert sorted(modules_imported_by(ROOT / "mno/scenarios/imported.py") - declared) == []


def test_what_residuals_import_is_declared_by_training() -> None:
    declared = set(stage_inputs(ROOT, "train", read_params(ROOT)).code)
    for path in (ROOT / "mno/residuals").glob("*.py"):
        assert sorted(modules_imported_by(path) - declared) == []


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_declares_a_module_that_it_does_not_import(stage: str) -> None:
    """A dependency too many reruns the stage for nothing."""
    params = read_params(ROOT)
    declared = set(stage_inputs(ROOT, stage, params).code)
    imported = modules_imported_by(ROOT / "pipelines" / f"{stage}.py")
    # Scenarios, which share kernels, and their residuals are imported by name.
    if stage in ("generate", "evaluate", "register"):
        for name in (*scenario_names(), IMPORTED):
            imported |= modules_imported_by(ROOT / "mno/scenarios" / f"{name}.py")
    if stage in ("train", "learning_curve", "evaluate", "register"):
        for path in (ROOT / "mno/residuals").glob("*.py"):
            imported |= modules_imported_by(path)
    packaged = {"mno/registry/pyfunc_model.py"}  # read as a file, to go into the package
    unused = {name for name in declared - imported - packaged if name.endswith(".py")}
    assert sorted(unused) == []


def test_files_that_are_read_rather_than_imported_are_declared_too() -> None:
    params = read_params(ROOT)
    evaluate = stage_inputs(ROOT, "evaluate", params).code
    read = [
        path
        for end in ("j2", "toml")
        for path in (ROOT / "mno/evaluation").rglob(f"report/**/*.{end}")
    ]
    assert len(read) > 10
    assert {path.relative_to(ROOT).as_posix() for path in read} <= set(evaluate)
    assert "mno/registry/pyfunc_model.py" in stage_inputs(ROOT, "register", params).code


def test_a_missing_declaration_would_be_found() -> None:
    imported = modules_imported_by(ROOT / "pipelines/generate.py")
    assert "mno/config.py" in imported
    assert "mno/__init__.py" in imported
    assert not any(name.startswith("mno/nn") for name in imported)
