"""The resident memory of this process at its peak, and what becomes of memory that is freed.

The latter glibc takes from the environment, when a process starts.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Environment in which freed memory stays for the next tensors, and costs no page faults."""

GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}
"""Environment in which freed tensors are given back to the system at once, whatever came before."""


def is_told() -> bool:
    """Say whether this system tells of peaks: only Linux does."""
    return PEAK_RESET.exists()


def extra_peak(function: Callable[[], object]) -> int:
    """Call a function and return the peak of the resident memory beyond that before, in bytes."""
    gc.collect()
    _forget()
    before = _peak()
    function()
    return _peak() - before


def peak(function: Callable[[], object]) -> int:
    """Call a function and return the peak of all resident memory meanwhile, in bytes."""
    _forget()
    function()
    return _peak()


def resident() -> int:
    """Return the memory of this process that is resident now, in bytes."""
    gc.collect()
    return _told("VmRSS:")


def _forget() -> None:
    """Let the peak be what is resident now."""
    PEAK_RESET.write_text("5", encoding="ascii")


def _peak() -> int:
    """Return the peak of this process's resident memory, in bytes."""
    return _told("VmHWM:")


def _told(name: str) -> int:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
