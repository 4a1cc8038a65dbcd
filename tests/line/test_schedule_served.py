"""A schedule that is served for real: runs by the clock, kills, and what is made up for."""

import json
import os
import re
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

import httpx
import psutil
import pytest
import xarray

from mno.serving.counts import read
from tests.support.workspaces import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1500)]
PATIENCE = 600.0  # seconds


@pytest.fixture
def alone(workspace):
    """The workspace without the server that tests share: the service brings its own."""
    return Workspace(workspace.root)


def wait_for(found, what):
    deadline = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE:g} s"
        time.sleep(0.5)
    return value


def runs(workspace):
    listed = workspace.mno("schedule", "list", "--json")
    return json.loads(listed.stdout)["runs"] if listed.returncode == 0 else []


def ended(workspace, **facts):
    return [
        run
        for run in runs(workspace)
        if run["ended"] and all(run.get(key) == value for key, value in facts.items())
    ]


def serve(workspace):
    server = workspace.start("schedule", "serve")
    wait_for(lambda: server.poll() or "Ctrl-C" in workspace.output.read_text(), "service")
    assert server.poll() is None, workspace.output.read_text()
    return server


def stop(workspace, server):
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait(120) == 0
    assert "Traceback" not in workspace.output.read_text()
    assert work_in(workspace) == []


def work_in(workspace):
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(workspace.root):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_it_runs_by_the_clock_and_makes_up_once_for_what_was_missed(alone):
    # The copy has an empty registry, which is a reason, once.
    alone.mno("schedule", "--interval", "20s", check=True)
    server = serve(alone)
    first = wait_for(lambda: ended(alone), "run by the clock")[0]
    assert (first["outcome"], first["stages"]) == ("updated", ["register", "report"])
    wait_for(lambda: ended(alone, outcome="nothing changed"), "run without a reason")
    os.kill(server.pid, signal.SIGKILL)
    server.wait()

    # A night passes in which nothing serves it.
    alone.mno("schedule", "--cron", "0 3 * * *", check=True)
    with closing(sqlite3.connect(alone.root / ".prefect/prefect.db")) as database:
        database.execute(
            "UPDATE flow_run SET next_scheduled_start_time = '2026-01-02 03:00:00.000000' "
            "WHERE state_type = 'SCHEDULED'"
        )
        database.commit()
    known = len(runs(alone))
    server = serve(alone)
    assert "made up for now" in alone.output.read_text()
    (made_up,) = wait_for(lambda: ended(alone)[known:], "run that makes up")
    assert datetime.fromisoformat(made_up["missed"]) == datetime(2026, 1, 2, 3, tzinfo=UTC)
    time.sleep(20)
    assert len(runs(alone)) == known + 1
    second = alone.mno("schedule", "serve")
    assert second.returncode == 1 and f"process {server.pid}" in second.stderr
    stop(alone, server)


def test_a_run_whose_service_is_killed_is_set_crashed_and_begun_anew(alone):
    params = alone.root / "params.yaml"
    params.write_text(re.sub(r"(epochs|patience): \d+", r"\1: 5000", params.read_text()))
    alone.mno("schedule", "--interval", "20s", check=True)
    server = serve(alone)
    wait_for(lambda: list(alone.root.glob("build/checkpoints/*/epoch-*")), "checkpoint")
    run = runs(alone)[-1]
    busy = alone.mno("run")
    assert busy.returncode == 1 and "already running" in busy.stderr
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    alone.mno("schedule", "--cron", "0 3 * * *", check=True)
    server = serve(alone)
    assert ended(alone, id=run["id"])[0]["outcome"] == "crashed"
    api = json.loads(alone.mno("schedule", "list", "--json").stdout)["serving"]["api"]
    assert httpx.get(f"{api}/flow_runs/{run['id']}").json()["state"]["type"] == "CRASHED"
    wait_for(lambda: runs(alone)[-1]["id"] != run["id"], "run that begins anew")
    assert runs(alone)[-1]["missed"] == run["scheduled"]
    wait_for(lambda: any("pipelines.train" in line for line in work_in(alone)), "training")
    stop(alone, server)
    assert runs(alone)[-1]["outcome"] == "cancelled"


BATCH, UNLIKE, LIKE = 32, 4, 1  # samples per request; requests
FACTOR = 30.0  # of the permeability: far outside of what the model was trained on


def ask(address, permeability):
    body = {"inputs": {"permeability": permeability.tolist()}}
    httpx.post(address, json=body, timeout=120).raise_for_status()


def serve_drifted_inputs(workspace):
    server = workspace.start("serve", "--port", "0")
    try:
        address = None
        while address is None:
            assert server.poll() is None, workspace.output.read_text()
            address = re.search(r"http://\S+/invocations", workspace.output.read_text())
            time.sleep(0.1)
        usual = xarray.open_zarr(workspace.root / "data")["permeability"][:BATCH].values
        for factor in (FACTOR,) * UNLIKE + (1.0,) * LIKE:
            ask(address.group(), factor * usual)
    finally:
        os.kill(server.pid, signal.SIGTERM)
        server.wait(60)


def scheduled_run(workspace):
    return json.loads(workspace.mno("schedule", "run", "--json", check=True).stdout)


def test_inputs_unlike_the_training_data_lead_to_one_retraining(workspace):
    # The copy has an empty registry: the model is registered, and nothing is left to do.
    assert scheduled_run(workspace)["outcome"] == "updated"
    serve_drifted_inputs(workspace)
    (seen,) = read(workspace.root).values()
    assert seen["judged"] == BATCH * (UNLIKE + LIKE)
    assert BATCH * UNLIKE <= seen["flagged"] <= BATCH * UNLIKE + BATCH // 4

    # There is a reason, and nothing that another training would do otherwise.
    found = scheduled_run(workspace)
    (reason,) = found["reasons"]
    assert re.match(r"drift: \d+% of 160 inputs served by mno-darcy/1 are unlike", reason)
    assert found["outcome"] == "nothing changed" and "import new data" in found["said"]

    params = workspace.root / "params.yaml"
    text = params.read_text().replace("    set: {}", "    set: {seed: 5}")
    params.write_text(text.replace("  tidy: false", "  tidy: true"))
    assert scheduled_run(workspace)["outcome"] == "nothing changed"  # that drift has been noted
    serve_drifted_inputs(workspace)
    found = scheduled_run(workspace)
    assert found["reasons"][0].startswith("drift: ")
    assert found["outcome"] == "trained" and found["model"] == "models:/mno-darcy/2"
    assert "tidied: " in found["said"]
    assert "seed: 5" in params.read_text()
