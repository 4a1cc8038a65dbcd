"""Files: put in place whole or not at all, told apart by digests, held by one process at a time."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError

PARTIAL = ".partial"
"""What the names of files end in that are not whole yet, and of those that a kill has left."""

_PIECE_BYTES = 2**19  # stays in a core's cache between being read and being hashed


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a path beside a file to write to, and put what was written there in the file's place.

    Whatever interrupts it leaves the file as it was. Folders above it are made; several processes
    may do this at once, and the last one's content stays. What is durable survives a loss of power,
    too, and takes milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        if durable:
            _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:  # without it the rename itself may be lost with the power
        _flush(path.parent)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file, beside and then in place; folders above it are made."""
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, as `write_bytes` does."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write a value as JSON for people and programs to read, as `write_bytes` does.

    `default` is what JSON holds of values that it has no form for: `mno.core.absent.as_json`.
    """
    write_text(path, json.dumps(value, indent=2, default=default) + "\n")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside a folder, and put it in that one's place once it is filled.

    An error leaves the old one. A kill leaves it or, between two renames, none; the new one is
    never there in part. One process at a time.
    """
    partial, old = (path.with_name(path.name + end) for end in (PARTIAL, f".old{PARTIAL}"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(content: bytes | str) -> str:
    """Return the SHA-256 of bytes, or of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def md5(content: bytes | str) -> str:
    """Return the MD5 of bytes or a text, which is DVC's name for it, in hexadecimal."""
    content = content.encode() if isinstance(content, str) else content
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def json_sha256(value: Any) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys."""
    return sha256(json.dumps(value, sort_keys=True))


def metadata_sha256(metadata: dict[str, Any]) -> str:
    """Return the SHA-256 of a store's root metadata, less the attribute that holds it."""
    attributes = {k: v for k, v in metadata["attributes"].items() if k != "metadata_sha256"}
    return json_sha256({**metadata, "attributes": attributes})


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    feed_file(path, digest)
    return digest.hexdigest()


def file_md5(path: Path | str) -> str:
    """Return the MD5 of a file's bytes, which is DVC's name for it, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    feed_file(path, digest)
    return digest.hexdigest()


def feed_file(path: Path | str, *digests: Any) -> None:
    """Read a file once, in pieces, and feed it to several of hashlib's objects."""
    piece = memoryview(bytearray(_PIECE_BYTES))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(piece):
            for digest in digests:
                digest.update(piece[:length])


def folder_files(folder: Path) -> dict[str, Path]:
    """Return all files in a folder by their path in it, with slashes, in alphabetical order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def names_sha256(digests: dict[str, str]) -> str:
    """Return the SHA-256 of names and the digests of what they name, in their order."""
    return sha256("".join(f"{name}\0{digest}\n" for name, digest in digests.items()))


def folder_sha256(folder: Path) -> str:
    """Return the SHA-256 of the paths in a folder and of their files' digests."""
    files = folder_files(folder).items()
    return names_sha256({name: file_sha256(path) for name, path in files})


class LockedError(MnoError):
    """Another live process holds the lock; its message says which, since when."""


@contextmanager
def locked(path: Path, activity: str, patience: float = 1.0) -> Iterator[None]:
    """Hold an exclusive lock on a file while the body runs.

    It is advisory: it binds those who ask for it. The kernel releases it when the holder dies, so
    a killed run never blocks the next. The file holds who has the lock, for what activity and since
    when, for the `LockedError` of whoever finds it taken after seconds of patience; a look by
    `lock_holder` takes a moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a+", encoding="utf-8") as file:
        while not _take(file.fileno()):
            if time.monotonic() >= deadline:
                who = _read_holder(path)
                raise LockedError(
                    f"{who['activity']} is already running in this folder: process {who['pid']}, "
                    f"since {who['since']}; wait for it, or stop it with: kill {who['pid']}"
                )
            time.sleep(0.2)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        json.dump({"activity": activity, "pid": os.getpid(), "since": since}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def lock_holder(path: Path) -> dict[str, str | int] | None:
    """Return who holds a lock (`activity`, `pid`, `since`), or None if it is free."""
    try:
        with path.open(encoding="utf-8") as file:
            return None if _take(file.fileno()) else _read_holder(path)
    except FileNotFoundError:
        return None


def _take(descriptor: int) -> bool:
    import fcntl  # not where this is imported: Windows has none

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(path: Path) -> dict[str, str | int]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # between taking the lock and writing who holds it
        return {"activity": "another run", "pid": "unknown", "since": "just now"}
