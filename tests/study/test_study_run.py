"""A tiny study, really run: killed, resumed, one cell failing; kept in three places."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import mlflow
import pytest

from mno.core.config import read_params
from tests.support.workspaces import Workspace, end_processes_in, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

STUDY = """\
title: A tiny study
seeds: [0, 1]
base:
  generate: {samples: 40, resolution: 16, shard_size: 20}
  model: {layers: 1, d_state: 1}
  train: {epochs: 2, batch_size: 8, threads: 1}
  evaluate:
    robustness: {noise: [0.1], missing: [0.25], resolutions: [2.0], samples: 4, solved_samples: 2}
    economics: {comparison_seconds: 0.1}
scenarios: {darcy: {}}
models:
  axial: {}
  softmax: {mixer: softmax, heads: 2}
  broken: {train: {learning_rate: 1.0e+30, gradient_clip: 1.0e+30}}
compare: all
scaling: {resolutions: [8, 16], seconds: 0.02}
"""
RESULTS = "studies/results/tiny"
FIRST = f"{RESULTS}/darcy--axial--0.json"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("studied") / "root")
    (made.root / "studies/tiny.yaml").write_text(STUDY)
    yield made  # pyright: ignore[reportReturnType]
    end_processes_in(made.root)


def wait_for(path: Path, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.5)


def kept(root: Path) -> dict[str, dict]:
    return {p.stem: json.loads(p.read_text()) for p in sorted((root / RESULTS).glob("*.json"))}


@pytest.mark.timeout(3000)
def test_a_killed_study_goes_on_and_keeps_what_it_had(workspace: Workspace) -> None:
    root = workspace.root
    before = (root / "params.yaml").read_bytes(), (root / "data.dvc").read_bytes()
    running = workspace.start("study", "run", "tiny")
    wait_for(root / FIRST)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    first = (root / FIRST).read_bytes()
    unfinished = workspace.mno("study", "report", "tiny", "--json")
    assert unfinished.returncode == 0, unfinished.stderr

    done = workspace.run(*workspace.command(["study", "run", "tiny", "--json"]), timeout=2400)
    assert done.returncode == 1, done.stderr  # a cell has failed
    answer = json.loads(done.stdout)
    assert (answer["fresh"], answer["failed"], answer["missing"]) == (4, 2, 0)
    assert (root / FIRST).read_bytes() == first
    cells = kept(root)
    assert len(cells) == 6
    assert "diverged" in cells["darcy--broken--0"]["reason"]
    assert len(list((root / RESULTS / "scaling").glob("*.json"))) == 3
    # The line's own parameters and data are as they were.
    assert ((root / "params.yaml").read_bytes(), (root / "data.dvc").read_bytes()) == before


@pytest.mark.timeout(600)
def test_every_finished_cell_is_an_experiment_and_a_nested_run(workspace: Workspace) -> None:
    root = workspace.root
    cells = {name: cell for name, cell in kept(root).items() if cell["state"] == "done"}
    assert len(cells) == 4
    for name, cell in cells.items():
        commit = cell["experiment"]["commit"]
        shown = workspace.run("git", "show", f"{commit}:params.yaml", check=True).stdout
        there = root.parent / f"{name}"
        there.mkdir()
        (there / "params.yaml").write_text(shown)
        params = read_params(there)
        assert params["model"] == cell["params"]["model"]
        assert params["seed"] == cell["params"]["seed"]
    listed = workspace.run("dvc", "exp", "list", "--name-only", check=True).stdout.split()
    assert {cell["experiment"]["name"] for cell in cells.values()} <= set(listed)
    assert len({cell["identity"]["data"] for cell in cells.values()}) == 1
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("study-tiny").experiment_id])
    parents = [run for run in runs if not run.data.tags["mno.cell"]]
    nested = {run.data.tags["mno.cell"]: run for run in runs if run.data.tags["mno.cell"]}
    assert len(parents) == 1
    assert set(nested) == set(cells)
    for name, run in nested.items():
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.metrics["relative_l2"] == cells[name]["metrics"]["relative_l2"]
        assert client.get_run(run.data.tags["mno.training_run"]).info.status == "FINISHED"
