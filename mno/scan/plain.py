"""The recurrence as differentiable torch operations: step by step, to read, and in chunks.

Symbols, where a line is one sequence and a group one scan direction:
    u       input sequence            (line, length, group, channel)
    dt      step                      (line, length, group, channel)
    A       diagonal, negative        (group, state, channel)
    B, C    input, output weights     (line, length, group, state)
    h       state                     (line, group, state, channel)
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mno.scan.arguments import Carried, Inputs, ScanArguments, ScanPath

Lines = Float[Tensor, "line length group channel"]
LineWeights = Float[Tensor, "line length group state"]
StateMatrix = Float[Tensor, "group state channel"]
State = Float[Tensor, "line group state channel"]

SEGMENT = 64
CHUNK = 32
SPAN = 32  # chunks computed at once; memory grows with their product, not with the length
SMALL = 0.1
# phi(z) = (exp(z) - 1) / z = 1 + z/2! + z^2/3! + ..., to float64 accuracy where |z| < SMALL.
PHI_SERIES = (1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24)
PHI_SERIES += (1 / 6, 1 / 2, 1.0)


def plain_recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, h: State | None = None, *,
    rule: str,
) -> tuple[Lines, State]:  # fmt: skip
    """Run h_t = exp(dt_t A) h_{t-1} + Bbar_t u_t, y_t = C_t . h_t along every line, from h or 0.

    Bbar_t is dt_t B_t, or A^-1 (exp(dt_t A) - 1) B_t for `zoh`. The rule `centred` makes two half
    steps and takes the output between them: with a = exp(dt_t A / 2) and b = dt_t B_t u_t / 2,
    m = a h_{t-1} + b, y_t = C_t . m, h_t = a (m + b). Long lines are cut into segments whose
    intermediate values are computed again in the backward pass, so that memory grows with the
    number of segments, not with every step. The state behind the last step is returned, too.
    """
    size = SEGMENT if u.shape[1] > SEGMENT else None
    return _piece_by_piece(partial(_segment, rule=rule), size, u, dt, A, B, C, h)


def _piece_by_piece(
    step: Callable[..., tuple[Lines, State]], size: int | None, u: Lines, dt: Lines,
    A: StateMatrix, B: LineWeights, C: LineWeights, h: State | None,
) -> tuple[Lines, State]:  # fmt: skip
    """Carry the state through pieces of lines, checkpointed; through the whole without a size."""
    state, parts = u.new_zeros((u.shape[0], *A.shape)) if h is None else h, []
    if size is None:
        return step(state, A, u, dt, B, C)
    remade = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    remade = remade and forward_ad._current_level < 0  # what is remade would have no tangents
    run = partial(checkpoint, step, use_reentrant=False) if remade else step
    for start in range(0, u.shape[1], size):
        cut = [x[:, start : start + size] for x in (u, dt, B, C)]
        y, state = run(state, A, *cut)
        parts.append(y)
    return torch.cat(parts, dim=1) if parts else torch.zeros_like(u), state


def _segment(
    h: State, A: StateMatrix, u: Lines, dt: Lines, B: LineWeights, C: LineWeights, *, rule: str
) -> tuple[Lines, State]:
    z, drive = decay_and_drive(u, dt, A, B, rule=rule)
    outputs = []
    for a, x, weight in zip(torch.exp(z).unbind(1), drive.unbind(1), C.unbind(1), strict=True):
        seen = a * h + x
        h = a * (seen + x) if rule == "centred" else seen
        outputs.append((seen * weight[..., None]).sum(-2))
    return torch.stack(outputs, dim=1), h


def decay_and_drive(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, *, rule: str
) -> tuple[Tensor, Tensor]:
    """Return the exponent of the decay, dt A, and Bbar u, both `(..., group, state, channel)`.

    For `centred`, those of half a step.
    """
    dt = dt / 2 if rule == "centred" else dt
    z = dt[..., None, :] * A
    drive = (u * dt)[..., None, :] * B[..., None]
    if rule == "zoh":
        # A^-1 (exp(dt A) - 1) = dt phi(dt A), which has no division by A.
        drive = drive * phi(z)
    return z, drive


def phi(z: Tensor) -> Tensor:
    """Return (exp(z) - 1) / z, exact and differentiable as z goes to zero."""
    small = z.abs() < SMALL
    inside = torch.where(small, z, 0.0)
    series = torch.full_like(z, PHI_SERIES[0])
    for coefficient in PHI_SERIES[1:]:
        series = series * inside + coefficient
    outside = torch.where(small, 1.0, z)
    return torch.where(small, series, torch.expm1(outside) / outside)


def chunked_recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, h: State | None = None, *,
    rule: str,
) -> tuple[Lines, State]:  # fmt: skip
    """Compute what `plain_recurrence` does in few, large operations, as GPUs want them.

    A line is cut into chunks. All chunks start from rest at once; then the state at each chunk's
    end is carried into the chunks after it, and its contribution C_t . exp(A sum dt) h is added.
    The number of operations in sequence is `CHUNK` plus the number of chunks, not the length.

    Source:
        The split into a chunk's own part and the part carried in is that of Dao and Gu,
        "Transformers are SSMs", arXiv:2405.21060, section 6, here with a decay per channel and
        state.
    """
    return _piece_by_piece(partial(_span, rule=rule), CHUNK * SPAN, u, dt, A, B, C, h)


def _span(
    h: State, A: StateMatrix, u: Lines, dt: Lines, B: LineWeights, C: LineWeights, *, rule: str
) -> tuple[Lines, State]:
    length = u.shape[1]
    size = min(CHUNK, length)
    # A step of zero neither decays nor drives, so padding leaves the state as it is.
    u, dt, B, C = (_chunks(x, size) for x in (u, dt, B, C))
    z, drive = decay_and_drive(u, dt, A, B, rule=rule)
    decay, centred = torch.exp(z), rule == "centred"

    local, own = torch.zeros_like(drive[:, :, 0]), []
    for a, x in zip(decay.unbind(2), drive.unbind(2), strict=True):
        seen = a * local + x
        local = a * (seen + x) if centred else seen
        own.append(seen)

    # The decay from a chunk's start to where each output is taken, and to the chunk's end.
    exponent = torch.cumsum(z, dim=2)
    to_end = torch.exp(exponent[:, :, -1] * (2 if centred else 1))
    since_start = torch.exp(2 * exponent - z if centred else exponent)
    carried = []
    for i in range(u.shape[1]):
        carried.append(h)
        h = to_end[:, i] * h + local[:, i]
    states = torch.stack(own, dim=2) + since_start * torch.stack(carried, dim=1)[:, :, None]
    y = (states * C[..., None]).sum(-2)
    return y.flatten(1, 2)[:, :length], h


def _chunks(x: Tensor, size: int) -> Tensor:
    """Cut (line, length, ...) into (line, chunk, size, ...), filled up with zeros."""
    missing = -x.shape[1] % size
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing)).unflatten(1, (-1, size))


Recurrence = Callable[..., tuple[Lines, State | None]]
"""Runs a state space along lines: called as `mno.scan.plain.plain_recurrence` is."""


def scan_by_lines(scan: ScanArguments, recurrence: Recurrence) -> tuple[Inputs, Carried | None]:
    """Compute a scan with a float32 state, or a float64 one where an input is float64.

    Directions of equal lines run together: all where a state is given, which is then handed on.
    """
    dtype = torch.float64 if scan.needs_float64 else torch.float32
    u, A, B, C = (x.to(dtype) for x in (scan.u, scan.A, scan.B, scan.C))
    dt = step_lengths(scan, dtype)
    each = u.expand(-1, -1, A.shape[0], -1)
    state = None if scan.initial is None else scan.initial.to(dtype)
    parts: list[Tensor] = [each] * A.shape[0]
    lengths = [direction.line for direction in scan.path.directions]
    for line in sorted(set(lengths)) if each.numel() else ():
        groups = [k for k, length in enumerate(lengths) if length == line]
        visits = visited_points(scan.path, u.shape[1], u.device)[:, groups]
        visits = visits.transpose(1, 2)[..., None]
        walked = [along_walks(x[:, :, groups], visits) for x in (each, dt, B, C)]
        lines = [x.unflatten(1, (-1, line)).flatten(0, 1) for x in walked]
        along, end = recurrence(*lines[:2], A[groups], *lines[2:], state, rule=scan.discretization)
        state = None if state is None else end
        along = along.unflatten(0, (u.shape[0], -1)).flatten(1, 2)
        placed = along_walks(along, torch.argsort(visits, dim=1))
        for i, group in enumerate(groups):
            parts[group] = placed[:, :, i]
    y = torch.stack(parts, dim=2) if each.numel() else torch.zeros_like(each)
    y = y if scan.D is None else y + scan.D.to(dtype) * each
    y = y.sum(2, keepdim=True) if scan.shared else y
    return y.to(scan.u.dtype), state


def step_lengths(scan: ScanArguments, dtype: torch.dtype) -> Float[Tensor, "batch point group c"]:
    """Return the steps dt = scale * softplus(delta @ dt_weight + bias), `(batch, point, K, c)`."""
    raw = scan.delta.to(dtype)
    if scan.dt_weight is not None:
        raw = torch.einsum("bpkr,krc->bpkc", raw, scan.dt_weight.to(dtype))
    raw = raw if scan.bias is None else raw + scan.bias.to(dtype)
    return scan.path.scaled(F.softplus(raw) if scan.softplus else raw)


def visited_points(path: ScanPath, num_points: int, device: torch.device | None = None) -> Tensor:
    """List the points as each direction visits them, int64, `(1 or batch, K, points)`."""
    if path.order is None:
        rows = [d.walk(num_points, device) for d in path.directions]
        return torch.stack(rows)[None]
    rows = [
        order.flip(-1) if direction.reverse else order
        for direction, order in zip(path.directions, path.order.unbind(1), strict=True)
    ]
    return torch.stack(rows, dim=1).to(device, torch.int64)


def along_walks(x: Tensor, visits: Tensor) -> Tensor:
    """Return `(batch, point, K, any)` in the order of visits, `(1 or batch, step, K, 1)`."""
    return x.gather(1, visits.expand(x.shape[0], -1, -1, x.shape[-1]))
