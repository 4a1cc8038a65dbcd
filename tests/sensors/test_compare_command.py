"""`mno compare` as a person calls it, with a model that was saved and a run solved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from click.testing import Result
from plant_runs import dataset, untrained, write_log
from typer.testing import CliRunner

from flows.cli import app
from mno.core.errors import InputError

ROOT = Path(__file__).parents[2]
GIVEN = ("sensors.csv", "--model", "model", "--inputs", "data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a solved run, a saved model and readings, outside of any workspace."""
    folder = tmp_path_factory.mktemp("plant")
    store = dataset(folder, "darcy", 16, {})
    (folder / "model").mkdir()
    untrained(store).save(folder / "model")
    pressure = xarray.open_zarr(store)["pressure"].isel(sample=2)
    rng = np.random.default_rng(0)
    rows = []
    for sensor, (i, j) in enumerate(rng.integers(16, size=(7, 2))):
        at = pressure.isel(x=i, y=j)
        reading = float(at) + 0.01 * rng.normal()
        rows.append([0, f"P{sensor}", float(at.x), float(at.y), "pressure", reading, "1", 0.01])
    rows.append([0, "P9", 1.5, 0.5, "pressure", 0.1, "1", 0.01])
    write_log(folder / "sensors.csv", rows)
    return folder


def mno(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "compare", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip


def test_it_prints_the_errors_of_model_and_solver_and_what_to_do_next(folder: Path) -> None:
    done = mno(folder, *GIVEN, "--sample", 2)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "sensors.csv  against model, given data, sample 2"
    assert "pressure  7 readings of 7 sensors" in lines
    assert any(line.startswith("RMSE ") and line.count(" to ") == 3 for line in lines)
    assert any(line.startswith("pressure: RMSE ") for line in lines)
    assert "remark   1 readings are left out: 1 outside the domain" in lines
    assert lines[-1] == "Next: open reports/comparison/index.html"
    assert (folder / "reports/comparison/index.html").is_file()


def called(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Result:
    """Call the command in this process, which starts no other: most of a call's time."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_a_program_can_read_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    done = called(folder, monkeypatch, *GIVEN, "--sample", 2, "--json", "--output", there)
    found = json.loads(done.stdout)
    assert found["scenario"] == "darcy" and found["readings_compared"] == 7
    pressure = found["quantities"]["pressure"]
    assert pressure["solver"]["reduced_chi_square"]["value"] < 3
    assert pressure["model"]["rmse"]["value"] > pressure["solver"]["rmse"]["value"]
    assert Path(found["page"]) == there / "index.html"
    assert json.loads((there / "comparison.json").read_text())["overall"] == pressure


def test_quiet_prints_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    done = called(folder, monkeypatch, *GIVEN, "--sample", 2, "--quiet", "--output", there)
    assert (done.exit_code, done.output) == (0, "")
    assert (there / "index.html").is_file()


def test_bad_input_is_one_line_and_exit_code_two(folder: Path) -> None:
    done = mno(folder, *GIVEN)
    assert done.returncode == 2 and done.stdout == ""
    assert "data holds 4 samples; say which" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*GIVEN, "--sample", 4), "--sample 4: data has samples 0 to 3"),
        (("nothing.csv", *GIVEN[1:]), "nothing.csv cannot be read"),
        ((*GIVEN[:1], "--model", "data", *GIVEN[3:]), "data does not hold a readable model"),
        ((*GIVEN[:3], "--inputs", "model"), "model is not a Zarr group"),
        ((*GIVEN, "--sample", 2, "--mapping", "none.yaml"), "none.yaml cannot be read as YAML"),
        ((*GIVEN, "--sample", 2, "--start", "nan"), "--start nan"),
        ((*GIVEN, "--sample", 2, "--output", "sensors.csv"), "cannot write to sensors.csv"),
        (GIVEN[:1], "is not inside an MNO workspace"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], words: str
) -> None:
    there = sorted(path.name for path in folder.iterdir())
    done = called(folder, monkeypatch, *arguments)
    assert isinstance(done.exception, InputError) and words in str(done.exception)
    assert "\n" not in str(done.exception) and done.output == ""
    assert sorted(path.name for path in folder.iterdir()) == there
