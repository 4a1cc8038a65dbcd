from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from many_versions import SIZE

from benchmarks.lineage_registry import Registry, make_registry

DATA_DVC = """\
md5: {md5}
frozen: false
deps:
- path: build/dataset
  md5: {md5}.dir
  size: 10
  nfiles: 2
  hash: md5
outs:
- md5: {md5}.dir
  size: 10
  nfiles: 2
  hash: md5
  path: data
"""


class Repository:
    """A small workspace in a real git repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "t"), ("user.email", "t@localhost")):
            self.git("config", key, value)
        self.write("params.yaml", "scenario: darcy\nseed: 1\n")
        self.write("dvc.yaml", "stages: {}\n")
        self.write("data.dvc", DATA_DVC.format(md5="0" * 32))
        self.write("mno/solver.py", "ORDER = 2\n")
        self.write("pipelines/train.py", "import mno\n")
        self.write(".gitignore", "__pycache__/\n")
        self.write("README.md", "hello\n")

    def git(self, *args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.root), *args], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "a checkout")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return make_registry(tmp_path_factory.mktemp("registry") / "workspace", SIZE)


@pytest.fixture
def registry(made: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that a test may change; it is where the commands run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "workspace"
    shutil.copytree(made.root, root)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute(
            "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
            [str(made.root), str(root)],
        )
        database.commit()
    monkeypatch.chdir(root)
    return Registry(root, made.commits, made.snapshots, made.data)
