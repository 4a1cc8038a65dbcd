"""DVC experiments: logged to the workspace's MLflow, never registered."""

from __future__ import annotations

import json

import mlflow
import pytest

from tests.support.workspaces import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def experiments(workspace: Workspace) -> dict[str, str]:
    """Names of DVC experiments by MLflow run, for the runs of finished trainings."""
    client = mlflow.MlflowClient(f"sqlite:///{workspace.root}/mlflow.db")
    experiment = client.get_experiment_by_name("darcy")
    runs = client.search_runs([experiment.experiment_id])
    return {run.info.run_id: run.data.tags.get("mno.experiment", "") for run in runs}


def versions(workspace: Workspace) -> list[int]:
    status = json.loads(workspace.mno("status", "--json", check=True).stdout)
    return [version["version"] for version in status["registry"]]


@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["here", "in a copy"])
def test_an_experiment_is_logged_and_not_registered(workspace: Workspace, where: list[str]) -> None:
    workspace.mno("run", check=True)
    assert versions(workspace) == [1]
    changes = ("-S", "model.width=16", "-S", "train.epochs=2")
    command = ("dvc", "exp", "run", "-n", "wide", *changes, *where)
    workspace.run(*command, check=True)
    assert "wide" in experiments(workspace).values()
    assert versions(workspace) == [1]
    shown = json.loads(workspace.run("dvc", "exp", "show", "--json", check=True).stdout)
    assert "wide" in json.dumps(shown)
    # What was tried can be taken, and is then registered like any other model.
    workspace.run("dvc", "exp", "apply", "wide", check=True)
    workspace.mno("run", check=True)
    assert versions(workspace) == [2, 1]


def test_queued_experiments_run_one_after_another(workspace: Workspace) -> None:
    workspace.mno("run", check=True)
    for epochs in (1, 2):
        workspace.run(
            "dvc", "exp", "run", "--queue", "-n", f"epochs-{epochs}", "-S",
            f"train.epochs={epochs}", check=True,
        )  # fmt: skip
    workspace.run("dvc", "exp", "run", "--run-all", check=True)
    assert {"epochs-1", "epochs-2"} <= set(experiments(workspace).values())
    assert versions(workspace) == [1]
