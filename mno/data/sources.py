"""The code of this process: checksums of source files, as they were when first imported.

A process keeps running what it once imported, whatever the files say now; a cluster that was
started yesterday may run yesterday's solver.
"""

from __future__ import annotations

import platform
import sys

from mno.core.files import file_sha256

# What decides the bits of an array or of a compressed file.
_LIBRARIES = ("numpy", "numba", "zarr", "numcodecs")
_seen: dict[str, str] = {}


def loaded_sources(*modules: str) -> dict[str, str]:
    """Return what this process runs.

    Args:
        modules: Modules to include besides those of `mno` that are loaded.

    Returns:
        SHA-256 of the source file by module, and the versions of Python and of the libraries that
        decide bits. A module is read when it is first seen here and never again.
    """
    for name, module in list(sys.modules.items()):
        if name in _seen:
            continue
        if name in modules or name.split(".")[0] == "mno":
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            if path:
                _seen[name] = file_sha256(path)
        elif name in _LIBRARIES:
            _seen[name] = str(getattr(module, "__version__", "unknown"))
    return {"python": platform.python_version(), **_seen}


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return the names that both know and that differ, in order."""
    return sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
