"""Describe a scan to the kernels, share out its tasks, and sum what they leave in parts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mno.scan.arguments import unpacked
from mno.scan.cpu import job as fields
from mno.scan.cpu import num_states
from mno.scan.cpu.checks import INPUTS, check_inputs, expect
from mno.scan.cpu.compiled import Kernel, kernel
from mno.scan.cpu.memory import FLOATS, empty
from mno.scan.cpu.threads import share
from mno.scan.cpu.tiles import WIDTH

FLOAT_BYTES = 4
# Tasks are as many as this where the sizes allow: enough for so many threads.
_TASKS = 8
_NARROWEST = 32
# Less work than this many exponentials is done before another thread has woken up.
_SMALL = 40_000
_ALIGNMENT = 64
# Waking torch's threads takes longer than adding fewer numbers than this.
_MANY = 2_000_000
_of_thread = threading.local()


class Job:
    """The array of integers that describes one scan to the kernels."""

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        bias: Tensor | None,
        dt_weight: Tensor | None,
        scale: Tensor | None,
        order: Tensor | None,
        layout: Sequence[int],
        softplus: bool,
        discretization: str,
    ) -> None:
        tensors = (u, delta, A, B, C, D, bias, dt_weight, scale, order)
        check_inputs(dict(zip(INPUTS, tensors, strict=True)), layout)
        self.batch, self.points, shared, self.channel = u.shape
        self.groups, self.state, _ = A.shape
        self.rank = 0 if dt_weight is None else dt_weight.shape[1]
        summed = shared == 1
        sequences = self.batch * (1 if summed else self.groups)
        self.chunk = max(1, -(-self.batch // 32))
        self.chunks = -(-self.batch // self.chunk) if self.batch else 0
        widest = -(-self.channel // WIDTH)
        wanted = -(-_TASKS // max(sequences, 1))
        splits = max(widest, min(wanted, self.channel // _NARROWEST), 1)
        split = -(-self.channel // splits)
        self.split = min(-(-split // _NARROWEST) * _NARROWEST, WIDTH)
        self.splits = -(-self.channel // self.split)
        self.tasks = self.chunks * self.splits * (1 if summed else self.groups)
        self.kept: list[Tensor] = []
        self.numbers = [0] * (fields.DIRECTIONS + 2 * self.groups)
        self.put(fields.U, u, 0, None if summed else 2, 1, 3)
        self.put(fields.DELTA, delta, 0, 2, 1, 3)
        self.put(fields.A, A, None, 0, 1, 2)
        self.put(fields.B, B, 0, 2, 1, 3)
        self.put(fields.C, C, 0, 2, 1, 3)
        self.put(fields.D, D, None, 0, None, 1)
        self.put(fields.BIAS, bias, None, 0, None, 1)
        self.put(fields.DT_WEIGHT, dt_weight, None, 0, 1, 2)
        self.put(fields.SCALE, scale, _batch_axis(scale), 1, 2, None)
        if order is None:
            order = _visits(tuple(layout), self.points)
            backwards = [0] * self.groups
        else:
            backwards = list(layout[3::4])
        self.put(fields.ORDER, order, _batch_axis(order), 1, 2, None)
        self.numbers[fields.BATCH : fields.DIRECTIONS] = (
            self.batch,
            self.points,
            self.groups,
            summed,
            self.channel,
            self.state,
            self.rank,
            softplus,
            discretization == "centred",
            0,
            self.chunks,
            self.chunk,
            self.splits,
            self.split,
        )
        self.numbers[fields.DIRECTIONS :: 2] = layout[0::4]
        self.numbers[fields.DIRECTIONS + 1 :: 2] = backwards

    def put(self, field: int, tensor: Tensor | None, *axes: int | None) -> None:
        """Describe a tensor; `axes` are its (batch, group, row, column), None where it has none."""
        if tensor is None:
            return
        self.kept.append(tensor)
        size, strides = tensor.element_size(), tensor.stride()
        distances = [0 if axis is None else strides[axis] * size for axis in axes]
        self.numbers[field : field + 1 + len(axes)] = [tensor.data_ptr(), *distances]

    def run(self, kernel: Kernel, scratch_bytes: int) -> None:
        """Run all tasks."""
        numbers = np.array(self.numbers, np.int64)

        def work(claims: Iterator[int]) -> None:
            address = _scratch(scratch_bytes)
            for task in claims:
                kernel.run(numbers, task, address)

        size = self.batch * self.points * self.groups * self.channel * (self.state + 8)
        share(self.tasks, 1 if size < _SMALL else torch.get_num_threads(), work)


def _scratch(size: int) -> int:
    """Return the address of scratch memory of this thread, which keeps it."""
    kept = getattr(_of_thread, "scratch", None)
    if kept is None or kept.numel() < size + _ALIGNMENT:
        kept = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device="cpu")
        _of_thread.scratch = kept
    return -(-kept.data_ptr() // _ALIGNMENT) * _ALIGNMENT


def _batch_axis(tensor: Tensor | None) -> int | None:
    return 0 if tensor is not None and tensor.shape[0] > 1 else None


@lru_cache(maxsize=64)
def _visits(layout: tuple[int, ...], points: int) -> Tensor:
    """Return the points in the order in which each direction visits them, (1, K, points)."""
    walks = [direction.walk(points, torch.device("cpu")) for direction in unpacked(layout)]
    return torch.stack(walks).to(torch.int32)[None]


def _empty_like_output(u: Tensor) -> Tensor:
    """Return an empty tensor of u's shape: channels innermost where u has them so, else points."""
    if u.stride(-1) == 1:
        return empty(*u.shape)
    batch, points, group, channel = u.shape
    return empty(batch, group, channel, points).permute(0, 3, 1, 2)


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    layout: Sequence[int],
    *,
    softplus: bool,
    discretization: str = "simplified",
    save: bool,
) -> tuple[Tensor, Tensor]:
    """Run the scan along every direction.

    Args:
        u: input, (batch, points, groups or 1, channel); with 1 the groups share it, and their
            outputs are summed.
        delta: raw step, (batch, points, groups, channel), or (batch, points, groups, rank) where
            `dt_weight` is given.
        A: diagonal of the state matrix, (groups, state, channel).
        B: input weights, (batch, points, groups, state).
        C: output weights, as B.
        D: weight of the direct path, (groups, channel).
        bias: added to the raw step, (groups, channel).
        dt_weight: (groups, rank, channel); the raw step is delta @ dt_weight.
        scale: factor of the step at each point, (1 or batch, groups, points).
        order: points in the order of each direction, (1 or batch, groups, points), int32.
        layout: (line, period, stride, reverse) of every direction.
        softplus: whether the step is softplus of the raw step.
        discretization: `simplified`, `zoh` or `centred`; see `mno.scan.selective_scan`.
        save: keep the states that `backward` needs.

    Returns:
        The output, with u's shape, and the states. Channels are innermost in the output where
        they are in u, as in a contiguous tensor; otherwise it is a contiguous (batch, groups,
        channel, points) tensor, permuted.
    """
    job = Job(u, delta, A, B, C, D, bias, dt_weight, scale, order, layout, softplus, discretization)
    y = _empty_like_output(u)
    kept = num_states(job.points) if save else 0
    states = empty(job.batch, kept, job.state, job.groups * job.channel)
    job.put(fields.Y, y, 0, None if u.shape[2] == 1 else 2, 1, 3)
    if save:
        job.put(fields.STATES, states, 0, None, 2, 3)
        job.numbers[fields.STATES + 2] = job.channel * FLOAT_BYTES
    job.numbers[fields.SAVING] = save
    if y.numel():
        program = kernel("forward", discretization)
        job.run(program, program.scratch_bytes(job.state, job.rank))
    return y, states


def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    dt_weight: Tensor | None,
    scale: Tensor | None,
    order: Tensor | None,
    states: Tensor,
    dy: Tensor,
    layout: Sequence[int],
    *,
    softplus: bool,
    discretization: str = "simplified",
) -> tuple[Tensor | None, ...]:
    """Return the gradients by u, delta, A, B, C, D, bias and dt_weight.

    Arguments are those of `forward`, the states it saved and the gradient `dy` of a loss by its
    output. The gradient of an absent input is None. Gradients by u and delta are laid out by the
    rule that `forward` states for its output (the low-rank delta's is contiguous).
    """
    job = Job(u, delta, A, B, C, D, bias, dt_weight, scale, order, layout, softplus, discretization)
    K, N, C_ = job.groups, job.state, job.channel
    summed = u.shape[2] == 1
    expect("states", states, (job.batch, num_states(job.points), N, K * C_))
    expect("dy", dy, tuple(u.shape))
    job.put(fields.STATES, states, 0, None, 2, 3)
    job.numbers[fields.STATES + 2] = job.channel * FLOAT_BYTES
    job.put(fields.DY, dy, 0, None if summed else 2, 1, 3)
    du = _empty_like_output(u)
    job.put(fields.DU, du, 0, None if summed else 2, 1, 3)
    # Sums over channels are left in one part per split, sums over samples in one per chunk.
    dB, dC = (empty(job.splits, job.batch, job.points, K, N) for _ in range(2))
    for field, part in ((fields.DB, dB), (fields.DC, dC)):
        job.put(field, part.flatten(0, 1), 0, 2, 1, 3)
    if dt_weight is None:
        ddelta = _empty_like_output(delta)
        job.put(fields.DDELTA, ddelta, 0, 2, 1, 3)
    else:
        ddelta = empty(job.splits, *delta.shape)
        job.put(fields.DDELTA, ddelta.flatten(0, 1), 0, 2, 1, 3)
    shapes = [(job.chunks, K, rows, C_) for rows in (N, 1, 1, job.rank)]
    by_parameter = [torch.empty(shape, **FLOATS) for shape in shapes]
    names = (fields.DA, fields.DD, fields.DBIAS, fields.DDT_WEIGHT)
    for field, part in zip(names, by_parameter, strict=True):
        job.put(field, part, 0, 1, 2, 3)
    if u.numel():
        program = kernel("backward", discretization)
        job.run(program, program.scratch_bytes(job.state, job.rank))
        dB, dC = _sum_in_order(dB), _sum_in_order(dC)
        dA, dD, dbias, ddt_weight = (_sum_in_order(part) for part in by_parameter)
        if dt_weight is not None:
            ddelta = _sum_in_order(ddelta)
    else:
        dB, dC = torch.zeros(B.shape, **FLOATS), torch.zeros(B.shape, **FLOATS)
        dA, dD, dbias, ddt_weight = (torch.zeros(shape[1:], **FLOATS) for shape in shapes)
        ddelta = torch.zeros_like(delta)
    return (
        du,
        ddelta,
        dA,
        dB,
        dC,
        None if D is None else dD[:, 0],
        None if bias is None else dbias[:, 0],
        None if dt_weight is None else ddt_weight,
    )


def _sum_in_order(parts: Tensor) -> Tensor:
    """Sum along the first axis into the first part, always in the same order."""
    total, *others = parts.unbind(0)
    for part in others:
        if total.numel() < _MANY:
            np.add(total.numpy(), part.numpy(), out=total.numpy())
        else:
            total.add_(part)
    return total
