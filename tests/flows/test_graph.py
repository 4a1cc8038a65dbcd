"""The flow's tasks come from DVC's own graph."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stages import read_graph, run_order
from mno.core.errors import InputError

ROOT = Path(__file__).parents[2]


def test_the_line_is_generate_data_train_evaluate_register() -> None:
    assert run_order(read_graph(ROOT)) == [
        "generate", "data.dvc", "train", "learning_curve", "evaluate", "register",
    ]  # fmt: skip


def test_a_target_comes_with_what_it_needs_and_no_more() -> None:
    assert run_order(read_graph(ROOT), "train") == ["generate", "data.dvc", "train"]


def test_a_stage_added_to_dvc_yaml_is_in_the_order(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "data.dvc", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    added = "\n  publish:\n    cmd: echo hello\n    deps: [reports/registered.json]\n"
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text() + added)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    dvc = Path(sys.executable).parent / "dvc"
    subprocess.run([dvc, "init", "-q"], cwd=tmp_path, check=True)
    assert run_order(read_graph(tmp_path))[-1] == "publish"


def test_an_unknown_target_names_those_there_are() -> None:
    with pytest.raises(InputError, match="no stage 'deploy'; it has: data.dvc, evaluate"):
        run_order(read_graph(ROOT), "deploy")


def test_a_circle_is_refused() -> None:
    with pytest.raises(InputError, match="depend on each other"):
        run_order({"a": {"b"}, "b": {"a"}})
