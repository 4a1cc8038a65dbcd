"""Where cells are made: copies of the workspace in `build/study/`, one for each worker.

A copy is a git clone that shares objects with the workspace's repository and DVC's cache with the
workspace. So a cell touches neither parameters nor data of the line; a dataset, and a training that
was ever made, is taken from the cache; and what a cell was is handed over as a DVC experiment.
`dvc exp run --temp` makes such a copy for each experiment, with its kernels compiled anew, and
stashes the workspace's own changes for a moment; these are kept, and touch nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.workspace import program
from mno.core.config import PARAMS_FILE
from mno.core.errors import MnoError
from mno.core.files import LockedError, locked
from mno.lineage.snapshot import git, toplevel

FOLDER = Path("build/study")
_MOST = 64


@dataclass
class Copy:
    """A copy of the workspace, held by this process.

    Attributes:
        workspace: The workspace it is of.
        clone: The root of its repository.
        root: The folder in it that corresponds to the workspace.
        baseline: The commit that is checked out.
    """

    workspace: Path
    clone: Path
    root: Path
    baseline: str

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Replace `params.yaml` of the copy."""
        partial = self.root / f"{PARAMS_FILE}.partial"
        with partial.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(json.loads(json.dumps(params)), file)
        os.replace(partial, self.root / PARAMS_FILE)

    def save_experiment(self, name: str, environment: Mapping[str, str]) -> str:
        """Keep the state of the copy as a DVC experiment of the workspace; return its commit.

        Raises:
            MnoError: DVC or git failed.
        """
        command = [program("dvc"), "exp", "save", "--force", "--name", name]
        _run(command, self.root, environment)
        reference = f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/{name}"
        specs = [f"+{reference}:{reference}", "+refs/mno/*:refs/mno/*"]
        fetch = ("fetch", "-q", "--no-write-fetch-head", "--no-tags")
        git(self.workspace, *fetch, str(self.clone), *specs)
        return git(self.workspace, "rev-parse", "--verify", reference).decode().strip()


@dataclass
class Copies:
    """Copies that are held for as long as this is entered.

    Attributes:
        workspace: The workspace.
        number: How many are wanted.
    """

    workspace: Path
    number: int
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> list[Copy]:
        """Take copies that nobody holds; make those that are missing; bring them up to date."""
        with self._stack:
            taken = [self._take() for _ in range(self.number)]
            self._stack = self._stack.pop_all()
        return taken

    def __exit__(self, *_: object) -> None:
        """Leave them, compiled kernels and all, to the next study."""
        self._stack.close()

    def _take(self) -> Copy:
        for number in range(_MOST):
            path = self.workspace / FOLDER / f"copy-{number}"
            try:
                lock = path.with_suffix(".lock")
                self._stack.enter_context(locked(lock, "a study", patience=0.0))
            except LockedError:
                continue
            return _prepared(self.workspace, path)
        raise MnoError(
            f"{_MOST} copies of the workspace are in use by studies; wait for one to end"
        )


def _prepared(workspace: Path, clone: Path) -> Copy:
    top = toplevel(workspace)
    baseline = git(workspace, "rev-parse", "HEAD").decode().strip()
    inside = workspace.resolve().relative_to(top.resolve())
    if not (clone / ".git" / "mno-complete").exists():
        shutil.rmtree(clone, ignore_errors=True)
        clone.parent.mkdir(parents=True, exist_ok=True)
        options = ("--quiet", "--shared", "--no-checkout", "--no-tags")
        git(workspace, "clone", *options, str(top), str(clone))
        for key, value in (("user.name", "mno"), ("user.email", "mno@localhost")):
            git(clone, "config", key, value)
    git(clone, "fetch", "-q", "--no-tags", str(top), baseline)
    git(clone, "checkout", "-q", "--force", "--detach", baseline)
    root = clone / inside
    _share_cache(workspace, root)
    (clone / ".git" / "mno-complete").touch()
    return Copy(workspace, clone, root, baseline)


def _share_cache(workspace: Path, copy: Path) -> None:
    """Give the copy the settings of the workspace's DVC, and its cache."""
    own = workspace / ".dvc/config.local"
    if own.exists():
        shutil.copy(own, copy / ".dvc/config.local")
    cache = _run([program("dvc"), "cache", "dir"], workspace, {}).strip()
    _run([program("dvc"), "config", "--local", "cache.dir", cache], copy, {})


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-1:])
        raise MnoError(f"{' '.join(command[:3]).replace(command[0], 'dvc')} failed: {said}")
    return done.stdout
