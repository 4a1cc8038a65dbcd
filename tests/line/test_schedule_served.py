"""A schedule that is served for real: runs by the clock, kills, and what is made up for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.support.workspaces import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1500)]
PATIENCE = 600.0  # seconds


@pytest.fixture
def alone(workspace: Workspace) -> Workspace:
    """The workspace without the server that tests share: the service brings its own."""
    return Workspace(workspace.root)


def wait_for(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE:g} s"
        time.sleep(0.5)
    return value


def journal(workspace: Workspace) -> dict[str, Any]:
    path = workspace.root / "build/schedule/runs.json"
    return json.loads(path.read_text()) if path.exists() else {"runs": [], "due": None}


def ended(workspace: Workspace, **facts: Any) -> list[dict[str, Any]]:
    return [
        run
        for run in journal(workspace)["runs"]
        if run["ended"] and all(run.get(key) == value for key, value in facts.items())
    ]


def serve(workspace: Workspace) -> subprocess.Popen[str]:
    server = workspace.start("schedule", "serve")
    wait_for(lambda: server.poll() or "Ctrl-C" in workspace.output.read_text(), "service")
    assert server.poll() is None, workspace.output.read_text()
    return server


def stop(workspace: Workspace, server: subprocess.Popen[str]) -> None:
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait(120) == 0
    assert "Traceback" not in workspace.output.read_text()
    assert work_in(workspace) == []


def work_in(workspace: Workspace) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(workspace.root):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_it_runs_by_the_clock_and_makes_up_once_for_what_was_missed(alone: Workspace) -> None:
    # The copy has an empty registry, which is a reason, once.
    alone.mno("schedule", "--interval", "20s", check=True)
    server = serve(alone)
    first = wait_for(lambda: ended(alone), "run by the clock")[0]
    assert (first["outcome"], first["stages"]) == ("updated", ["register"])
    wait_for(lambda: ended(alone, outcome="nothing changed"), "run without a reason")
    os.kill(server.pid, signal.SIGKILL)
    server.wait()

    # A night passes in which nothing serves it.
    alone.mno("schedule", "--cron", "0 3 * * *", check=True)
    path = alone.root / "build/schedule/runs.json"
    path.write_text(json.dumps({**journal(alone), "due": "2026-01-02T03:00:00+00:00"}))
    known = len(journal(alone)["runs"])
    server = serve(alone)
    assert "made up for now" in alone.output.read_text()
    wait_for(lambda: ended(alone, missed="2026-01-02T03:00:00+00:00"), "run that makes up")
    time.sleep(20)
    assert len(journal(alone)["runs"]) == known + 1
    second = alone.mno("schedule", "serve")
    assert second.returncode == 1 and f"process {server.pid}" in second.stderr
    stop(alone, server)


def test_a_run_whose_service_is_killed_is_set_crashed_and_begun_anew(alone: Workspace) -> None:
    params = alone.root / "params.yaml"
    endless = re.sub(r"(epochs|patience): \d+", r"\1: 5000", params.read_text())
    params.write_text(endless)
    alone.mno("schedule", "--cron", "0 3 * * *", check=True)
    server = serve(alone)
    asked = subprocess.Popen(
        alone.command(["schedule", "run"]), cwd=alone.root, env=alone.environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(lambda: list(alone.root.glob("build/checkpoints/*/epoch-*")), "checkpoint")
    run = journal(alone)["runs"][-1]
    busy = alone.mno("run")
    assert busy.returncode == 1 and "already running" in busy.stderr
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    _, said = asked.communicate(timeout=120)
    assert asked.returncode == 1 and len(said.strip().splitlines()) == 1, said

    server = serve(alone)
    assert ended(alone, id=run["id"])[0]["outcome"] == "crashed"
    api = json.loads((alone.root / "build/schedule/server.json").read_text())["api"]
    assert httpx.get(f"{api}/flow_runs/{run['id']}").json()["state"]["type"] == "CRASHED"
    wait_for(lambda: journal(alone)["runs"][-1]["id"] != run["id"], "run that begins anew")
    assert journal(alone)["runs"][-1]["missed"] == run["scheduled"]
    wait_for(lambda: any("pipelines.train" in line for line in work_in(alone)), "training")
    stop(alone, server)
    assert journal(alone)["runs"][-1]["outcome"] == "cancelled"
