"""The digest of a packaged model."""

from __future__ import annotations

import hashlib
from pathlib import Path

_REGISTERED_META = "registered_model_meta"


def package_digest(folder: Path) -> str:
    """Digest of all files of a package, but of those that loading it may leave there."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts or path.name == _REGISTERED_META:
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
