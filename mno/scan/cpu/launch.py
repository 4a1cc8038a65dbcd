"""Check and describe a scan, run its tasks in threads, and sum what they leave in parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numba.core import types
from torch import Tensor

from mno.core.compiled import KernelCache, named, source_digest
from mno.scan.arguments import Direction, ScanArguments, check_shapes
from mno.scan.cpu import job as fields
from mno.scan.cpu import num_states, tasks
from mno.scan.cpu.job import FLOAT_BYTES, WIDTH, scratch_bytes
from mno.scan.cpu.memory import FLOATS, empty

# Tasks are as many as this where the sizes allow: enough for so many threads.
_TASKS = 8
_NARROWEST = 32
# Less work than this many exponentials is done before another thread has woken up.
_SMALL = 40_000
_ALIGNMENT = 64
# Waking torch's threads takes longer than adding fewer numbers than this.
_MANY = 2_000_000
_MOST_THREADS = 1024
_SOURCES = Path(__file__).parent
source_digest(_SOURCES)  # as they are now that they are imported

_of_thread = threading.local()
_kernels: dict[tuple[str, str], Kernel] = {}
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def forward(scan: ScanArguments, *, save: bool) -> tuple[Tensor, Tensor]:
    """Run the scan along every direction, and save the states that `backward` needs if asked to.

    Returns:
        The output, with u's shape, and the states. Channels are innermost in the output where
        they are in u, as in a contiguous tensor; otherwise it is a contiguous (batch, groups,
        channel, points) tensor, permuted.

    Raises:
        ValueError: A tensor does not fit the others, or the layout the points.
    """
    job = Job(scan)
    y = _empty_like_output(scan.u)
    job.put(fields.Y, y, 0, job.group_axis, 1, 3)
    states = empty(job.batch, num_states(job.points) if save else 0, *job.state_shape)
    if save:
        job.put_states(states)
    job.numbers[fields.SAVING] = save
    if y.numel():
        job.run(kernel("forward", scan.discretization))
    return y, states


def backward(scan: ScanArguments, states: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients by u, delta, A, B, C, D, bias and dt_weight, None for what is absent.

    States are those that `forward` saved of the same scan. Gradients by u and delta are laid out by
    the rule that it states for its output (the low-rank delta's is contiguous).

    Raises:
        ValueError: A tensor does not fit the others.
    """
    job = Job(scan)
    K, N, C = job.groups, job.state, job.channel
    kept = dict(zip("bnsc", (job.batch, num_states(job.points), *job.state_shape), strict=True))
    check_shapes({"states": (states, "b n s c")}, kept)
    check_shapes({"dy": (dy, "b p k c")}, dict(zip("bpkc", scan.u.shape, strict=True)))
    _check_types({"states": states, "dy": dy})
    job.put_states(states)
    du = _empty_like_output(scan.u)
    for field, tensor in ((fields.DY, dy), (fields.DU, du)):
        job.put(field, tensor, 0, job.group_axis, 1, 3)
    # Sums over channels are left in one part per split, sums over samples in one per chunk.
    dB, dC = (empty(job.splits, job.batch, job.points, K, N) for _ in range(2))
    low_rank = scan.dt_weight is not None
    ddelta = empty(job.splits, *scan.delta.shape) if low_rank else _empty_like_output(scan.delta)
    for field, part in ((fields.DB, dB), (fields.DC, dC), (fields.DDELTA, ddelta)):
        job.put(field, part.flatten(0, 1) if part.ndim == 5 else part, 0, 2, 1, 3)
    shapes = [(job.chunks, K, rows, C) for rows in (N, 1, 1, job.rank)]
    by_parameter = [torch.empty(shape, **FLOATS) for shape in shapes]
    names = (fields.DA, fields.DD, fields.DBIAS, fields.DDT_WEIGHT)
    for field, part in zip(names, by_parameter, strict=True):
        job.put(field, part, 0, 1, 2, 3)
    if scan.u.numel():
        job.run(kernel("backward", scan.discretization))
        dB, dC = _sum_in_order(dB), _sum_in_order(dC)
        dA, dD, dbias, ddt_weight = (_sum_in_order(part) for part in by_parameter)
        ddelta = _sum_in_order(ddelta) if low_rank else ddelta
    else:
        dB, dC = torch.zeros(scan.B.shape, **FLOATS), torch.zeros(scan.B.shape, **FLOATS)
        dA, dD, dbias, ddt_weight = (torch.zeros(shape[1:], **FLOATS) for shape in shapes)
        ddelta = torch.zeros_like(scan.delta)
    by_D = None if scan.D is None else dD[:, 0]
    by_bias = None if scan.bias is None else dbias[:, 0]
    return du, ddelta, dA, dB, dC, by_D, by_bias, ddt_weight if low_rank else None


class Job:
    """The array of integers that describes one scan to the kernels."""

    def __init__(self, scan: ScanArguments) -> None:
        _check(scan)
        self.batch, self.points, shared, self.channel = scan.u.shape
        self.groups, self.state, _ = scan.A.shape
        self.rank = 0 if scan.dt_weight is None else scan.dt_weight.shape[1]
        summed = shared == 1
        self.group_axis = None if summed else 2
        self.state_shape = (self.state, self.groups * self.channel)
        sequences = self.batch * (1 if summed else self.groups)
        chunk = max(1, -(-self.batch // 32))
        self.chunks = -(-self.batch // chunk) if self.batch else 0
        widest = -(-self.channel // WIDTH)
        wanted = -(-_TASKS // max(sequences, 1))
        splits = max(widest, min(wanted, self.channel // _NARROWEST), 1)
        split = -(-self.channel // splits)
        split = min(-(-split // _NARROWEST) * _NARROWEST, WIDTH)
        self.splits = -(-self.channel // split)
        self.tasks = self.chunks * self.splits * (1 if summed else self.groups)
        self.kept: list[Tensor] = []
        self.numbers = [0] * (fields.DIRECTIONS + 2 * self.groups)
        directions, order, scale = scan.path.directions, scan.path.order, scan.path.factors
        if order is None:
            order = _visits(directions, self.points)
            backwards = [False] * self.groups
        else:
            backwards = [direction.reverse for direction in directions]
        self.put(fields.U, scan.u, 0, self.group_axis, 1, 3)
        for field, tensor in ((fields.DELTA, scan.delta), (fields.B, scan.B), (fields.C, scan.C)):
            self.put(field, tensor, 0, 2, 1, 3)
        for field, tensor in ((fields.A, scan.A), (fields.DT_WEIGHT, scan.dt_weight)):
            self.put(field, tensor, None, 0, 1, 2)
        for field, tensor in ((fields.D, scan.D), (fields.BIAS, scan.bias)):
            self.put(field, tensor, None, 0, None, 1)
        for field, tensor in ((fields.SCALE, scale), (fields.ORDER, order)):
            per_sample = tensor is not None and tensor.shape[0] > 1
            self.put(field, tensor, 0 if per_sample else None, 1, 2, None)
        self.numbers[fields.BATCH : fields.DIRECTIONS] = (
            *(self.batch, self.points, self.groups, summed, self.channel, self.state, self.rank),
            *(scan.softplus, scan.discretization == "centred", False),
            *(self.chunks, chunk, self.splits, split),
        )
        self.numbers[fields.DIRECTIONS :: 2] = [direction.line for direction in directions]
        self.numbers[fields.DIRECTIONS + 1 :: 2] = backwards

    def put(self, field: int, tensor: Tensor | None, *axes: int | None) -> None:
        """Describe a tensor; `axes` are its (batch, group, row, column), None where it has none."""
        if tensor is None:
            return
        self.kept.append(tensor)
        size, strides = tensor.element_size(), tensor.stride()
        distances = [0 if axis is None else strides[axis] * size for axis in axes]
        self.numbers[field : field + 1 + len(axes)] = [tensor.data_ptr(), *distances]

    def put_states(self, states: Tensor) -> None:
        """Describe the states that are kept, whose groups lie side by side."""
        self.put(fields.STATES, states, 0, None, 2, 3)
        self.numbers[fields.STATES + 2] = self.channel * FLOAT_BYTES

    def run(self, kernel: Kernel) -> None:
        """Run all tasks, in as many threads as torch has."""
        numbers = np.array(self.numbers, np.int64)
        size = scratch_bytes(self.state, self.rank, kernel.backward)

        def work(claims: Iterator[int]) -> None:
            address = _scratch(size)
            for task in claims:
                kernel.run(numbers, task, address)

        amount = self.batch * self.points * self.groups * self.channel * (self.state + 8)
        run_in_threads(self.tasks, 1 if amount < _SMALL else torch.get_num_threads(), work)


class Kernel(NamedTuple):
    """Compiled code of a pass; it is given the job, a task's number, the address of scratch."""

    run: Any
    backward: bool


def kernel(direction: str, discretization: str) -> Kernel:
    """Return the kernel of one pass ("forward" or "backward") and one discretisation.

    It is compiled, or read from the cache, when it is first asked for.
    """
    key = direction, discretization
    if (found := _kernels.get(key)) is not None:
        return found
    with _lock:
        if key not in _kernels:
            options: dict[str, Any] = {**fields.OPTIONS, "no_cpython_wrapper": False}
            name = f"{direction}_{discretization}"
            run: Any = njit(**options)(named(tasks.PASSES[direction](discretization), name))
            run._cache = KernelCache(name, _SOURCES)
            run.compile(types.void(fields.JOB, types.int64, types.int64))
            run.disable_compile()
            _kernels[key] = Kernel(run, direction == "backward")
        return _kernels[key]


def run_in_threads(tasks: int, threads: int, work: Callable[[Iterator[int]], None]) -> None:
    """Run `work` in up to `threads` threads; it claims its tasks from the iterator it is given.

    The calling thread claims along. Tasks write to memory of their own, so that results do not
    depend on who ran what.
    """
    global _pool
    claims = iter(range(tasks))
    helpers = []
    try:
        for _ in range(min(threads, tasks) - 1):
            if _pool is None:  # Threads are started as they are needed.
                _pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="mno-scan")
            helpers.append(_pool.submit(work, claims))
    except RuntimeError:
        pass  # No thread can be started (any more): those there are do the work.
    try:
        work(claims)
    finally:
        # A helper that has not begun by now is not needed; the others are at their last task.
        running = [helper for helper in helpers if not helper.cancel()]
        failures = [helper.exception() for helper in running]
    for failure in failures:
        if failure is not None:
            raise failure


def _forget_pool() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _scratch(size: int) -> int:
    """Return the address of scratch memory of this thread, which keeps it."""
    kept = getattr(_of_thread, "scratch", None)
    if kept is None or kept.numel() < size + _ALIGNMENT:
        kept = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device="cpu")
        _of_thread.scratch = kept
    return -(-kept.data_ptr() // _ALIGNMENT) * _ALIGNMENT


@lru_cache(maxsize=64)
def _visits(directions: tuple[Direction, ...], points: int) -> Tensor:
    """Return the points in the order in which each direction visits them, (1, K, points)."""
    walks = [direction.walk(points, torch.device("cpu")) for direction in directions]
    return torch.stack(walks).to(torch.int32)[None]


def _empty_like_output(u: Tensor) -> Tensor:
    """Return an empty tensor of u's shape: channels innermost where u has them so, else points."""
    if u.stride(-1) == 1:
        return empty(*u.shape)
    batch, points, group, channel = u.shape
    return empty(batch, group, channel, points).permute(0, 3, 1, 2)


def _sum_in_order(parts: Tensor) -> Tensor:
    """Sum along the first axis into the first part, always in the same order."""
    total, *others = parts.unbind(0)
    for part in others:
        if total.numel() < _MANY:
            np.add(total.numpy(), part.numpy(), out=total.numpy())
        else:
            total.add_(part)
    return total


def _check(scan: ScanArguments) -> None:
    """Refuse inputs that do not fit each other: kernels work on addresses, whatever lies there."""
    path, sizes = scan.path, dict[str, int]()
    order, scale, low_rank = path.order, path.factors, scan.dt_weight is not None
    weights, per_channel, by_point = "batch point group state", "group channel", "group point"
    given = {
        "u": (scan.u, "batch point shared channel"),
        "A": (scan.A, "group state channel"),
        "delta": (scan.delta, f"batch point group {'rank' if low_rank else 'channel'}"),
        "B": (scan.B, weights),
        "C": (scan.C, weights),
        "D": (scan.D, per_channel),
        "bias": (scan.bias, per_channel),
        "dt_weight": (scan.dt_weight, "group rank channel"),
    }
    for name, tensor in (("scale", scale), ("order", order)):
        one = tensor is not None and len(tensor) == 1
        given[name] = tensor, f"{'one' if one else 'batch'} {by_point}"
    check_shapes(given, sizes)
    if sizes["shared"] not in (1, sizes["group"]):
        raise ValueError(f"u has {sizes['shared']} groups; expected 1 or {sizes['group']}")
    _check_types({name: tensor for name, (tensor, _) in given.items()})
    points = sizes["point"]
    if order is not None and order.numel() and not 0 <= order.min() <= order.max() < points:
        raise ValueError(f"order names points from {order.min()} to {order.max()} of {points}")
    steps = [n for d in path.directions for n in (d.line, d.period * d.stride)]
    if len(path.directions) != sizes["group"] or any(
        points and (n < 1 or points % n) for n in steps
    ):
        raise ValueError(
            f"layout={path.directions} does not cut {points} points into whole lines along "
            f"{sizes['group']} directions"
        )


def _check_types(tensors: Mapping[str, Tensor | None]) -> None:
    for name, x in tensors.items():
        dtype = torch.int32 if name == "order" else torch.float32
        if x is not None and (x.dtype != dtype or x.device.type != "cpu"):
            raise ValueError(f"{name} is {x.dtype} on {x.device}; expected {dtype} on the CPU")
