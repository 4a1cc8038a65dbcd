"""A workspace in which models were registered, to be damaged and audited."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mno.certificate.verify import CERTIFICATES, check_kept
from mno.lineage.audit import Finding, differs
from mno.lineage.audit.walk import audit
from mno.registry.catalogue import existing_workspace
from mno.registry.evidence import gather
from mno.registry.settings import Workspace

MODEL = "mno-darcy"
TINY = (
    "generate.samples=40", "generate.shard_size=10", "model.width=8", "train.batch_size=4",
    "registry.allow_uncommitted=false",
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
        with gather(self.mlflow, MODEL, version, [self.cache]) as evidence:
            return audit(evidence, extra=[(CERTIFICATES, check_kept)])

    def differences(self, version: int = 2) -> list[Finding]:
        return [found for found in self.findings(version) if differs([found])]

    def evidence(self, version: int = 2):
        return gather(self.mlflow, MODEL, version, [self.cache])

    def package(self, version: int = 2) -> Path:
        with self.evidence(version) as evidence:
            assert evidence.package
            return evidence.package

    def run_files(self, version: int = 2) -> Path:
        with self.evidence(version) as evidence:
            assert evidence.run
            return evidence.run

    def record(self, version: int = 2) -> dict[str, Any]:
        with self.evidence(version) as evidence:
            assert evidence.record
            return dict(evidence.record)

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
