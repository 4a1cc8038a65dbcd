"""Checksums of a dataset's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metadata_sha256(metadata: dict[str, Any]) -> str:
    """Return the SHA-256 of a store's root metadata, less the attribute that holds it."""
    attributes = {k: v for k, v in metadata["attributes"].items() if k != "metadata_sha256"}
    text = json.dumps({**metadata, "attributes": attributes}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
