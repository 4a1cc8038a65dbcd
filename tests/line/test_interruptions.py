"""Whatever is killed, whenever: the next run continues and ends in the same bits."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from flows.workspace import leftovers
from tests.support.workspaces import make_workspace

PATIENCE = 180.0  # seconds until something that must happen has happened


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen: {what}")


def processes(workspace, *words):
    """Processes that work in the workspace and have these words in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        here = process.info["cwd"] == str(workspace.root)
        if here and process.info["status"] != "zombie" and all(word in line for word in words):
            found.append(process)
    return found


def stages(workspace, name):
    return processes(workspace, "-m", f"pipelines.{name}")


def workers(stage):
    """The Dask workers of a stage; other processes of it may end while they are looked for."""
    found = []
    for process in stage.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in "".join(process.cmdline()):
                found.append(process)
    return found


def weights(workspace):
    return (workspace.root / "models/candidate/weights.safetensors").read_bytes()


def data_md5(workspace):
    return json.loads((workspace.root / "reports/registered.json").read_text())["record"]["data"][
        "md5"
    ]


def finished_shards(workspace):
    """Completion records by path, with the time each was written."""
    records = (workspace.root / "build/work").glob("*/done/*.json")
    return {str(path): path.stat().st_mtime_ns for path in records}


def checkpoints(workspace):
    return sorted((workspace.root / "build/checkpoints").glob("*/epoch-*.ckpt"))


def end(workspace, run):
    run.wait(timeout=PATIENCE)
    return workspace.output.read_text()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_a_run_killed_again_and_again_ends_in_the_same_model(request, tmp_path):
    workspace = make_workspace(tmp_path / "workspace")

    # The flow alone, while shards are being made: its stage must not go on without it.
    run = workspace.start("run", "--preset", "quick", "--set", "execution.workers=1")
    wait_for(lambda: len(finished_shards(workspace)) >= 2, "two shards")
    run.kill()
    end(workspace, run)
    wait_for(lambda: not stages(workspace, "generate"), "the orphan's end")
    # It may have made them all before it noticed: leave work for the next run.
    for path in sorted(finished_shards(workspace))[2:]:
        Path(path).unlink()
    kept = finished_shards(workspace)
    assert not (workspace.root / "data").exists()
    left = leftovers(workspace.root)
    assert left, "the run's Prefect server outlives it"
    found = json.loads(workspace.mno("doctor", "--json").stdout)
    named = {str(process.pid) for process in left}  # some of which may be about to end
    assert any(pid in finding["detail"] for finding in found for pid in named)

    # A Dask worker, with two of them: the stage itself goes on.
    run = workspace.start("run", "--set", "execution.workers=2")
    wait_for(lambda: not any(map(psutil.Process.is_running, left)), "the leftovers' end")
    stage = wait_for(lambda: stages(workspace, "generate"), "the stage generate")[0]
    wait_for(lambda: workers(stage), "a worker")[-1].kill()
    wait_for(lambda: stages(workspace, "train"), "the stage train")
    again = finished_shards(workspace)
    assert {path: again[path] for path in kept} == kept, "a finished shard was made again"

    # DVC alone, while epochs are being trained.
    wait_for(lambda: checkpoints(workspace), "a checkpoint")
    (dvc,) = processes(workspace, "dvc", "repro", "train")
    dvc.kill()
    assert "error: train: dvc was ended by signal 9; run again" in end(workspace, run)
    assert run.returncode == 1
    assert not stages(workspace, "train")

    # Ctrl-C, which a terminal sends to all processes of the command, an epoch later.
    before = checkpoints(workspace)[-1]
    run = workspace.start("run")
    wait_for(lambda: checkpoints(workspace)[-1] > before, "another checkpoint")
    os.killpg(run.pid, signal.SIGINT)
    output = end(workspace, run)
    assert run.returncode == 130
    assert "run again to continue" in output
    assert "Traceback" not in output
    assert not stages(workspace, "train")

    # Everything at once.
    run = workspace.start("run")
    stage = wait_for(lambda: stages(workspace, "train"), "the stage train")[0]
    group = os.getpgid(stage.pid)
    os.killpg(run.pid, signal.SIGKILL)
    os.killpg(group, signal.SIGKILL)
    end(workspace, run)

    result = json.loads(workspace.mno("run", "--json", check=True).stdout)
    finished = request.getfixturevalue("finished")  # here, so that it is not waited for before
    assert data_md5(workspace) == data_md5(finished)
    assert weights(workspace) == weights(finished)
    assert result["metrics"] == json.loads((finished.root / "reports/metrics.json").read_text())
    assert [version["version"] for version in registry(workspace)] == [1]
    assert not list((workspace.root / "build").glob("*/*/epoch-*")), "checkpoints are swept"


def registry(workspace):
    return json.loads(workspace.mno("status", "--json", check=True).stdout)["registry"]


def test_a_second_run_is_told_who_runs_since_when(workspace):
    # Long enough to be at it for the whole of the test.
    long = ("--set", "train.epochs=5000", "--set", "train.patience=5000")
    run = workspace.start("run", *long)
    try:
        wait_for(lambda: checkpoints(workspace), "a checkpoint")
        second = workspace.mno("run")
        assert second.returncode == 1
        assert f"process {run.pid}" in second.stderr
        assert "since 20" in second.stderr
        assert second.stderr.count("\n") == 1
        # Nor does the second change the parameters of the first.
        params = (workspace.root / "params.yaml").read_text()
        assert workspace.mno("run", "--set", "seed=2").returncode == 1
        assert (workspace.root / "params.yaml").read_text() == params
        status = json.loads(workspace.mno("status", "--json", check=True).stdout)
        assert status["running"]["pid"] == run.pid
        assert "running" in {stage["state"] for stage in status["stages"]}
    finally:
        os.kill(run.pid, signal.SIGTERM)
        output = end(workspace, run)
    # A plain kill ends a run as gently as Ctrl-C, with all that it has started.
    assert run.returncode == 143
    assert "run again to continue" in output
    assert "Traceback" not in output
    assert not leftovers(workspace.root)


@pytest.mark.slow
@pytest.mark.parametrize("edited", ["params.yaml", "mno/training/objective.py"])
def test_an_edit_under_a_running_stage_makes_it_fail(workspace, edited):
    run = workspace.start("run", "--set", "seed=1")
    wait_for(lambda: checkpoints(workspace), "a checkpoint")
    path = workspace.root / edited
    text = path.read_text()
    path.write_text(text.replace("seed: 1", "seed: 2") if edited == "params.yaml" else text + "\n#")
    output = end(workspace, run)
    assert run.returncode == 1
    assert "error: train: parameters or code of train were edited while it ran" in output
    assert "Traceback" not in output
    state = json.loads(workspace.run("dvc", "status", "--json", check=True).stdout)
    assert "train" in state, "the result of neither version was taken"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "train.epoch=3"], "train.epoch is not a parameter"),
        (["--set", "generate.samples=-5"], "generate.samples=-5"),
        (["--preset", "fastest"], "preset 'fastest' must be one of"),
        (["--set", "execution.scheduler=nonsense"], "execution.scheduler"),
    ],
)
def test_wrong_parameters_are_one_line_and_leave_nothing(workspace, arguments, expected):
    before = workspace.run("git", "status", "--short").stdout
    done = workspace.mno("run", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert workspace.run("git", "status", "--short").stdout == before


def test_a_quiet_run_prints_its_failure_and_a_program_can_read_it(workspace):
    (workspace.root / "mlflow.db").write_text("not a database")
    done = workspace.mno("train", "--set", "seed=1", "--quiet", "--json")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "mlflow.db is not a database" in done.stderr
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 1
    assert answer["error"] in done.stderr


def test_a_stage_run_by_dvc_alone_says_what_is_wrong(workspace):
    params = workspace.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 20", "epochs: none"))
    done = workspace.run("dvc", "repro", "train")
    assert done.returncode != 0
    assert "error: train: params.yaml: train.epochs='none'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_none_is_one_line_and_is_not_touched(workspace):
    database = workspace.root / "mlflow.db"
    database.write_bytes(b"this is not a database, but somebody's notes\n" * 100)
    content = database.read_bytes()
    done = workspace.mno("run", "--set", "seed=1")
    assert done.returncode == 1
    assert "mlflow.db is not a database of MLflow" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_bytes() == content


def test_a_command_outside_a_workspace_says_so(workspace, tmp_path):
    done = subprocess.run(
        workspace.command(["status"]), cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**workspace.environment, "PYTHONPATH": str(workspace.root)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "is not inside an MNO workspace" in done.stderr
    assert done.stderr.count("\n") == 1
