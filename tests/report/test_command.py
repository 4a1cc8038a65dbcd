"""`mno inspect data` as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stores import axis, release

from mno.core.fields import Field

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(16, 20))
    return release(
        tmp_path / "data", {Field("u", "m", "height", "input", ("x",)): values}, (axis("x", 20),)
    )


def inspect(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "inspect", "data", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )  # fmt: skip


def test_it_prints_one_screen_and_ends_with_what_to_do_next(store: Path, tmp_path: Path) -> None:
    done = inspect(tmp_path, "--data", "data")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "data  given, 16 samples" and len(lines) < 40
    assert lines[-1] == "Next: open reports/inspection/index.html; then mno train"
    assert "Physics checks  not known: there is no reports/dataset.json beside the data" in lines
    assert any(line.startswith("train") and "50" in line for line in lines)
    assert (tmp_path / "reports/inspection/index.html").is_file()


def test_a_program_can_read_it(store: Path, tmp_path: Path) -> None:
    done = inspect(tmp_path, "--data", store, "--output", tmp_path / "there", "--json")
    found = json.loads(done.stdout)
    assert found["samples"] == 16 and found["problems"] == []
    assert Path(found["page"]) == tmp_path / "there/index.html"
    assert json.loads((tmp_path / "there/inspection.json").read_text())["fields"].keys() == {"u"}


def test_quiet_prints_nothing(store: Path, tmp_path: Path) -> None:
    done = inspect(tmp_path, "--data", store, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "reports/inspection/index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nothing"], "nothing holds no dataset"),
        (["--data", "data", "--output", "a-file"], "cannot write to a-file: File exists"),
        ([], "is not inside an MNO workspace"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    store: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "a-file").write_text("")
    done = inspect(tmp_path, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_data_of_sensors_end_with_a_verdict(tmp_path: Path) -> None:
    field = Field("u", "m", "height", "state", ("time", "x"), gaps=True)
    values = np.random.default_rng(0).normal(size=(16, 12, 20))
    values[0, :, 3] = np.nan
    release(tmp_path / "data", {field: values}, (axis("time", 12), axis("x", 20)))
    done = inspect(tmp_path, "--data", "data")
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    assert "Verdict these data do not suffice for training on u: u: a higher rate" in told
    assert "u values missing 0.31 % at most 30 % yes" in told
    assert told.endswith("then add what is missing and import again: mno import --help")
    found = json.loads(inspect(tmp_path, "--data", "data", "--json").stdout)
    assert found["sufficiency"]["suffices"] is False
