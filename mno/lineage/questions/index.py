"""What was read of many files, kept so that the next question need not read them again.

An entry counts as long as its file is what it was by size, times and place on the disk. The time of
the last change of its status is among them, which cannot be set: a file is read again even where
size and time of its content were restored. Only questions use it, never an audit, which reads every
byte. It may be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("build/lineage")
_SCHEMA = 1


class Index:
    """Short answers by what was read.

    Args:
        path: The file; made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)
        self._changed = False

    def kept(self, key: str, signature: str | None, make: Callable[[], Any]) -> Any:
        """Return what is kept of a file, or make it, which reads the file.

        Args:
            key: Names what is kept.
            signature: What the file is now; none where that cannot be told, and nothing is kept.
            make: Returns plain values.
        """
        entry = self._entries.get(key)
        if signature is not None and entry is not None and entry[0] == signature:
            return entry[1]
        value = make()
        if signature is not None:
            self._entries[key] = [signature, value]
            self._changed = True
        return value

    def save(self) -> None:
        """Write what is new, beside and then in place; where that cannot be, nothing is kept."""
        if not self._changed:
            return
        text = json.dumps(self._entries, separators=(",", ":"))
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_text(f"{_mark(text)}\n{text}", encoding="utf-8")
                os.replace(partial, self._path)
            finally:
                partial.unlink(missing_ok=True)
        self._changed = False


def _mark(text: str) -> str:
    return f"{_SCHEMA} {hashlib.sha256(text.encode()).hexdigest()}"


def _read(path: Path) -> dict[str, list[Any]]:
    """Return the entries; none where the file is missing, damaged or of another schema."""
    try:
        mark, _, text = path.read_text(encoding="utf-8").partition("\n")
        return json.loads(text) if mark == _mark(text) else {}
    except (OSError, ValueError):
        return {}
