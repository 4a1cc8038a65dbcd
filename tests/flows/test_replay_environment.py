"""What a replay runs in: only its own code, and only the packages that were recorded."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from flows.replay import build_environment, present_conditions, replay_variables
from mno.core.errors import InputError, MnoError
from mno.lineage.replay import Conditions
from tests.support.workspaces import BINARIES

HERE = {"python": platform.python_version()}


@pytest.mark.parametrize(
    "line",
    ["--index-url=http://127.0.0.1:1/==1", "-e ../../elsewhere==1", "six @ file:///etc==1",
     "six==1.0 --hash=x", "../six==1", "six", ""],
)  # fmt: skip
def test_a_line_that_is_no_package_is_not_installed(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "environment"
    with pytest.raises(InputError, match="is not one package and its version"):
        build_environment(folder, Conditions([line], HERE), print)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("packages", "machine", "said"),
    [
        (None, HERE, "is not known"),
        (["six==1.0", "six==1.1"], HERE, "'six' in the recorded packages"),
        ([], {"python": "3.1.4"}, "no python3.1 on the path"),
        ([], {"python": "../../bin/sh"}, "no python"),
        ([], {}, "no python"),
    ],
)
def test_what_cannot_be_built_is_wrong_use(
    tmp_path: Path, packages: list[str] | None, machine: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        build_environment(tmp_path / "environment", Conditions(packages, machine), print)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_has_nothing_but_what_was_recorded_and_is_built_once(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    folder = tmp_path / "environment"
    for _ in range(2):
        binaries = build_environment(folder, Conditions([], HERE), said.append)
    assert len(said) == 1
    code = "import importlib.metadata as m; print(list(m.distributions()))"
    done = subprocess.run(
        [binaries / "python", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_other_code_than_the_snapshots_is_not_run(tmp_path: Path) -> None:
    variables = replay_variables(tmp_path, BINARIES, quiet=True)
    with pytest.raises(MnoError, match="instead of the snapshot's code|does not start"):
        present_conditions(tmp_path, BINARIES, variables)


def test_nothing_of_a_registry_or_a_run_reaches_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"MLFLOW_TRACKING_TOKEN", "MNO_SERVE_TOKEN", "DVC_EXP_NAME", "GIT_DIR"}
    for name in (*foreign, "MLFLOW_TRACKING_URI", "PYTHONPATH"):
        monkeypatch.setenv(name, "/elsewhere")
    variables = replay_variables(tmp_path, BINARIES, quiet=True)
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert variables["PYTHONPATH"] == variables["DVC_ROOT"] == str(tmp_path)
    assert variables["PATH"].split(os.pathsep)[0] == str(BINARIES)
    assert not foreign & set(variables)
