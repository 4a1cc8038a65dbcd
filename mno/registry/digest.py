"""The digest of a packaged model."""

from __future__ import annotations

import hashlib
from pathlib import Path

_REGISTERED_META = "registered_model_meta"


def package_digest(folder: Path) -> str:
    """Digest of all files of a package, but of those that loading it may leave there."""
    digest = hashlib.sha256()
    for name, content in package_files(folder).items():
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def package_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of those files, by path in the folder, in order."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts or path.name == _REGISTERED_META:
            continue
        name = path.relative_to(folder).as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
