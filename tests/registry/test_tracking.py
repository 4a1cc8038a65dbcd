from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mno.core.errors import InputError, MnoError
from mno.registry.reading import describe_registry, why_version_is_unusable
from mno.registry.settings import prepare, registry_uri, use_workspace, without_password
from mno.registry.tracking import TrainingRun

RECORD = {"schema": 1, "ids": {}, "times": {}}


def open_run(shop, key="k"):
    return TrainingRun.open(shop.root, "darcy", key, {"train.epochs": 3})


def get(run):
    return run.workspace.client.get_run(run.run_id)


def test_finished_run_tells_what_came_of_it(shop):
    curves = shop.root / "curves.csv"
    curves.write_text("epoch,loss\n")
    with open_run(shop) as run:
        assert get(run).info.status == "RUNNING"
        assert get(run).data.tags["mno.state"] == "pending"
        run.log_dataset("darcy", "data", "0" * 32 + ".dir", "training")
        run.log_epoch(0, {"loss": 2.0})
        run.finish("c" * 64, RECORD, [curves])
    done = get(run)
    assert done.info.status == "FINISHED"
    assert done.data.tags["mno.state"] == "trained"
    assert done.data.tags["mno.candidate"] == "c" * 64
    assert done.data.params == {"train.epochs": "3"}
    (dataset,) = done.inputs.dataset_inputs
    assert dataset.dataset.digest == "0" * 32 + ".dir"
    client = run.workspace.client
    record = json.loads(Path(client.download_artifacts(run.run_id, "record.json")).read_text())
    assert record["ids"] == {"mlflow_run": run.run_id}
    assert [f.path for f in client.list_artifacts(run.run_id, "training")] == [
        "training/curves.csv"
    ]
    # Opened again after it finished, it still describes its candidate.
    with pytest.raises(KeyboardInterrupt), open_run(shop):
        raise KeyboardInterrupt
    assert (get(run).info.status, get(run).data.tags["mno.state"]) == ("FINISHED", "trained")


def test_same_key_continues_the_same_run_and_logs_no_epoch_twice(shop):
    with pytest.raises(RuntimeError), open_run(shop) as run:
        run.log_epoch(0, {"loss": 2.0})
        run.log_epoch(1, {"loss": 1.0})
        raise RuntimeError("the power is gone")
    assert get(run).info.status == "FAILED"
    assert get(run).data.tags["mno.state"] == "abandoned"
    with open_run(shop) as again:
        assert (again.run_id, again.resumed) == (run.run_id, True)
        for step in (1, 2):
            again.log_epoch(step, {"loss": 1.0})
        again.finish("c" * 64, RECORD)
    history = run.workspace.client.get_metric_history(run.run_id, "loss")
    assert [metric.step for metric in history] == [0, 1, 2]
    assert open_run(shop).run_id == run.run_id
    assert open_run(shop, "other").run_id != run.run_id


def test_runs_of_dead_processes_are_closed_and_those_of_live_ones_are_not(shop):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mno.registry.tracking import TrainingRun\n"
        "run = TrainingRun.open(Path(sys.argv[1]), 'darcy', 'dead', {})\n"
        "print(run.run_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(shop.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    live = open_run(shop, "live")
    open_run(shop, "another")
    dead = live.workspace.client.get_run(done.stdout.strip())
    assert (dead.info.status, dead.data.tags["mno.state"]) == ("KILLED", "abandoned")
    assert get(live).info.status == "RUNNING"


def test_system_metrics_are_logged_while_watching(shop, monkeypatch):
    monkeypatch.setattr("mno.registry.tracking._SAMPLING_SECONDS", 0.2)
    with open_run(shop) as run:
        run.watch_system()
        for _ in range(100):
            if "system/cpu_utilization_percentage" in get(run).data.metrics:
                break
            run._monitor._process.join(0.1)
        run.finish("c" * 64, RECORD)
    assert "system/cpu_utilization_percentage" in get(run).data.metrics


@pytest.mark.parametrize("content", [b"not a database at all " * 40, "other tables"])
def test_database_that_is_none_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "mlflow.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
    before = path.read_bytes()
    for ask in (use_workspace, prepare, lambda root: describe_registry(root, "darcy")):
        with pytest.raises(MnoError, match="mlflow.db is not a database of MLflow") as caught:
            ask(tmp_path)
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]


def test_database_of_another_version_of_mlflow_is_named(shop):
    with sqlite3.connect(shop.root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(MnoError, match="mlflow.db cannot be used.*schema") as caught:
        use_workspace(shop.root)
    assert "\n" not in str(caught.value)


def test_nothing_is_made_to_say_that_nothing_is_registered(tmp_path):
    assert describe_registry(tmp_path, "darcy") == []
    registered = {"name": "mno-darcy", "version": 3}
    assert "not in the registry" in (why_version_is_unusable(tmp_path, registered) or "")
    assert list(tmp_path.iterdir()) == []


def test_copied_workspace_does_not_write_into_the_original(shop, tmp_path):
    use_workspace(shop.root).experiment("darcy")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "mlflow.db").write_bytes((shop.root / "mlflow.db").read_bytes())
    with pytest.raises(MnoError, match="belongs to another folder"):
        use_workspace(copy).experiment("darcy")


def test_a_database_of_the_users_is_respected_and_its_files_go_where_it_is_said(
    shop, tmp_path, monkeypatch
):
    use_workspace(shop.root)
    assert "MLFLOW_TRACKING_URI" not in os.environ  # ours does not pass for the user's
    uri = f"sqlite:///{shop.root}/./mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    workspace = use_workspace(tmp_path)
    assert not workspace.embedded
    assert registry_uri(tmp_path) == uri
    assert not (tmp_path / "mlflow.db").exists()
    with pytest.raises(InputError, match="is a database.*MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        workspace.experiment("burgers")
    assert workspace.client.get_experiment_by_name("burgers") is None
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/line/")
    number = workspace.experiment("burgers")
    location = workspace.client.get_experiment(number).artifact_location
    assert location == "s3://bucket/line/burgers"


def test_passwords_are_not_shown(tmp_path, monkeypatch):
    uri = "postgresql+psycopg://line:hush-hush@127.0.0.1:1/mlflow"
    assert without_password(uri) == "postgresql+psycopg://line:***@127.0.0.1:1/mlflow"
    assert without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("mno.registry.settings._PATIENCE", 0.0)
    with pytest.raises(MnoError, match="does not answer.*is it running") as caught:
        use_workspace(tmp_path)
    assert "hush" not in str(caught.value) and "***" in str(caught.value)


def test_path_that_cannot_be_in_a_uri_is_refused(tmp_path):
    root = tmp_path / "50%"
    root.mkdir()
    with pytest.raises(InputError, match="rename the folder"):
        use_workspace(root)
    assert list(root.iterdir()) == []
