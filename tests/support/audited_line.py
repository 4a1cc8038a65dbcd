"""A workspace in which models were registered, to be damaged and audited."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.params import edit_params
from mno.lineage.audit import Finding, differs
from mno.lineage.audit.walk import audit
from mno.registry.catalogue import existing_workspace
from mno.registry.evidence import gather
from mno.registry.settings import Workspace
from tests.support.workspaces import make_workspace

MODEL = "mno-darcy"
_PATHS = (
    ("runs", "artifact_uri"),
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
TINY = (
    "generate.samples=40", "generate.shard_size=10", "model.width=8", "train.batch_size=4",
    "evaluate.robustness.enabled=false", "registry.allow_uncommitted=false",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A workspace in which two versions were registered; the second took over from the first."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / ".dvc/cache"

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def mlflow(self) -> Workspace:
        return existing_workspace(self.root)

    def findings(self, version: int = 2) -> list[Finding]:
        with self.evidence(version) as evidence:
            return audit(evidence)

    def differences(self, version: int = 2) -> list[Finding]:
        return [found for found in self.findings(version) if differs([found])]

    def evidence(self, version: int = 2):
        return gather(self.mlflow, MODEL, version, [self.cache])

    def _known(self, name: str, version: int) -> Any:
        with self.evidence(version) as evidence:
            found = getattr(evidence, name)
            assert found
            return found

    def package(self, version: int = 2) -> Path:
        return self._known("package", version)

    def run_files(self, version: int = 2) -> Path:
        return self._known("run", version)

    def record(self, version: int = 2) -> dict[str, Any]:
        return dict(self._known("record", version))

    def object(self, md5: str) -> Path:
        return self.cache / "files/md5" / md5[:2] / md5[2:]

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    @contextmanager
    def row(self, table: str, where: str, change: str | None) -> Iterator[None]:
        """Change rows as `SET` says, or remove them if that is none; put them back afterwards."""
        with closing(sqlite3.connect(self.database)) as database:
            kept = database.execute(f"SELECT rowid, * FROM {table} WHERE {where}").fetchall()
            assert kept, (table, where)
            remove = f"DELETE FROM {table} WHERE rowid = ?"
            if change is None:
                database.executemany(remove, [row[:1] for row in kept])
            else:
                database.execute(f"UPDATE {table} SET {change} WHERE {where}")
            database.commit()
            try:
                yield
            finally:
                database.executemany(remove, [row[:1] for row in kept])
                marks = ", ".join("?" * (len(kept[0]) - 1))
                columns = [c[1] for c in database.execute(f"PRAGMA table_info({table})")]
                names = ", ".join(["rowid", *(f'"{name}"' for name in columns)])
                insert = f"INSERT INTO {table} ({names}) VALUES (?, {marks})"
                database.executemany(insert, kept)
                database.commit()


def make_line(root: Path) -> Line:
    """Register the two versions in a new workspace."""
    workspace = make_workspace(root)
    for epochs in (1, 3):
        edit_params(workspace.root, "quick", [*TINY, f"train.epochs={epochs}"])
        workspace.run("dvc", "repro", "-q", check=True)
    return Line(workspace.root)


def moved(line: Line, root: Path) -> Line:
    """Copy a workspace with its registry; an audit finds that the files of the versions moved."""
    shutil.copytree(line.root, root, symlinks=True)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        for table, column in _PATHS:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                [str(line.root), str(root)],
            )
        database.commit()
    return Line(root)
