"""Damage to files, as a disk does it."""

from __future__ import annotations

import os
from pathlib import Path


def flip(path: Path, at: int = -20) -> None:
    """Flip one bit; size and times stay as they are."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
