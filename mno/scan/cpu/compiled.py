"""The kernels, compiled or read from the cache when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import njit
from numba.core import types

from mno.scan.cpu import backward_task, forward_task
from mno.scan.cpu.cache import KernelCache
from mno.scan.cpu.job import JOB, OPTIONS

_MAKERS = {"forward": forward_task.forward_task, "backward": backward_task.backward_task}
_SCRATCH = {"forward": forward_task.scratch_bytes, "backward": backward_task.scratch_bytes}


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel.

    Attributes:
        run: runs one task, given the job, the task's number and the address of scratch memory.
        scratch_bytes: size of that memory, given the numbers of states and of ranks.
    """

    run: Callable[[Any, int, int], None]
    scratch_bytes: Callable[[int, int], int]


_kernels: dict[tuple[str, str], Kernel] = {}
_lock = threading.Lock()


def kernel(direction: str, discretization: str) -> Kernel:
    """Return the kernel of one pass ("forward" or "backward") and one discretisation."""
    found = _kernels.get((direction, discretization))
    if found is not None:
        return found
    with _lock:
        if (direction, discretization) not in _kernels:
            name = f"{direction}_{discretization}"
            options: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": False}
            dispatcher = njit(**options)(_MAKERS[direction](discretization).py_func)
            cache = KernelCache(name)
            dispatcher._cache = cache  # pyright: ignore[reportAttributeAccessIssue]
            with cache.alone():
                dispatcher.compile(types.void(JOB, types.int64, types.int64))
            dispatcher.disable_compile()
            _kernels[direction, discretization] = Kernel(dispatcher, _SCRATCH[direction])
        return _kernels[direction, discretization]
