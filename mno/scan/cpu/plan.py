"""What follows from the layout of a scan: the shapes of its tensors, and how they lie.

That takes longer to work out than a short scan itself, so it is kept. What is left to do for a scan
is to fill in addresses.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import accumulate
from math import prod
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mno.scan import arguments
from mno.scan.arguments import Arrangement, Direction, How, ScanArguments, Tensors
from mno.scan.cpu import job as fields
from mno.scan.cpu import num_states
from mno.scan.cpu.job import FLOAT_BYTES, VIEW, WIDTH, scratch_bytes
from mno.scan.cpu.memory import empty
from mno.scan.cpu.tasks import PASSES

# Tasks are as many as this where the sizes allow: enough for so many threads.
_TASKS = 8
_NARROWEST = 32
_MOST_PLANS = 64
PARAMETERS = (fields.DA, fields.DD, fields.DBIAS, fields.DDT_WEIGHT)

_plans: dict[object, Plan] = {}
_lock = Lock()


class Form(NamedTuple):
    """The shape of a result, and how it lies."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    contiguous: bool

    @classmethod
    def of(cls, x: Tensor) -> Form:
        """Return that of a tensor whose elements lie beside each other, in any order."""
        return cls(tuple(x.shape), x.stride(), x.is_contiguous())

    def new(self, parts: int = 1) -> Tensor:
        """Return an empty tensor of this form, the first of so many, one behind the other."""
        if parts == 1 and self.contiguous:
            return empty(*self.shape)
        return empty(parts * prod(self.shape)).as_strided(self.shape, self.strides)


class Plan:
    """The job of a scan but for addresses, and the forms of its results."""

    def __init__(self, scan: ScanArguments, arrangement: Arrangement) -> None:
        """Plan a scan: its tensors fit each other and the path, and are float32 on the processor.

        Kernels work on addresses, whatever lies there.
        """
        batch, points, shared, channel = self.shape = scan.u.shape
        groups, state, _ = scan.A.shape
        rank = 0 if scan.dt_weight is None else scan.dt_weight.shape[1]
        summed = shared == 1
        sequences = batch * (1 if summed else groups)
        chunk = max(1, -(-batch // 32))
        self.chunks = -(-batch // chunk) if batch else 0
        widest = -(-channel // WIDTH)
        wanted = -(-_TASKS // max(sequences, 1))
        splits = max(widest, min(wanted, channel // _NARROWEST), 1)
        split = -(-channel // splits)
        split = min(-(-split // _NARROWEST) * _NARROWEST, WIDTH)
        self.splits = -(-channel // split)
        self.tasks = self.chunks * self.splits * (1 if summed else groups)
        self.low_rank, self.is_empty = scan.dt_weight is not None, scan.u.numel() == 0
        self.arrangement, self.rule = arrangement, scan.discretization
        # An exponential is as much work as five multiplications.
        self.work = 5 * batch * points * groups * channel * (state + 8)
        self.scratch_bytes = {way: scratch_bytes(state, rank, way == "backward") for way in PASSES}
        directions, order = scan.path.directions, scan.path.order
        self.visits = _visits(directions, points) if order is None else None
        self._group_axis = None if summed else 2
        self._dy: tuple[object, list[int]] = (None, [])

        self._job = np.zeros(fields.DIRECTIONS + 2 * groups, np.int64)
        self._put_given(scan)
        self._put_results(scan)
        self._job[fields.BATCH : fields.DIRECTIONS] = (
            *(batch, points, groups, summed, channel, state, rank),
            *(scan.softplus, scan.discretization == "centred", False),
            *(self.chunks, chunk, self.splits, split),
        )
        self._job[fields.DIRECTIONS :: 2] = [direction.line for direction in directions]
        turned = [order is not None and direction.reverse for direction in directions]
        self._job[fields.DIRECTIONS + 1 :: 2] = turned

    def _put_given(self, scan: ScanArguments) -> None:
        order = scan.path.order if self.visits is None else self.visits
        for field, tensor, axes in (
            (fields.U, scan.u, (0, self._group_axis, 1, 3)),
            (fields.DELTA, scan.delta, (0, 2, 1, 3)),
            (fields.A, scan.A, (None, 0, 1, 2)),
            (fields.B, scan.B, (0, 2, 1, 3)),
            (fields.C, scan.C, (0, 2, 1, 3)),
            (fields.D, scan.D, (None, 0, None, 1)),
            (fields.BIAS, scan.bias, (None, 0, None, 1)),
            (fields.DT_WEIGHT, scan.dt_weight, (None, 0, 1, 2)),
            (fields.SCALE, scan.path.factors, (0, 1, 2, None)),
            (fields.ORDER, order, (0, 1, 2, None)),
        ):
            if tensor is not None:
                if field in (fields.SCALE, fields.ORDER) and len(tensor) == 1:  # for all samples
                    axes = (None, *axes[1:])
                self._job[field : field + VIEW] = _view(tensor, *axes)

    def _put_results(self, scan: ScanArguments) -> None:
        make = partial(torch.empty, dtype=torch.float32, device="meta")
        batch, points, groups, state = scan.B.shape
        channel, low_rank = scan.u.shape[-1], scan.dt_weight is not None
        y, weights = arguments.like_output(scan.u, make), make(scan.B.shape)
        ddelta = make(scan.delta.shape) if low_rank else arguments.like_output(scan.delta, make)
        states = make(batch, num_states(points), state, groups, channel)
        ends = make(batch, 2, state, groups, channel)
        for field, tensor, axes in (
            (fields.Y, y, (0, self._group_axis, 1, 3)),
            (fields.DU, y, (0, self._group_axis, 1, 3)),
            (fields.DDELTA, ddelta, (0, 2, 1, 3)),
            (fields.DB, weights, (0, 2, 1, 3)),
            (fields.DC, weights, (0, 2, 1, 3)),
            (fields.STATES, states, (0, 3, 2, 4)),
            (fields.ENDS, ends, (0, 3, 2, 4)),
        ):
            self._job[field : field + VIEW] = _view(tensor, *axes)
        arranged = self.arrangement
        self.y, self.weights = Form.of(arranged.of_output(y)), Form.of(arranged.of_weights(weights))
        self.ddelta = Form.of(ddelta if low_rank else arranged.of_output(ddelta))
        self.states, self.ends = Form.of(states.flatten(3)), Form.of(ends)
        # The gradients by A, D, bias and dt_weight lie one behind the other.
        rank = scan.delta.shape[-1] if low_rank else 0
        shapes = (groups, state, channel), (groups, channel), (groups, channel)
        sizes = [groups * rows * channel for rows in (state, 1, 1, rank)]
        *starts, self.parameters = accumulate(sizes, initial=0)
        places = zip((*shapes, (groups, rank, channel)), starts, strict=True)
        self.by_parameter = [(shape, make(shape).stride(), start) for shape, start in places]
        for field, size in zip(PARAMETERS, sizes, strict=True):
            distances = self.parameters, size // max(groups, 1), channel, 1
            self._job[field + 1 : field + VIEW] = [FLOAT_BYTES * x for x in distances]

    def job(self, addresses: list[int]) -> np.ndarray:
        """Return the job of a scan whose given tensors lie at these addresses."""
        job = self._job.copy()
        job[fields.U : fields.ORDER + 1 : VIEW] = addresses
        if self.visits is not None:
            job[fields.ORDER] = self.visits.data_ptr()
        return job

    def describe_gradient(self, dy: Tensor) -> list[int]:
        """Describe a gradient by the output, arranged as the output is."""
        layout, distances = self._dy
        if layout != (dy.shape, dy.stride()):
            distances = _view(self.arrangement.to_output(dy), 0, self._group_axis, 1, 3)[1:]
            self._dy = (dy.shape, dy.stride()), distances
        return [dy.data_ptr(), *distances]


def planned(tensors: Tensors, how: How) -> tuple[Plan, np.ndarray, object]:
    """Return the plan of a scan, its job, and what the job has addresses of."""
    arrangement, path, softplus, discretization = how
    given = (*tensors, path.factors, path.order)
    layout = [None if x is None else (x.shape, x.stride(), x.dtype, x.device) for x in given]
    key = (arrangement, path.directions, softplus, discretization, *layout)
    if (plan := _plans.get(key)) is None:
        plan = Plan(ScanArguments.arranged(tensors, how), arrangement)
        with _lock:
            if len(_plans) >= _MOST_PLANS:
                del _plans[next(iter(_plans))]
            _plans[key] = plan
    if path.order is not None:
        _check_order(path.order, plan.shape[1])
    return plan, plan.job([0 if x is None else x.data_ptr() for x in given]), given


def _view(tensor: Tensor, *axes: int | None) -> list[int]:
    """Describe a tensor; `axes` are its (batch, group, row, column), None where it has none."""
    size, strides = tensor.element_size(), tensor.stride()
    return [tensor.data_ptr(), *(0 if axis is None else strides[axis] * size for axis in axes)]


@lru_cache(maxsize=64)
def _visits(directions: tuple[Direction, ...], points: int) -> Tensor:
    """Return the points in the order in which each direction visits them, (1, K, points)."""
    walks = [direction.walk(points, torch.device("cpu")) for direction in directions]
    return torch.stack(walks).to(torch.int32)[None]


def _check_order(order: Tensor, points: int) -> None:
    if order.numel() and not 0 <= order.min() <= order.max() < points:
        raise ValueError(f"order names points from {order.min()} to {order.max()} of {points}")
