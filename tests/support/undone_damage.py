"""Damage to files that is undone: bytes changed with size and time restored, files gone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def content(path: Path, new: bytes) -> Iterator[None]:
    """Give a file another content, its time as before."""
    status, old = path.stat(), path.read_bytes()
    assert new != old
    path.chmod(0o644)
    path.write_bytes(new)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(old)
        path.chmod(status.st_mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def byte(path: Path, position: int | None = None, bit: int = 0) -> Iterator[None]:
    """Change one bit of one byte of a file, the middle one if none is given."""
    new = bytearray(path.read_bytes())
    new[len(new) // 2 if position is None else position] ^= 1 << bit
    with content(path, bytes(new)):
        yield


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Take a file away."""
    away = path.with_name(f"{path.name}.away")
    hidden = path.parents[1] / away.name  # not where a folder's files are counted
    path.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(path)
