"""What tells a file from others: its checksum, and at once what the file system says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from mno.core.files import file_sha256


def checksum(path: Path, between: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file; of a folder, that of the paths and checksums in it.

    Args:
        path: The file, or the folder of a Zarr store.
        between: Called now and then; ends the reading by an exception.
    """
    if not path.is_dir():
        return file_sha256(path, between)
    digest = hashlib.sha256()
    for name, file in _files(path):
        digest.update(f"{name}\0{file_sha256(file, between)}\n".encode())
    return digest.hexdigest()


def stamp(path: Path) -> str:
    """Return what changes when somebody writes to a file, or to one in a folder, or replaces it."""
    digest = hashlib.sha256()
    for name, file in _files(path) if path.is_dir() else [("", path)]:
        facts = file.stat()
        digest.update(f"{name}\0{facts.st_ino} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Checksums:
    """Checksums of files, taken one after the other in a thread while other work goes on.

    Args:
        paths: The files. `checksums[path]` waits for that of one.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stop = Event()
        self._thread = ThreadPoolExecutor(1, "checksum")
        self._taken = {path: self._thread.submit(checksum, path, self._go_on) for path in paths}

    def __getitem__(self, path: Path) -> str:
        return self._taken[path].result()

    def __enter__(self) -> Checksums:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.shutdown(cancel_futures=True)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped


class _Stopped(Exception):
    """Nobody waits for the checksum any more."""


def _files(folder: Path) -> list[tuple[str, Path]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths]
