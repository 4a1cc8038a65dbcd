"""The scan of `mno.scan.plain`, computed block by block, with a backward pass of its own.

A scan touches `state` times more numbers than it is given. Held in memory all at once they cost far
more to move and to allocate than to compute, so they exist only for a block of lines and steps that
about fits the processor's cache, in buffers that serve every block. The backward pass computes a
block's states again from the state at its start.

Symbols and layout are those of `mno.scan.plain`, with the simplified discretisation. Within a block
time comes first and runs in the direction of the scan. With a_t = exp(dt_t A), x_t = dt_t u_t and
g_t the gradient of h_t:

    g_t  = C_t dy_t + a_{t+1} g_{t+1}      w_t  = g_t a_t h_{t-1}, the gradient of dt_t A
    dC_t = sum_channel h_t dy_t            dB_t = sum_channel g_t x_t
    dx_t = sum_state   g_t B_t             ddt_t = sum_state w_t A + u_t dx_t
    du_t = dt_t dx_t + D dy_t              dA   = sum_{line,t} w_t dt_t
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mno.scan.plain import Lines, PerChannel, StateMatrix, StepScale, Weights, plain_scan

# Numbers in one buffer: few enough for a cache, enough to outweigh the cost of each call of torch.
BLOCK = 1 << 18
MIN_STEPS = 32
LOG2_E = 1.0 / math.log(2.0)


def blocked_scan(
    u: Lines,
    delta: Lines,
    A: StateMatrix,
    B: Weights,
    C: Weights,
    D: PerChannel | None,
    bias: PerChannel | None,
    scale: StepScale | None,
    *,
    softplus: bool,
    reverse: Sequence[bool],
) -> Lines:
    """Compute what `plain_scan` does with the simplified discretisation."""
    return _Blocked.apply(u, delta, A, B, C, D, bias, scale, softplus, tuple(reverse))


@dataclass(frozen=True)
class _Part:
    """A block: one group, some lines, and a segment of steps.

    Attributes:
        group: Number of the group.
        lines: Which lines.
        steps: Which steps, in space.
        back: Whether the group runs against the order in space.
        index: Number of the segment in the direction of the scan.
        last: Whether it is the last segment.
    """

    group: int
    lines: slice
    steps: slice
    back: bool
    index: int
    last: bool

    def take(self, x: Tensor) -> Tensor:
        """Copy the block out of a tensor (line, length, group, ...); time first, scan order."""
        part = x[self.lines, self.steps, self.group].transpose(0, 1)
        return part.flip(0) if self.back else part.clone(memory_format=torch.contiguous_format)

    def put(self, x: Tensor, values: Tensor) -> None:
        """Write a block's values back where `take` reads them."""
        values = values.flip(0) if self.back else values
        x[self.lines, self.steps, self.group] = values.transpose(0, 1)


@dataclass(frozen=True)
class _Cut:
    """How a scan is cut into blocks."""

    lines: int
    length: int
    lines_per_block: int
    segment: int

    @classmethod
    def of(cls, u: Tensor, A: Tensor) -> _Cut:
        lines, length = u.shape[:2]
        per_step = max(A[0].numel(), 1)
        per_block = BLOCK // (per_step * min(max(length, 1), MIN_STEPS))
        per_block = max(1, min(lines, per_block))
        segment = max(MIN_STEPS, BLOCK // (per_step * per_block))
        return cls(lines, length, per_block, max(1, min(length, segment)))

    @property
    def segments(self) -> int:
        return -(-self.length // self.segment)

    def parts(self, reverse: Sequence[bool], *, backwards: bool = False) -> Iterator[_Part]:
        """Yield all blocks; those that share lines and group in the order of the scan, or back."""
        order = range(self.segments)
        for group, back in enumerate(reverse):
            for first in range(0, self.lines, self.lines_per_block):
                lines = slice(first, min(first + self.lines_per_block, self.lines))
                for i in reversed(order) if backwards else order:
                    start, stop = i * self.segment, min((i + 1) * self.segment, self.length)
                    steps = slice(self.length - stop, self.length - start)
                    steps = steps if back else slice(start, stop)
                    yield _Part(group, lines, steps, back, i, i == len(order) - 1)


class _Buffers:
    """Memory for the large values of one block, used again for the next."""

    def __init__(self, count: int, cut: _Cut, A: Tensor) -> None:
        size = cut.segment * cut.lines_per_block * A[0].numel()
        self._memory = [A.new_empty(size) for _ in range(count)]
        self._state = A.shape[1:]

    def shaped(self, steps: Tensor) -> list[Tensor]:
        """Return every buffer as (length, line, state, channel) for steps (length, line, ...)."""
        shape = (*steps.shape[:2], *self._state)
        return [memory[: math.prod(shape)].view(shape) for memory in self._memory]


def _step(
    part: _Part, delta: Tensor, bias: Tensor | None, scale: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a block's raw step with its bias, the step, and the factor in the step."""
    raw = part.take(delta)
    if bias is not None:
        raw += bias[part.group]
    dt = F.softplus(raw) if softplus else raw
    if scale is None:
        return raw, dt, None
    factor = scale[part.steps, part.group, :, None]
    factor = factor.flip(0) if part.back else factor
    return raw, dt * factor, factor


def _states(
    h0: Tensor | None, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, a: Tensor, h: Tensor
) -> None:
    """Fill `a` with the decays and `h` with the states of one block."""
    # exp2 is vectorised everywhere; exp may be a library call three times slower.
    torch.mul(dt[:, :, None], A * LOG2_E, out=a)
    torch.exp2(a, out=a)
    torch.mul(x[:, :, None], B[..., None], out=h)
    decays, states = a.unbind(0), h.unbind(0)
    if h0 is not None:
        states[0].addcmul_(decays[0], h0)
    for t in range(1, len(states)):
        states[t].addcmul_(decays[t], states[t - 1])


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        u, delta, A, B, C, D, bias, scale, softplus, reverse = args
        cut = _Cut.of(u, A)
        buffers = _Buffers(2, cut, A)
        y = u.new_empty(u.shape)
        # The state at the start of every segment but the first, which starts from zero.
        starts = u.new_empty((max(cut.segments - 1, 0), len(u), *A.shape))
        for part in cut.parts(reverse):
            _, dt, _ = _step(part, delta, bias, scale, softplus)
            here = part.take(u)
            a, h = buffers.shaped(dt)
            h0 = starts[part.index - 1, part.lines, part.group] if part.index else None
            _states(h0, here * dt, dt, A[part.group], part.take(B), a, h)
            out = torch.mul(h, part.take(C)[..., None], out=a).sum(-2)
            part.put(y, out if D is None else out.addcmul_(here, D[part.group]))
            if not part.last:
                starts[part.index, part.lines, part.group] = h[-1]
        ctx.save_for_backward(u, delta, A, B, C, D, bias, scale, starts)
        ctx.softplus, ctx.reverse = softplus, reverse
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, starts = ctx.saved_tensors
        (dy,) = grad_outputs
        if not torch.is_grad_enabled():
            grads = _gradients(inputs, starts, dy, softplus=ctx.softplus, reverse=ctx.reverse)
            return (*grads, None, None, None)
        # A graph of the gradients themselves was asked for: differentiate the plain form.
        needed = ctx.needs_input_grad
        wanted = [x for x, need in zip(inputs, needed, strict=False) if need]
        y = plain_scan(*inputs, softplus=ctx.softplus, reverse=ctx.reverse, zoh=False)
        grads = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
        return tuple([next(grads) if need else None for need in needed])


def _gradients(
    inputs: Sequence[Any], starts: Tensor, dy: Tensor, *, softplus: bool, reverse: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the first seven inputs; the last, scale, has none."""
    u, delta, A, B, C, D, bias, scale = inputs
    cut = _Cut.of(u, A)
    buffers = _Buffers(4, cut, A)
    du, ddelta, dB, dC = (x.new_empty(x.shape) for x in (u, delta, B, C))
    dA = torch.zeros_like(A)
    dD, dbias = (None if x is None else torch.zeros_like(x) for x in (D, bias))
    carried = A.new_zeros(())  # the gradient a segment hands to the end of the one before it
    for part in cut.parts(reverse, backwards=True):
        k = part.group
        here, out, b = part.take(u), part.take(dy), part.take(B)
        raw, dt, factor = _step(part, delta, bias, scale, softplus)
        x = here * dt
        a, h, g, w = buffers.shaped(dt)
        h0 = starts[part.index - 1, part.lines, k] if part.index else None
        _states(h0, x, dt, A[k], b, a, h)

        torch.mul(out[:, :, None], part.take(C)[..., None], out=g)
        if not part.last:
            g[-1] += carried
        grads, decays = g.unbind(0), a.unbind(0)
        for t in range(len(grads) - 2, -1, -1):
            grads[t].addcmul_(decays[t + 1], grads[t + 1])
        carried = grads[0] * decays[0]

        part.put(dC, torch.mul(h, out[:, :, None], out=w).sum(-1))
        part.put(dB, torch.mul(g, x[:, :, None], out=w).sum(-1))
        dx = torch.mul(g, b[..., None], out=w).sum(-2)
        a.mul_(g)
        a[1:].mul_(h[:-1])
        a[0].mul_(0.0 if h0 is None else h0)
        dA[k] += torch.mul(a, dt[:, :, None], out=w).sum((0, 1))
        ddt = torch.mul(a, A[k], out=w).sum(-2).addcmul_(here, dx)
        ddt = ddt if factor is None else ddt.mul_(factor)
        ddt = ddt.mul_(torch.sigmoid(raw)) if softplus else ddt
        part.put(ddelta, ddt)
        dx.mul_(dt)
        part.put(du, dx if D is None else dx.addcmul_(out, D[k]))
        if dD is not None:
            dD[k] += (out * here).sum((0, 1))
        if dbias is not None:
            dbias[k] += ddt.sum((0, 1))
    return du, ddelta, dA, dB, dC, dD, dbias
