"""How long stages worked is found again for whatever result is there, and counts every attempt."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from flows.params import edit_params
from mno.core.times import recorded_seconds
from mno.data.generate.run import Progress
from mno.lineage.dvcfiles import StageInputs
from pipelines.generate import shown
from pipelines.stage import INTERVAL, Stage, StageEnvironment
from tests.support.workspaces import make_workspace

WORK = """
import pathlib, sys, time
from pipelines.stage import recorded

root, key, answer, seconds, fails = sys.argv[1:]
with recorded(pathlib.Path(root), "evaluate", key):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:  # busy, so that processor time is used
        pass
    if fails == "fails":
        raise SystemExit(1)
    path = pathlib.Path(root, "reports/metrics.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(answer)
"""


def start(root, key, answer, seconds, end=""):
    return subprocess.Popen([sys.executable, "-c", WORK, str(root), key, answer, str(seconds), end])


def work(root, key, answer, seconds, end=""):
    return start(root, key, answer, seconds, end).wait()


def found(root):
    seconds = recorded_seconds(root, "evaluate")
    assert seconds is not None
    return seconds


def test_a_result_has_the_time_that_it_took(tmp_path):
    begun = time.monotonic()
    assert work(tmp_path, "a", "1", 0.5) == 0
    around = time.monotonic() - begun
    taken = found(tmp_path)
    assert 0.5 <= taken.seconds < around
    assert taken.cpu_seconds > 0.1
    assert (taken.attempts, taken.cores >= 1) == (1, True)


def test_a_killed_attempt_counts_and_one_that_failed(tmp_path):
    killed = start(tmp_path, "a", "1", 60)
    record = tmp_path / "build/times/evaluate.json"
    while not record.exists():
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert work(tmp_path, "a", "1", 0.1, "fails") == 1
    assert recorded_seconds(tmp_path, "evaluate") is None  # nothing has been made
    assert work(tmp_path, "a", "1", 0.1) == 0
    taken = found(tmp_path)
    assert taken.attempts == 3
    assert taken.seconds > INTERVAL + 0.2
    assert json.loads(record.read_text())["unfinished"] == {}


def test_attempts_with_other_inputs_do_not_count(tmp_path):
    assert work(tmp_path, "a", "1", 0.3, "fails") == 1
    assert work(tmp_path, "b", "2", 0.0) == 0
    assert found(tmp_path).attempts == 1


def test_an_earlier_result_has_its_own_time(tmp_path):
    work(tmp_path, "a", "1", 0.4)
    first = found(tmp_path)
    work(tmp_path, "b", "2", 0.0)
    assert found(tmp_path) != first
    (tmp_path / "reports/metrics.json").write_text("1")
    assert found(tmp_path) == first
    (tmp_path / "reports/metrics.json").write_text("made elsewhere")
    assert recorded_seconds(tmp_path, "evaluate") is None
    shutil.rmtree(tmp_path / "reports")
    assert recorded_seconds(tmp_path, "evaluate") is None


def test_finding_all_work_done_is_not_the_time_of_the_work(tmp_path):
    work(tmp_path, "a", "1", 0.5)
    first = found(tmp_path)
    work(tmp_path, "a", "1", 0.0)
    assert found(tmp_path) == first
    work(tmp_path, "faster code", "1", 0.0)
    assert found(tmp_path).seconds < first.seconds


@pytest.mark.parametrize("content", ["", "[]", '{"finished": 1, "unfinished": 2}', "{}"])
def test_a_record_that_is_no_record_stops_nothing(tmp_path, content):
    record = tmp_path / "build/times/evaluate.json"
    record.parent.mkdir(parents=True)
    record.write_text(content)
    assert work(tmp_path, "a", "1", 0.0) == 0
    assert found(tmp_path).attempts == 1


@pytest.mark.slow
def test_a_result_that_dvc_puts_back_has_the_time_that_it_took(tmp_path):
    workspace = make_workspace(tmp_path / "workspace")
    small(workspace, samples=20)
    first = generated(workspace)
    small(workspace, samples=30)
    assert generated(workspace) != first
    small(workspace, samples=20)
    assert generated(workspace) == first
    shutil.rmtree(workspace.root / "build/times")
    assert recorded_seconds(workspace.root, "generate") is None


def small(workspace, samples):
    edit_params(workspace.root, "quick", [f"generate.samples={samples}", "generate.shard_size=10"])


def generated(workspace):
    workspace.run("dvc", "repro", "data.dvc", check=True)
    seconds = recorded_seconds(workspace.root, "generate")
    assert seconds is not None
    return seconds


@pytest.fixture
def stage(tmp_path, monkeypatch):
    environment = replace(StageEnvironment.read(), quiet=False, terminal=None, workspace=tmp_path)
    return Stage(tmp_path, {}, StageInputs("generate", (), {}, ""), environment)


@pytest.mark.parametrize(
    ("told", "lines"),
    [
        (  # less than a fifth since the last line is worth none, nor is the last one
            [(0, 0), (4, 20), (5, 30), (204, 51), (204.5, 55)],
            ["20/100 samples, 5 per second, 0:00:16 left",
             "51/100 samples, 0.25 per second, 0:03:16 left"],
        ),
        ([(done / 100, done) for done in range(0, 101, 10)], []),
        ([(0.1, 40), (4, 60)], ["continuing after 40 samples",
                                "60/100 samples, 5 per second, 0:00:08 left"]),
    ],
)  # fmt: skip
def test_lines_say_samples_per_second_and_time_left(stage, monkeypatch, capsys, told, lines):
    now = [0.0]
    monkeypatch.setattr("pipelines.generate.monotonic", lambda: now[0])
    with shown(stage) as show:
        for seconds, done in told:
            now[0] = seconds
            show(Progress(done // 10, 10, done, 100))
    assert capsys.readouterr().out.splitlines() == [f"generate   {line}" for line in lines]


def test_a_terminal_has_a_bar_and_no_lines(stage, tmp_path, capsys):
    terminal = tmp_path / "terminal"
    stage = replace(stage, environment=replace(stage.environment, terminal=str(terminal)))
    with shown(stage) as show:
        for done in (0, 40):
            show(Progress(done // 10, 10, done, 100))
    stage.console.file.flush()
    assert "40/100" in terminal.read_text()
    assert capsys.readouterr().out == ""
