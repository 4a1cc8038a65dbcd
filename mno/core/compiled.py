"""Compiled kernels on disk, so that a later process need not compile them.

numba compiles a kernel anew where its own file has changed, but not where a file has that it calls
into. Here compiled code is kept in a folder of the user's named after the digest of all sources
beside the kernel's, so that code of other sources is never found. Files are read only if they
belong to the user (or the system), carry the checksum of their content, and were made for this
processor by this numba; whatever else is found is as good as nothing, and is replaced.
"""

import hashlib
import os
import pickle
import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_DIGEST_BYTES = 32

# IEEE division and no flag that lets sums be reordered: bits do not depend on the processor.
inlined: Any = njit(nogil=True, error_model="numpy")
"""Decorates what is only called by compiled functions, and compiled along with them."""


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Give a function that another one has made a name of its own, before it is compiled.

    Compiled code is linked by the names of functions. Two of one name from files that different
    processes have compiled would be taken for the same.
    """
    function.__name__ = function.__qualname__ = name
    return function


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of a module on its first call, and keep it on disk."""
    dispatcher: Any = inlined(function)
    name = f"{function.__module__}.{function.__qualname__}"
    dispatcher._cache = KernelCache(name, Path(function.__code__.co_filename).parent)
    return dispatcher


@cache
def source_digest(folder: Path) -> str:
    """Return a digest of all sources in a kernel's folder, as they are when first asked for.

    Ask when they are imported, since they may be edited while a process runs.
    """
    digest = hashlib.sha256()
    vectors = Path(__file__).with_name("vectors.py")
    for path in [*sorted(folder.glob("*.py")), Path(__file__), vectors]:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class KernelCache(_Cache):
    """The compiled forms of one kernel on disk, as numba's dispatchers use them.

    Its name is its own in the folder of its source, where all that it calls lies, too.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folders = name, _folders(folder)

    @property
    def _target(self) -> Path | None:
        """The folder to write to: the first that can be written, once anything is to be."""
        return next((folder for folder in self._folders if _writable(folder)), None)

    @property
    def cache_path(self) -> str:
        """The folder that compiled code is written to; empty if there is none."""
        return str(self._target or "")

    def flush(self) -> None:
        """Do nothing: the cache is always on, and files of other sources are never read."""

    enable = disable = flush

    def _file(self, sig: Any, codegen: Any) -> str:
        made_by = (numba.__version__, llvmlite.__version__, platform.python_version())
        key = repr((self._name, sig, made_by, codegen.magic_tuple()))
        return f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel, or None where no file of it can be used."""
        target_context.refresh()
        for folder in self._folders:
            path = folder / self._file(sig, target_context.codegen())
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
        target = self._target
        if target is None:
            return
        payload = dumps(data._reduce())
        path = target / self._file(sig, data.codegen)
        with suppress(OSError):
            handle, unfinished = tempfile.mkstemp(dir=target)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(payload).digest() + payload)
                os.replace(unfinished, path)
            except OSError:
                os.unlink(unfinished)


def _folders(sources: Path) -> list[Path]:
    """Return the folders where compiled code may lie, the preferred one first."""
    name = f"{sources.parent.name}-{source_digest(sources)}"
    folders = [sources / "__pycache__" / name]
    with suppress(RuntimeError):  # There is no home.
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folders.insert(0, Path(home) / "mno" / name)
    return folders


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
