"""Checksums of a dataset's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PIECE_BYTES = 2**19  # stays in a core's cache between being read and being hashed


def file_sha256(path: Path | str, between: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: The file.
        between: Called between its pieces; ends the reading by an exception.
    """
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(piece):
            digest.update(piece[:length])
            between()
    return digest.hexdigest()


def metadata_sha256(metadata: dict[str, Any]) -> str:
    """Return the SHA-256 of a store's root metadata, less the attribute that holds it."""
    attributes = {k: v for k, v in metadata["attributes"].items() if k != "metadata_sha256"}
    text = json.dumps({**metadata, "attributes": attributes}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
