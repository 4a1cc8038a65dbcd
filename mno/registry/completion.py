"""Names of registered models for tab completion, without the seconds that MLflow takes to load."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mno.registry.settings import DATABASE, is_embedded

_LIMIT = 100


def known_models(root: Path) -> list[str]:
    """Return the URIs of aliases and of the latest versions; none of a registry on a server."""
    path = root.resolve() / DATABASE
    if not is_embedded(root) or not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            aliases = database.execute("SELECT name, alias FROM registered_model_aliases")
            found = [f"models:/{name}@{alias}" for name, alias in aliases]
            versions = database.execute(
                "SELECT name, version FROM model_versions ORDER BY version DESC LIMIT ?", [_LIMIT]
            )
            return found + [f"models:/{name}/{version}" for name, version in versions]
    except sqlite3.Error:  # of another version of MLflow
        return []
