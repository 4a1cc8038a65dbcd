"""The audited workspace, copied to where a test may change it for good."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from audited_line import Line

_PATHS = (
    ("runs", "artifact_uri"),
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


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
