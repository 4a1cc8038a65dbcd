"""Compiled functions as C calls them, and the threads that tasks run in: torch's own.

Between two operations torch's threads wait for a while without sleeping, so that threads of ours
would have to share the processor with them. So tasks are given to these very threads, through the
function of torch's OpenMP library that compiled code calls for the same purpose. Where torch has
another library, and in a forked child, which has none of its parent's threads, tasks run in threads
of Python's.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, njit  # pyright: ignore[reportPrivateImportUsage]
from numba.core import types
from torch import Tensor

from mno.core.compiled import KernelCache, named, source_digest
from mno.core.vectors import INDEX
from mno.scan.cpu.job import ADDRESS_BYTES, OPTIONS
from mno.scan.cpu.vectors import Address, emitted

_ALIGNMENT = 64
_MOST_THREADS = 1024
_SOURCES = Path(__file__).parent
source_digest(_SOURCES)  # as they are now that they are imported

# What stands before a job: the tasks, where scratch memory lies, the bytes that each thread has of
# it, and what threads count in, themselves and the tasks that they have claimed.
_TASKS, _SCRATCH, _SCRATCH_BYTES, _THREADS, _CLAIMED, _HEADER = range(6)
_LONGEST = 2**31
# Fewer multiplications than this are done before another thread has woken up.
_SMALL = 1_000_000

_of_thread = threading.local()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_forked = False


class Kernel(NamedTuple):
    """Compiled tasks: what each thread calls, its address, and numba's view of it."""

    call: Callable[[int], None]
    address: int
    run: Any


def compiled_tasks(task: Callable[..., Any], name: str) -> Kernel:
    """Compile a function of a job, the number of a task and the address of scratch memory.

    The task is a function that another one has made; its name is its own, which is linked by.
    """
    run_task = njit(**OPTIONS)(named(task, f"{name}_task"))

    def run(pointer):  # type: ignore[no-untyped-def]
        """Run tasks that no other thread has claimed, until none is left."""
        numbers = carray(pointer, (_LONGEST,))
        start, job = numbers.ctypes.data, numbers[_HEADER:]
        thread = _counted(start + _THREADS * ADDRESS_BYTES)
        scratch = numbers[_SCRATCH] + thread * numbers[_SCRATCH_BYTES]
        task = _counted(start + _CLAIMED * ADDRESS_BYTES)
        while task < numbers[_TASKS]:
            run_task(job, task, scratch)
            task = _counted(start + _CLAIMED * ADDRESS_BYTES)

    signature = types.void(types.CPointer(types.int64))
    call, address, run = _compiled(named(run, name), signature, ctypes.c_void_p)
    return Kernel(call, address, run)


def compiled_function(function: Callable[..., Any], signature: Any, *arguments: Any) -> Any:
    """Compile a function of a module, and return it as C calls it, with arguments of these types.

    Like the tasks it is read from the cache where it is there, and other Python threads may run.
    """
    return _compiled(function, signature, *arguments)[0]


def _compiled(
    function: Callable[..., Any], signature: Any, *arguments: Any
) -> tuple[Any, int, Any]:
    options: dict[str, Any] = {**OPTIONS, "no_cfunc_wrapper": False}
    with _lock:
        run: Any = njit(**options)(function)
        run._cache = KernelCache(function.__name__, _SOURCES)
        run.compile(signature)
        run.disable_compile()
    (compiled,) = run.overloads.values()
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)
    return ctypes.CFUNCTYPE(None, *arguments)(address), address, run


@emitted(types.int64)
def _counted(address: Address) -> Address:
    """Add one to a number that other threads add to, too, and return what it was."""
    number, one = address.pointer(0, INDEX), INDEX(1)
    before = address.builder.atomic_rmw("add", number, one, "monotonic")
    return Address(address.builder, before, address.lanes)


def run_tasks(kernel: Kernel, job: np.ndarray, tasks: int, scratch_bytes: int, work: int) -> None:
    """Run all tasks of a job, in as many threads as torch has if they are worth so many.

    The calling thread is among them; `work` is counted in multiplications. Tasks write to memory of
    their own, so that results do not depend on who ran what.
    """
    threads = 1 if tasks == 1 or work < _SMALL else torch.get_num_threads()
    numbers = np.empty(_HEADER + len(job), np.int64)
    numbers[:_HEADER] = tasks, _scratch(scratch_bytes * threads), scratch_bytes, 0, 0
    numbers[_HEADER:] = job
    address = numbers.ctypes.data
    if threads == 1:
        kernel.call(address)
    elif _forked or (in_team := _open_mp()) is None:
        _run_in_pool(kernel, address, threads)
    else:
        in_team(kernel.address, address, threads, 0)


@cache
def _open_mp() -> Callable[[int, int, int, int], None] | None:
    """Return what runs a function in a team of torch's threads, if there is such a thing.

    Its arguments are the function, what it is called with, the number of threads, and flags.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        run = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    run.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
    run.restype = None
    return run


def _run_in_pool(kernel: Kernel, address: int, threads: int) -> None:
    global _pool
    helpers = []
    try:
        for _ in range(threads - 1):
            if _pool is None:  # Threads are started as they are needed.
                _pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="mno-scan")
            helpers.append(_pool.submit(kernel.call, address))
    except RuntimeError:
        pass  # No thread can be started (any more): those there are do the work.
    kernel.call(address)
    # A helper that has not begun by now is not needed; the others are at their last task.
    running = [helper for helper in helpers if not helper.cancel()]
    failures = [helper.exception() for helper in running]
    for failure in failures:
        if failure is not None:
            raise failure


def _begin_in_child() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _pool, _forked
    _pool, _forked = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def _scratch(size: int) -> int:
    """Return the address of scratch memory of this thread, which keeps it."""
    kept: Tensor | None = getattr(_of_thread, "scratch", None)
    if kept is None or kept.numel() < size + _ALIGNMENT:
        kept = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device="cpu")
        _of_thread.scratch = kept
    return -(-kept.data_ptr() // _ALIGNMENT) * _ALIGNMENT
