"""Compiled kernels on disk, so that a later process need not compile them.

Compiled code is kept in a folder of the user's named after the digest of all sources here, so
that code of other sources is never found. Files are read only if they belong to the user (or the
system), carry the checksum of their content, and were made for this processor by this numba;
whatever else is found is as good as nothing, and is replaced.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

try:
    import fcntl
except ImportError:  # Windows has none: processes that start together each compile.
    fcntl = None

_DIGEST_BYTES = 32
_LONGEST_WAIT = 120.0
_PAUSE = 0.05


def source_digest() -> str:
    """Return a digest of all sources that compiled code depends on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


# Taken when the sources are imported, since they may be edited while a process runs.
_SOURCES = source_digest()


def folders() -> list[Path]:
    """Return the folders where compiled code may lie, the preferred one first."""
    name = f"scan-{_SOURCES}"
    places = [Path(__file__).parent / "__pycache__" / name]
    with suppress(RuntimeError):  # There is no home.
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        places.insert(0, Path(cache) / "mno" / name)
    return places


def _private(path: Path) -> bool:
    """Tell whether only the user, or the system, can have written a file or folder."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return _private(folder)
    except OSError:
        return False


class KernelCache(_Cache):
    """The compiled form of one kernel on disk, as numba's dispatchers use it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._folders = folders()
        self._target = next((folder for folder in self._folders if _writable(folder)), None)

    @property
    def cache_path(self) -> str:
        """The folder that compiled code is written to; empty if there is none."""
        return "" if self._target is None else str(self._target)

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    def disable(self) -> None:
        """Do nothing: the cache is always on."""

    def flush(self) -> None:
        """Do nothing: files of other sources are never read."""

    def _file(self, codegen: Any) -> str:
        made_by = (numba.__version__, llvmlite.__version__, platform.python_version())
        key = repr((self._name, made_by, codegen.magic_tuple()))
        return f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel, or None where no file of it can be used."""
        target_context.refresh()
        for folder in self._folders:
            path = folder / self._file(target_context.codegen())
            with suppress(Exception):  # Whatever is wrong with a file, compiling mends it.
                if not (_private(folder) and _private(path)):
                    continue
                content = path.read_bytes()
                payload = content[_DIGEST_BYTES:]
                if hashlib.sha256(payload).digest() == content[:_DIGEST_BYTES]:
                    return CompileResult._rebuild(target_context, *pickle.loads(payload))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compiled kernel, if there is a place for it."""
        if self._target is None:
            return
        payload = dumps(data._reduce())
        path = self._target / self._file(data.codegen)
        with suppress(OSError):
            handle, beside = tempfile.mkstemp(dir=self._target)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(payload).digest() + payload)
                os.replace(beside, path)
            except OSError:
                os.unlink(beside)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from compiling this kernel at the same time, for a while."""
        if self._target is None or fcntl is None:
            yield
            return
        try:
            file = open(self._target / f"{self._name}.lock", "w")  # noqa: SIM115
        except OSError:
            yield
            return
        with file:
            give_up = time.monotonic() + _LONGEST_WAIT
            while time.monotonic() < give_up:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_PAUSE)
                except OSError:
                    break  # The file system has no locks.
            yield
