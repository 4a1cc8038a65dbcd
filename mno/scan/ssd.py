"""State-space duality: the scan with one decay per head and step, as products of matrices.

The scan is that of `mno.scan.selective_scan` where the channels of a head share A, the step and the
direct path, and all heads share B and C. Along a line, with c_t the sum of dt A up to where the
output is read, its kernel is a matrix with few numbers of its own,

    y = M u,   M_ts = exp(c_t - c_s) (C_t . B_s) g_s  where s comes before t,
               M_tt = (C_t . B_t) e_t + D

Lines are cut into blocks, inside of which M is made and multiplied by u. What a block hears of
those before it comes through the state h at its start: with c counted from there, and `whole` the
sum over all of the block,

    y_t += exp(c_t) C_t . h,   h_next = exp(whole) h + sum_s exp(whole - c_s) g_s B_s u_s

With z = dt A, the rules of `mno.scan.selective_scan` are

    simplified   g = e = dt
    zoh          g = e = dt (exp(z) - 1) / z
    centred      g = dt, e = dt / 2, and c_t ends in the middle of step t
    trapezoidal  e = w dt, g_t = e_t + (1 - w_{t+1}) dt_{t+1}, the latter 0 where a line ends

Symbols, where a beam is a set of directions along the same lines, one way or both:
    u        input                                  (batch, point, 1, channel)
    delta    raw step                               (batch, point, K, head)
    A, D     decay and direct path                  (K, head)
    B, C     input and output weights               (batch, point, K, state)
    read     c_t                                    (way, head, block, step)
    write    c_s - log(g_s)                         (way, head, block, step)
    whole    sum of dt A over a block               (way, head, block)
    heard    e_t                                    (way, head, block, step)
    direct   sum of D over the ways                 (head,)

Source:
    Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through
    Structured State Space Duality", arXiv:2405.21060, section 6.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mno.scan.arguments import Inputs, ScanArguments, ScanPath, Weights
from mno.scan.backends import is_direct, plain_gradients
from mno.scan.plain import phi

HeadSteps = Float[Tensor, "batch point group head"]
PerHead = Float[Tensor, "group head"]
Points = Float[Tensor, "batch point channel"]
Blocks = Float[Tensor, "block step channel"]
BlockWeights = Float[Tensor, "way block step state"]
Exponents = Float[Tensor, "way head block step"]
WholeBlocks = Float[Tensor, "way head block"]
Direct = Float[Tensor, " head"]

BLOCK = 32
LONGEST = 64
"""Steps of a line up to which it is one block: there, no state is passed on."""
IN_GRAPHS = 32, 16  # both where nothing is compiled, and exponentials count
_LEAST_DRIVE = 1e-30  # whose logarithm is taken
_FORGOTTEN = -80.0  # of z: no more is left of what came before, and sums keep their digits


@dataclass(frozen=True, eq=False)
class HeadScan:
    """A scan with one decay per head; symbols and shapes are those above."""

    u: Inputs
    delta: HeadSteps
    A: PerHead
    B: Weights
    C: Weights
    D: PerHead
    bias: PerHead
    path: ScanPath
    discretization: str = "simplified"
    end_weight: HeadSteps | None = None  # w, of `trapezoidal` alone; `None` for 1/2

    def by_channel(self) -> ScanArguments:
        """Return the same scan with everything that a head shares repeated for its channels."""
        channels, (groups, heads) = self.u.shape[-1], self.A.shape
        repeats, w = channels // heads, self.end_weight
        A, D, bias = (x.repeat_interleave(repeats, -1) for x in (self.A, self.D, self.bias))
        of_head = torch.eye(heads, dtype=A.dtype, device=A.device).repeat_interleave(repeats, -1)
        A = A[:, None].expand(-1, self.B.shape[-1], -1)
        ends = None if w is None else w.repeat_interleave(repeats, -1)
        given = self.u, self.delta, A, self.B, self.C, D, bias, of_head.expand(groups, -1, -1)
        return ScanArguments(*given, self.path, True, self.discretization, ends)


def ssd(scan: HeadScan) -> Inputs:
    """Compute a scan with one decay per head, summed over its directions.

    On a processor and in float32 by compiled code, otherwise by operations of torch. The state is
    float32, or float64 where an input is.
    """
    tensors = (scan.u, scan.delta, scan.A, scan.B, scan.C, scan.D, scan.bias)
    wide = any(x.dtype == torch.float64 for x in tensors)
    dtype = torch.float64 if wide else torch.float32
    if not scan.u.numel():
        return scan.u.clone()
    with _full_precision(scan.u):
        u, delta, A, B, C, D, bias = (x.to(dtype) for x in tensors)
        dt = scan.path.scaled(F.softplus(delta + bias))
        at_end = dt / 2 if scan.end_weight is None else dt * scan.end_weight.to(dtype)
        given = u.squeeze(2), dt, at_end, A, B, C, D, scan.discretization
        parts = [_Beam(scan.path, ways).scan(*given) for ways in _same_lines(scan.path)]
    return sum(parts[1:], parts[0])[:, :, None].to(scan.u.dtype)


def _same_lines(path: ScanPath) -> list[list[int]]:
    """Sort directions by their lines: those of a list are one line and its reverse."""
    one_order = path.order is None or path.order.stride(1) == 0
    beams: dict[Any, list[int]] = {}
    for k, way in enumerate(path.directions):
        again = path.directions[:k].count(way) if one_order else k
        beams.setdefault((way.line, way.period, way.stride, again), []).append(k)
    return list(beams.values())


class _Beam:
    """Directions along the same lines, which it cuts into blocks of as many steps each."""

    def __init__(self, path: ScanPath, ways: list[int]) -> None:
        # One way, or there and back: a slice, whose gradient costs less than that of a list.
        self.ways = slice(ways[0], ways[-1] + 1, max(ways[-1] - ways[0], 1))
        self.backwards = [path.directions[k].reverse for k in ways]
        self.direction = path.directions[ways[0]]
        self.order = None if path.order is None else path.order[:, ways[0], :, None].long()
        line = self.direction.line
        longest, block = IN_GRAPHS if torch.compiler.is_compiling() else (LONGEST, BLOCK)
        self.per_line = 1 if line <= longest else math.ceil(line / block)
        self.missing = -line % self.per_line

    def cut(self, x: Tensor) -> Tensor:
        """Take `(batch, point, any)` into blocks `(block, step, any)`, filled up with zeros."""
        if self.order is not None:
            x = x.gather(1, self.order.expand(x.shape[0], -1, x.shape[-1]))
        elif self.direction.stride > 1:
            sizes = -1, self.direction.period, self.direction.stride
            x = x.unflatten(1, sizes).transpose(2, 3)
        x = x.reshape(-1, self.direction.line, x.shape[-1])
        x = F.pad(x, (0, 0, 0, self.missing)) if self.missing else x
        return x.reshape(x.shape[0] * self.per_line, -1, x.shape[-1])

    def joined(self, x: Tensor, batch: int | torch.SymInt) -> Tensor:
        """Undo `cut`."""
        x = x.reshape(x.shape[0] // self.per_line, -1, x.shape[-1])
        x = x[:, : self.direction.line].reshape(batch, -1, x.shape[-1])
        if self.order is not None:
            return x.gather(1, self.order.argsort(1).expand(x.shape[0], -1, x.shape[-1]))
        if self.direction.stride > 1:
            sizes = -1, self.direction.stride, self.direction.period
            x = x.unflatten(1, sizes).transpose(2, 3).flatten(1, 3)
        return x

    def scan(
        self, u: Points, dt: HeadSteps, at_end: HeadSteps, A: PerHead, B: Weights, C: Weights,
        D: PerHead, rule: str,
    ) -> Points:  # fmt: skip
        """Scan along the ways of the beam; `at_end` is e for `trapezoidal`."""
        dt, at_end, B, C = (x[:, :, self.ways] for x in (dt, at_end, B, C))
        A, D = A[self.ways], D[self.ways]
        B, C, dt = (self._by_way(x) for x in (B, C, dt))
        dt = dt.movedim(3, 1).contiguous()
        z = dt * A[:, :, None, None]
        drive = heard = dt * phi(z) if rule == "zoh" else dt
        heard = dt / 2 if rule == "centred" else heard
        if rule == "trapezoidal":
            heard = self._by_way(at_end).movedim(3, 1)
            drive = heard + self._of_next(dt - heard)
        z, drive = z.clamp_min(_FORGOTTEN), drive.contiguous()
        exponents = _exponents(z, drive, self, rule == "centred")
        return _scan_blocks(u, B, C, *exponents, heard.contiguous(), D.sum(0), self)

    def _of_next(self, x: Tensor) -> Tensor:
        """Return what the next step along each way has, `(way, head, block, step)`; 0 at its end.

        What fills up blocks is zero, and what it is given here meets an input that is.
        """
        lines = x.unflatten(2, (-1, self.per_line)).flatten(3)
        parts = zip(lines.unbind(0), self.backwards, strict=True)
        moved = [
            F.pad(x[..., :-1], (1, 0)) if back else F.pad(x[..., 1:], (0, 1)) for x, back in parts
        ]
        return torch.stack(moved).unflatten(3, (self.per_line, -1)).flatten(2, 3)

    def _by_way(self, x: Tensor) -> Tensor:
        """Take `(batch, point, way, any)` into blocks `(way, block, step, any)`."""
        return self.cut(x.flatten(2)).unflatten(-1, x.shape[2:]).movedim(2, 0).contiguous()


def _exponents(*inputs: Any) -> tuple[Tensor, ...]:
    """Return `read`, `write` and `whole`, given dt A and g, `(way, head, block, step)`."""
    direct = is_direct(inputs[:2])
    return _CompiledExponents.apply(*inputs) if direct else _plain_exponents(*inputs)


def _plain_exponents(
    z: Exponents, drive: Exponents, beam: _Beam, centred: bool
) -> tuple[Tensor, ...]:
    # In float64, since differences are taken of what may have grown along the block.
    since = z.cumsum(-1, dtype=torch.float64)
    whole = since[..., -1]
    turned = torch.tensor(beam.backwards, device=z.device)[:, None, None, None]
    since = torch.where(turned, whole[..., None] - since + z, since)
    since = since - z / 2 if centred else since
    write = since - drive.clamp_min(_LEAST_DRIVE).log()
    return tuple(x.to(z.dtype) for x in (since, write, whole))


class _CompiledExponents(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return _launch().exponents(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, drive, *ctx.options = inputs
        ctx.save_for_backward(z, drive)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            found = plain_gradients(
                lambda *parts: _plain_exponents(*parts, *ctx.options),
                ctx.saved_tensors, ctx.needs_input_grad, grads,
            )  # fmt: skip
        else:
            given = (grad.contiguous() for grad in grads)
            found = _launch().exponents_back(ctx.saved_tensors[1], *given, *ctx.options)
        return *found, None, None


def _scan_blocks(*inputs: Any) -> Points:
    *tensors, beam = inputs
    if not is_direct(tensors):
        return _plain_blocks(*inputs)
    save = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return _CompiledBlocks.apply(*inputs, save)[0]


def _plain_blocks(
    u: Points, B: BlockWeights, C: BlockWeights, read: Exponents, write: Exponents,
    whole: WholeBlocks, heard: Exponents, direct: Direct, beam: _Beam,
) -> Points:  # fmt: skip
    """Compute the outputs by differentiable operations of torch."""
    values = beam.cut(u).unflatten(-1, (len(direct), -1)).movedim(2, 0)
    # Elsewhere than before a step decays would be growth, so they are bounded by what they are at
    # the step itself, and multiplied by zero.
    between = torch.minimum(read[..., None] - write[..., None, :], (read - write)[..., None, :])
    products = C @ B.mT
    own = _own(products, heard, direct)
    pairs = zip(products, beam.backwards, strict=True)
    products = torch.stack([x.triu(1) if back else x.tril(-1) for x, back in pairs])
    matrix = (torch.exp(between) * products[:, None]).sum(0) + torch.diag_embed(own)
    y = matrix @ values
    if beam.per_line > 1:
        reads = C[:, None] * torch.exp(read)[..., None]
        writes = B[:, None] * torch.exp(whole[..., None] - write)[..., None]
        ends = writes.mT @ values
        for k, back in enumerate(beam.backwards):
            y = y + reads[k] @ _states(ends[k], torch.exp(whole[k]), back, beam.per_line)
    return beam.joined(y.movedim(0, 2).flatten(2), u.shape[0])


def _states(ends: Tensor, decay: Tensor, back: bool, per_line: int) -> Tensor:
    """Return h before each block, with h_next = decay h + end along each line, from h = 0."""
    rows = ends.unflatten(1, (-1, per_line)).unbind(2)
    factors = decay[..., None, None].unflatten(1, (-1, per_line)).unbind(2)
    h, states = torch.zeros_like(rows[0]), []
    for i in reversed(range(per_line)) if back else range(per_line):
        states.append(h)
        h = factors[i] * h + rows[i]
    return torch.stack(states[::-1] if back else states, dim=2).flatten(1, 2)


class _CompiledBlocks(torch.autograd.Function):
    """The same with the kernels of `mno.scan.cpu.blocks`."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        u, B, C, read, write, whole, heard, direct, beam, save = inputs
        values = beam.cut(u).unflatten(-1, (len(direct), -1)).contiguous()
        products = C @ B.mT
        exponents, own = (read, write, whole), _own(products, heard, direct)
        _keep_before(products, beam)
        y, states = _launch().forward(values, B, C, *exponents, own, products, beam, save)
        return beam.joined(y.flatten(2), len(u)), states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.beam, _ = inputs
        ctx.save_for_backward(*tensors, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        dy, beam = grad_outputs[0], ctx.beam
        if dy is None:
            return (None,) * 10
        *inputs, states = ctx.saved_tensors
        with _full_precision(dy):
            if torch.is_grad_enabled():
                found = plain_gradients(
                    lambda *parts: [_plain_blocks(*parts, beam=beam)],
                    inputs, ctx.needs_input_grad, [dy],
                )  # fmt: skip
                return *found, None, None
            u, B, C, *exponents, heard, direct = inputs
            values, by_values = (
                beam.cut(x).unflatten(-1, (len(direct), -1)).contiguous() for x in (u, dy)
            )
            products = C @ B.mT
            own, diagonal = _own(products, heard, direct), _diagonal(products).clone()
            _keep_before(products, beam)
            du, dB, dC, by_products, *by_exponents, down = _launch().backward(
                values, B, C, *exponents, own, products, states, by_values, beam
            )
            _keep_before(by_products, beam)
            _diagonal(by_products).copy_((down * heard).sum(1))
            dB, dC = dB + by_products.mT @ C, dC + by_products @ B
            by_own = down * diagonal[:, None], down.sum((1, 2))
            return beam.joined(du.flatten(2), len(u)), dB, dC, *by_exponents, *by_own, None, None


def _diagonal(products: Tensor) -> Tensor:
    return products.diagonal(dim1=-2, dim2=-1)


def _own(products: Tensor, heard: Tensor, direct: Tensor) -> Tensor:
    """Return M_tt, `(head, block, step)`."""
    return (heard * _diagonal(products)[:, None]).sum(0) + direct[:, None, None]


def _keep_before(products: Tensor, beam: _Beam) -> None:
    """Set to zero but where a step, the column, comes before another, the row."""
    for of_way, back in zip(products, beam.backwards, strict=True):
        of_way.triu_(1) if back else of_way.tril_(-1)


def _launch() -> Any:
    from mno.scan.cpu import launch_blocks  # loads numba

    return launch_blocks


def _full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast, which would make products of bfloat16."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()
