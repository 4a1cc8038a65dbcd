"""Compiled kernels that call kernels of other files, kept on disk between processes.

numba compiles a kernel anew where its own file has changed, but not where a file has that it calls
into. Here the cache also knows the sources of all kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# Taken at import, since files may be edited while a process runs.
_SOURCES = _digest()

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


class _SourcesCache(FunctionCache):
    """numba's cache of a function, whose key has the digest of all kernels."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _SOURCES)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, and keep it on disk."""
    dispatcher: Any = inlined(function)
    dispatcher._cache = _SourcesCache(function)
    return dispatcher
