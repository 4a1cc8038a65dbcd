"""Fixtures that several folders of tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workspaces import Workspace, make_workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which `mno run --preset quick` has been run; tests must not change it."""
    workspace = make_workspace(tmp_path_factory.mktemp("finished"))
    workspace.mno("run", "--preset", "quick", check=True)
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, to be changed at will.

    It has lost its registry: MLflow's database names the folder it was made in.
    """
    root = tmp_path / "workspace"
    lost = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(finished.root, root, symlinks=True, ignore=lost)
    return Workspace(root)
