"""`mno study tune`, really run, on data whose test samples nobody could use."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import zarr

from flows.params import edit_params
from mno.core.config import read_params, validate
from mno.core.files import file_sha256
from mno.data.config import ExecutionConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.store import seal
from mno.scenarios.darcy import Darcy, DarcyParameters
from mno.study.trials import DATABASE
from tests.support.workspaces import Workspace, end_processes_in, make_workspace

SEARCH = """\
title: A tiny search
trials: 3
space:
  train.learning_rate: {type: log, low: 0.001, high: 0.02}
  model.width: {type: choice, values: [8, 16, 24]}
base:
  train: {epochs: 2, threads: 1}
limits: {parameters: 12000}
confirm_seeds: 1
"""


def ruin_test_samples(data: Path) -> None:
    """Make every number of the test split NaN, and the dataset whole again."""
    group = zarr.open_group(data, mode="r+")
    rows = np.flatnonzero(np.asarray(group["split"][:]) == "test")  # pyright: ignore
    assert len(rows)
    files = {}
    for name in ("permeability", "pressure"):
        array = group[name]
        values = np.asarray(array[:])  # pyright: ignore
        values[rows] = np.nan
        array[:] = values  # pyright: ignore
        shards = [path for path in (data / name / "c").rglob("*") if path.is_file()]
        files |= {str(path.relative_to(data)): file_sha256(path) for path in shards}
    seal(data, files)


@pytest.fixture
def searched(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with data, in which nothing else has been run."""
    made = make_workspace(tmp_path / "root")
    root = made.root
    params = edit_params(root, "quick", ["generate.samples=100"])
    plan = make_plan(Darcy, validate(DarcyParameters, {}), params.generate, code="", root=root)
    generate(plan, root / "build/work/a", root / "data", ExecutionConfig(workers=1))
    ruin_test_samples(root / "data")
    (root / "studies/tune/tiny.yaml").write_text(SEARCH)
    yield made
    end_processes_in(root)


def files_of_the_line(root: Path) -> dict[str, bytes]:
    names = ("params.yaml", "dvc.lock", "data.dvc", "data/zarr.json")
    return {name: (root / name).read_bytes() for name in names}


@pytest.mark.timeout(900)
def test_a_search_ends_in_a_preset_and_leaves_the_line_alone(searched: Workspace) -> None:
    root = searched.root
    before = files_of_the_line(root)
    done = searched.mno("study", "tune", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["trials"]["all"] == 3
    assert answer["trials"]["refused"] + answer["trials"]["done"] == 3
    assert answer["left"] == 0
    assert not (root / "models").exists()
    assert files_of_the_line(root) == before

    best = answer["best"]
    preset = json.loads((root / "reports/tune/tiny/report.json").read_text())["preset"]
    text = (root / preset).read_text()
    assert answer["said"] in text
    edit_params(root, "tuned-tiny", [])  # as mno run --preset tuned-tiny does
    params = read_params(root)
    assert params["train"]["learning_rate"] == best["point"]["train.learning_rate"]
    assert params["model"]["width"] == best["point"]["model.width"]
    assert params["train"]["epochs"] == 2
    (root / "params.yaml").write_bytes(before["params.yaml"])

    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("tune-tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    nested = {r.data.tags["mno.trial"]: r for r in runs if "mno.trial" in r.data.tags}
    (parent,) = [r.info.run_id for r in runs if "mno.trial" not in r.data.tags]
    assert len(nested) == 3
    assert {r.data.tags["mlflow.parentRunId"] for r in nested.values()} == {parent}
    winner = nested[f"trial-{best['trial']:04d}"]
    assert winner.data.metrics["best_validation_relative_l2"] == best["error"]
    steps = client.get_metric_history(winner.info.run_id, "validation_relative_l2")
    assert [metric.step for metric in steps] == [1, 2]

    refused = searched.mno("study", "tune", "tiny", "--workers", "64")
    assert refused.returncode == 2
    assert "more than the" in refused.stderr


def finished_trials(root: Path) -> int:
    try:
        with sqlite3.connect(f"file:{root / DATABASE}?mode=ro", uri=True) as connection:
            query = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
            return connection.execute(query).fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_a_killed_search_goes_on_and_finds_the_same(searched: Workspace) -> None:
    root = searched.root
    text = SEARCH.replace("trials: 3", "trials: 8")
    (root / "studies/tune/tiny.yaml").write_text(text)
    running = searched.start("study", "tune", "tiny")
    deadline = time.monotonic() + 900
    while finished_trials(root) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    done = searched.run(*searched.command(["study", "tune", "tiny", "--json"]), timeout=1200)
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert "goes on" in done.stderr
    (root / DATABASE).unlink()
    whole = searched.run(*searched.command(["study", "tune", "tiny", "--json"]), timeout=1200)
    answer = json.loads(whole.stdout)
    assert answer["best"]["point"] == resumed["best"]["point"]
    assert answer["best"]["error"] == resumed["best"]["error"]
    assert answer["confirmed"] == resumed["confirmed"]
