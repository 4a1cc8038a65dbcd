"""Run the passes of a scan, and sum what their tasks leave in parts."""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import torch
from numba.core import types
from torch import Tensor

from mno.scan.arguments import How, Tensors
from mno.scan.cpu import job as fields
from mno.scan.cpu.job import FLOAT_BYTES, VIEW
from mno.scan.cpu.memory import FLOATS, empty
from mno.scan.cpu.plan import PARAMETERS, Plan, planned
from mno.scan.cpu.tasks import PASSES, add_parts
from mno.scan.cpu.threads import Kernel, compiled_function, compiled_tasks, run_tasks

_RESULTS = (fields.STATES, fields.DU, fields.DDELTA, fields.DB, fields.DC)
# Waking torch's threads takes longer than adding fewer numbers than this.
_MANY = 2_000_000

_kernels: dict[tuple[str, str], Kernel] = {}


def arranged_forward(
    tensors: Tensors, how: How, initial: Tensor | None = None, *, save: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a scan along every direction, and save the states that its backward pass needs if asked.

    Tensors are given and returned in some arrangement. The output has u's shape. Channels are
    innermost in it where they are in u, as in a contiguous tensor; otherwise it is a contiguous
    (batch, groups, channel, points) tensor, permuted. Behind the states is what each walk ends
    with, where it is given what each begins with.
    """
    plan, job, _given = planned(tensors, how)
    y = plan.y.new()
    batch, _, *state = plan.states.shape
    states = plan.states.new() if save else empty(batch, 0, *state)
    job[fields.Y], job[fields.STATES], job[fields.SAVING] = y.data_ptr(), states.data_ptr(), save
    ends = None if initial is None else _put_ends(plan, job, initial)
    if y.numel():
        _run("forward", plan, job)
    return y, states, None if ends is None else ends[:, 1]


def arranged_backward(
    tensors: Tensors, how: How, states: Tensor, dy: Tensor | None, dstate: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Return the gradients by u, delta, A, B, C, D, bias and dt_weight, None for what is absent.

    States are those that the forward pass saved of the same scan. Gradients by u and delta are laid
    out as its output (the low-rank delta's is contiguous). The last is the gradient by what each
    walk begins with, given that by what each ends with.
    """
    plan, job, _given = planned(tensors, how)
    dy = plan.y.new().zero_() if dy is None else dy
    ends = None if dstate is None else _put_ends(plan, job, dstate)
    du = plan.y.new()
    # Sums over channels are left in one part per split, sums over samples in one per chunk.
    splits, chunks = plan.splits, plan.chunks
    dB, dC = plan.weights.new(splits), plan.weights.new(splits)
    ddelta = plan.ddelta.new(splits if plan.low_rank else 1)
    parameters = empty(chunks, plan.parameters)
    job[fields.DY : fields.DY + VIEW] = plan.describe_gradient(dy)
    for field, x in zip(_RESULTS, (states, du, ddelta, dB, dC), strict=True):
        job[field] = x.data_ptr()
    first = parameters.data_ptr()
    for field, (_, _, start) in zip(PARAMETERS, plan.by_parameter, strict=True):
        job[field] = first + FLOAT_BYTES * start
    if plan.is_empty:
        for x in (ddelta, dB, dC):
            x.zero_()
        parameters = torch.zeros(1, plan.parameters, **FLOATS)
    else:
        _run("backward", plan, job)
        for x in (dB, dC, *((ddelta,) if plan.low_rank else ())):
            _add_parts(x, splits, x.numel())
        _add_parts(parameters, chunks, plan.parameters)
    dA, dD, dbias, ddt_weight = (parameters.as_strided(*x) for x in plan.by_parameter)
    arrangement, (_, _, _, _, _, D, bias, dt_weight) = how[0], tensors
    return (
        du, ddelta, arrangement.of_matrix(dA), dB, dC,
        None if D is None else arrangement.of_channels(dD),
        None if bias is None else arrangement.of_channels(dbias),
        None if dt_weight is None else ddt_weight,
        None if ends is None else ends[:, 0],
    )  # fmt: skip


def _put_ends(plan: Plan, job: np.ndarray, given: Tensor) -> Tensor:
    """Put what is given for one end of each walk where the kernels find and leave it.

    Both ends are returned, `(batch, 2, K, state, channel)`, alike as long as no kernel has run.
    """
    ends = plan.ends.new().copy_(given.transpose(1, 2)[:, None])
    job[fields.ENDS] = ends.data_ptr()
    return ends.transpose(2, 3)


def _run(direction: str, plan: Plan, job: np.ndarray) -> None:
    """Run a pass of a scan."""
    run = kernel(direction, plan.rule)
    run_tasks(run, job, plan.tasks, plan.scratch_bytes[direction], plan.work)


def kernel(direction: str, discretization: str) -> Kernel:
    """Return the kernel of one pass ("forward" or "backward") and one discretisation.

    It is compiled, or read from the cache, when it is first asked for.
    """
    key = direction, discretization
    if key not in _kernels:
        made = PASSES[direction](discretization)
        _kernels[key] = compiled_tasks(made, f"{direction}_{discretization}")
    return _kernels[key]


@cache
def _adder() -> Any:
    arguments = (ctypes.c_int64,) * 3
    return compiled_function(add_parts, types.void(*[types.int64] * 3), *arguments)


def _add_parts(first: Tensor, parts: int, count: int) -> None:
    """Add up parts of so many numbers, one behind the other, in their order, into the first."""
    if parts == 1:
        return
    if count < _MANY:
        _adder()(first.data_ptr(), parts, count)
        return
    total, *others = first.as_strided((parts, count), (count, 1)).unbind(0)
    for part in others:
        total.add_(part)
