"""The stage `learning_curve` in a line of its own: off, on, killed, and with more shares."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.workspaces import make_workspace

SMALL = (
    "generate.samples=50", "generate.shard_size=25", "model.width=8", "model.layers=1",
    "train.epochs=3", "train.batch_size=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    workspace = make_workspace(tmp_path_factory.mktemp("line") / "workspace")
    edit(workspace, *SMALL, preset="'quick'")
    workspace.run("dvc", "repro", "learning_curve", check=True)
    return workspace


def edit(workspace, *assignments, preset="None"):
    code = (
        "import pathlib, sys; from flows.params import edit_params; "
        f"edit_params(pathlib.Path(), {preset}, sys.argv[1:])"
    )
    workspace.run(sys.executable, "-c", code, *assignments, check=True)


def report(workspace):
    return json.loads((workspace.root / "reports/learning_curve.json").read_text(encoding="utf-8"))


def finished(workspace):
    """The checkpoints of trainings that another has followed, with the time each was written."""
    paths = (workspace.root / "build/learning_curve").glob("*/*/epoch-*.ckpt")
    found = {path: path.stat().st_mtime_ns for path in paths}
    latest = max(found, key=found.__getitem__).parent if found else None
    return {path: written for path, written in found.items() if path.parent != latest}


@pytest.mark.slow
@pytest.mark.nightly
def test_off_it_says_how_to_turn_it_on_and_loads_no_torch(line):
    assert report(line)["points"] == []
    assert "mno evaluate --learning-curve" in report(line)["why_off"]
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('pipelines.learning_curve', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print([name for name in ('torch', 'mlflow') if name in sys.modules])"
    )
    assert line.run(sys.executable, "-c", code, check=True).stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.nightly
def test_a_killed_curve_is_continued_and_a_further_share_is_added(line):
    edit(line, "learning_curve.shares=[0.25, 0.5]")
    killed = subprocess.Popen(
        ["dvc", "repro", "learning_curve"], cwd=line.root, env=line.environment,
        start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not finished(line) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = finished(line)
    assert kept
    line.run("dvc", "repro", "learning_curve", check=True)
    assert {path: finished(line).get(path) for path in kept} == kept, "a training was made again"

    first = report(line)["points"]
    assert [(p["samples"], p["share"]) for p in first] == [(10, 0.25), (20, 0.5), (40, 1.0)]
    # 3 epochs of 10 steps are 10 of 3 and 6 of 5.
    assert [point["epochs"] for point in first[:2]] == [10, 6]
    assert all(p["validation"]["measured"] == p["test"]["measured"] == 5 for p in first)
    training = json.loads((line.root / "reports/train.json").read_text(encoding="utf-8"))
    best = training["epochs"][training["best_epoch"] - 1]["validation_relative_l2"]
    assert first[-1]["validation"]["relative_l2"] == pytest.approx(best, rel=1e-4)
    assert len(list((line.root / "build/learning_curve").glob("*/*/epoch-*"))) == 2

    kept = finished(line)
    edit(line, "learning_curve.shares=[0.75, 0.5, 0.25]")
    line.run("dvc", "repro", "learning_curve", check=True)
    assert {path: finished(line).get(path) for path in kept} == kept
    second = report(line)["points"]
    assert [point["samples"] for point in second] == [10, 20, 30, 40]
    assert [point for point in second if point["samples"] != 30] == first

    line.run("dvc", "repro", "report", check=True)
    spent, pays = (
        json.loads((line.root / f"reports/{name}.json").read_text(encoding="utf-8"))[part]
        for name, part in (("cost", "spent"), ("decision", "break_even"))
    )
    assert spent["learning_curve"]["cpu_seconds"] > 0.0
    assert pays["spent"]["learning_curve"] == spent["learning_curve"]["cpu_seconds"]
    assert pays["total_spent"] == pytest.approx(sum(pays["spent"].values()))

    edit(line, "learning_curve.shares=[0.01]")
    refused = line.run("dvc", "repro", "learning_curve")
    assert refused.returncode != 0
    assert "0.01 of 40 training samples are 0" in refused.stderr
