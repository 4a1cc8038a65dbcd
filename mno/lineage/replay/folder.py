"""The folder of a replay: a repository of its own with just the snapshot's files.

It has its own git, DVC cache and MLflow database, so that nothing of the workspace is written to.
The snapshot's files are written from objects whose hashes were verified.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from mno.core.config import PARAMS_FILE
from mno.core.errors import MnoError
from mno.lineage.audit.tree import Tree
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.git import git
from mno.lineage.snapshot import CODE

REPLAYS = Path("build/replay")
DONE = "finished"
WARM_START = Path("build/warm_start")

_MADE = ("__pycache__/", "/build/", "/data/", "/reports/", "/models/", "/mlflow.db*",
         "/mlartifacts/", "/.prefect/")  # fmt: skip
_DVC = """[core]
    analytics = false
    check_update = false
    site_cache_dir = "{folder}/.dvc/site"
[cache]
    dir = cache
    type = "reflink,copy"
"""


@dataclass(frozen=True)
class ReplayFolder:
    """Where a model is made again.

    Attributes:
        path: The folder, in `build/replay` of a workspace.
    """

    path: Path

    @classmethod
    def of(cls, root: Path, model: str, *facts: object) -> ReplayFolder:
        """Return the folder of a replay: the same for the same model, snapshot and wishes.

        Args:
            root: The workspace.
            model: What the folder's name begins with; may hold anything.
            facts: What else tells one replay from another.
        """
        digest = hashlib.sha256("\0".join(map(str, (model, *facts))).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[:60]
        return cls(root.resolve() / REPLAYS / f"{readable}-{digest[:12]}")

    @property
    def line(self) -> Path:
        """The repository with the snapshot's files, in which the stages run."""
        return self.path / "line"

    @property
    def environment(self) -> Path:
        """The Python environment that is built for it, if one is."""
        return self.path / "environment"

    @property
    def finished(self) -> bool:
        """Whether the replay in it has come to its end."""
        return (self.path / DONE).exists()

    def finish(self) -> None:
        """Say that the replay in it has come to its end."""
        (self.path / DONE).touch()

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def check_out(tree: Tree, line: Path, params: bytes) -> dict[str, bytes]:
    """Write a snapshot's files into a repository of its own; what was made there already stays.

    Args:
        tree: The snapshot, whole.
        line: The repository.
        params: What to write as `params.yaml`.

    Returns:
        The files by their path, as they were written.

    Raises:
        MnoError: A path of the snapshot is not one that snapshots have.
    """
    files = {**tree.files, PARAMS_FILE: params}
    strange = [name for name in files if not _belongs(name)]
    if strange:
        raise MnoError(
            f"the snapshot {tree.commit} has {strange[0]!r}, which no snapshot holds; it was not "
            "written by this project and is not replayed"
        )
    line.mkdir(parents=True, exist_ok=True)
    for name in CODE:  # nothing may lie among the code that is not the snapshot's
        path = line / name
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    for name, content in files.items():
        if name == DATA_FILE and (line / name).exists():
            continue  # the line has gone on: it names the data that were made
        write(line / name, content)
    if not (line / ".git").exists():
        git(line, "init", "-q", "--initial-branch=replay")
    write(line / ".gitignore", ("\n".join(_MADE) + "\n").encode())
    write(line / ".dvc/.gitignore", b"/config.local\n/tmp\n/cache\n/site\n")
    write(line / ".dvc/config", _DVC.format(folder=line).encode())
    return files


def altered(files: Mapping[str, bytes], line: Path) -> list[str]:
    """Return the files that are not what was checked out any more; the stages change none."""
    return sorted(
        name
        for name, content in files.items()
        if name != DATA_FILE and _content(line / name) != content
    )


def replay_params(
    text: bytes, workers: object = None, warm_start: str | None = None
) -> tuple[bytes, list[str]]:
    """Return parameters that can be run here, and what had to be another one than recorded.

    None of it changes a result: scheduler and workers say where it is computed, and the model that
    training starts from is named by its digest, whatever it is called.

    Args:
        text: The snapshot's `params.yaml`.
        workers: Processes that solve, as this workspace has it; as recorded if it has none.
        warm_start: What to write as `train.warm_start`; none where training starts from nothing.
    """
    yaml = YAML()
    params: Any = yaml.load(text.decode())
    changed = []
    execution = params.get("execution") or {}
    if execution.get("scheduler") is not None:
        execution["scheduler"] = None
        changed.append("execution.scheduler: none, to solve on this machine")
    if isinstance(workers, int) and execution.get("workers", workers) != workers:
        execution["workers"] = workers
        changed.append(f"execution.workers: {workers}, as this workspace has it")
    if warm_start is not None:
        params["train"]["warm_start"] = warm_start
        changed.append(f"train.warm_start: a copy of the same model, {warm_start}")
    if not changed:
        return text, []
    written = io.BytesIO()
    yaml.dump(params, written)
    return written.getvalue(), changed


def write(path: Path, content: bytes) -> None:
    """Write a file, beside and then in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _belongs(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] in (PARAMS_FILE, DATA_FILE, *CODE) and not {"..", ".git"} & set(parts)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
