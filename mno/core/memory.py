"""How this process deals with memory that is freed, and how much there is."""

import ctypes
from contextlib import suppress
from pathlib import Path

import psutil

SHARE_OF_MEMORY = 0.25
"""Share of the available memory up to which samples are read into it."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # of mallopt, in malloc.h


def keep_freed_memory() -> None:
    """Keep what is freed for the next arrays, rather than give it back to the system at once.

    By default glibc returns large blocks, and every array of some MiB then costs a page fault for
    each of its pages: up to 40 % of a training step, and more than the solver's time where several
    processes solve samples. Other C libraries have no such setting; there nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_TOP_PAD, 1 << 26)


def available_memory() -> int:
    """Return how much memory is available to this process, in bytes.

    That is what the system has to spare, or what a container's limit (cgroup v2) leaves.
    """
    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no such limit
        limit, used = (int((group / f"memory.{n}").read_text()) for n in ("max", "current"))
        available = min(available, max(0, limit - used))
    return available


def fits_in_memory(size: int) -> bool:
    """Say whether samples of so many bytes should be read into memory, rather than as needed."""
    return size <= SHARE_OF_MEMORY * available_memory()
