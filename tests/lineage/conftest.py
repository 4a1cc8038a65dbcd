from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
