"""The kernel view of a mixer: its scans written as the integral operator that they are.

Unrolled, a scan along a line is a causal kernel, here discrete, with t and s places on the line:

    y_t = sum_{s <= t} kappa(t, s) u_s
    kappa(t, s) = C_t . exp(A (dt_{s+1} + ... + dt_t)) Bbar_s   (+ D at s = t)

With the centred rule half of Bbar_t stands at s = t. The kernel depends on the input, through the
steps dt and the weights B and C, and it says how much the output at t listened to the input at s.
Places are numbered here as the points of the grid are, not by their position on the path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.mixers.scanning import ScanCrossMixer, ScanMixer
from mno.nn.operator import Operator
from mno.scan.arguments import ScanArguments
from mno.scan.paths import Domain
from mno.scan.plain import decay_and_drive, step_lengths, visited_points
from mno.scan.ssd import HeadScan
from mno.scan.trapezoidal import end_weights

Kernels = Float[Tensor, "batch direction target point channel"]
Kernel = Float[Tensor, "batch target point channel"]
PerPoint = Float[Tensor, "batch point channel"]
OfPoints = Float[Tensor, "batch *axis"]
Order = Int[Tensor, "samples point 1"]
Targets = Int[Tensor, " target"]


@dataclass(frozen=True, eq=False)
class EffectiveKernel:
    """What the outputs of a scan at some points, its targets, made of the inputs at all points.

    The kernel of a direction is zero where it had not come by before it reached the target.
    """

    directions: Kernels
    targets: Targets  # their numbers as points

    @property
    def total(self) -> Kernel:
        """The sum of all directions, `(batch, targets, points, channel)`."""
        return self.directions.sum(dim=1)

    def apply(self, u: PerPoint) -> Float[Tensor, "batch target channel"]:
        """Apply the sum of all directions to an input, such as a mixer's `prepare` gives."""
        return torch.einsum("btpc,bpc->btc", self.total, u.to(self.directions.dtype))


@torch.no_grad()
def effective_kernel(
    mixer: ScanMixer,
    x: Tensor,
    domain: Domain,
    *,
    source: Tensor | None = None,
    points: Sequence[int] | Tensor | None = None,
) -> EffectiveKernel:
    """Return the kernel that a mixer's scans amount to on its inputs.

    It is that of the scans alone: the projections, the normalisation and the gate around them act
    on each point by itself. Channels are those inside the mixer, `expand * d_model`. Targets are
    the numbers of `points` in row-major order, or all points; memory grows with targets times
    points times channels. There is no graph for gradients; numbers are float64 where the input is,
    else float32.

    Raises:
        ValueError: The input or the domain does not fit the mixer, a source is missing or is one
            too many, or a target is not among the points.

    Source:
        The kernel form of a selective scan is that of Dao and Gu, "Transformers are SSMs",
        arXiv:2405.21060, section 3 (semiseparable matrices).
    """
    if isinstance(mixer, ScanCrossMixer) != (source is not None):
        raise ValueError(
            f"source of a {type(mixer).__name__}: only a cross mixer takes a source, and it has a "
            "kernel only with its second input; give it as source, or leave it out"
        )
    scan, _ = mixer.prepare(x, domain, source)
    scan = scan.by_channel() if isinstance(scan, HeadScan) else scan
    num_points, device = scan.u.shape[1], scan.u.device
    targets = torch.as_tensor(range(num_points) if points is None else points, device=device)
    if targets.ndim != 1 or not ((targets >= 0) & (targets < num_points)).all():
        raise ValueError(
            f"points={targets.tolist()} as targets of a kernel; expected a list of numbers of "
            f"points, from 0 to {num_points - 1}"
        )
    dt = step_lengths(scan, torch.float64)  # so that sums of many can be subtracted
    trapezoidal = scan.discretization == "trapezoidal"
    at_end, at_next = end_weights(scan, dt) if trapezoidal else (dt, torch.zeros_like(dt))
    visits = visited_points(scan.path, num_points, device)
    kernels = []
    for k in range(len(scan.path.directions)):
        steps = dt[:, :, k], at_end[:, :, k], at_next[:, :, k]
        kernels.append(_kernel(scan, k, steps, visits[:, k, :, None], targets))
    dtype = torch.promote_types(scan.u.dtype, torch.float32)
    return EffectiveKernel(torch.stack(kernels, dim=1).to(dtype), targets)


@torch.no_grad()
def listened(operator: Operator, batch: Batch, layer: int, point: Sequence[int]) -> OfPoints:
    """Return how much a layer's scans listened to each point of a grid for what they say at one.

    It is the mean over channels of the kernel's size, |sum of all directions|. Where a mixer is
    given tokens for patches of points, each point has what its token has, and the target is the
    token that `point`, of an index per axis, lies in.

    Raises:
        ValueError: The batch is not on a grid, or the layer does not scan.
    """
    scans = {k: m for k, m in _mixers(operator).items() if isinstance(m, ScanMixer)}
    if layer not in scans or isinstance(batch.place, Points):
        where = "points" if isinstance(batch.place, Points) else "a grid"
        raise ValueError(
            f"layer={layer} on {where}: what scans listened to is drawn on a grid, for the layers "
            f"{sorted(scans)}; choose one of them, and a grid"
        )
    given: list[tuple[Tensor, Any]] = []
    hook = scans[layer].register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    try:
        operator(batch)
    finally:
        hook.remove()
    (x, place), shape = given[0], batch.place.shape
    tokens = place.shape if isinstance(place, Grid) else place
    lies_in = [
        torch.arange(n, device=x.device) * count // n
        for n, count in zip(shape, tokens, strict=True)
    ]
    target = 0
    for index, of_points, count in zip(point, lies_in, tokens, strict=True):
        target = target * count + int(of_points[index])
    sizes = effective_kernel(scans[layer], x, place, points=[target]).total[:, 0].abs().mean(-1)
    sizes = sizes.unflatten(1, tokens)
    for axis, of_points in enumerate(lies_in, 1):
        sizes = sizes.index_select(axis, of_points)
    return sizes


def _mixers(operator: Operator) -> dict[int, torch.nn.Module]:
    """Return the first self mixer of each layer."""
    found: dict[int, torch.nn.Module] = {}
    for layer, name in operator.mixers():
        mixer = operator.get_submodule(name)
        if not isinstance(mixer, ScanCrossMixer):
            found.setdefault(layer, mixer)
    return found


def _kernel(
    scan: ScanArguments,
    k: int,
    steps: tuple[PerPoint, PerPoint, PerPoint],
    visits: Order,
    targets: Targets,
) -> Kernel:
    """Return the kernel of direction k, state by state, so that no state needs memory of its own.

    Of each step it has its length, for how much of it its own input is heard, and for how much of
    the next step. It visits points in the order `visits`.
    """
    dt, at_end, at_next = steps
    line = scan.path.directions[k].line
    walked = torch.take_along_dim(dt, visits, dim=1)
    since_start = walked.unflatten(1, (-1, line)).cumsum(2).flatten(1, 2)
    position = torch.argsort(visits, dim=1)
    reached = torch.take_along_dim(since_start, position, dim=1)
    centred = scan.discretization == "centred"
    if centred:  # from centre to centre
        reached = reached - dt / 2

    at, other = position[:, targets, None], position[:, None]
    heard = (other <= at) & (other // line == at // line)
    between = (reached[:, targets, None] - reached[:, None]).masked_fill(~heard, 0.0)

    A, B, C = scan.A[k].double(), scan.B[:, :, k].double(), scan.C[:, targets, k].double()
    kernel = torch.zeros_like(between)
    rule_of_drive = "zoh" if scan.discretization == "zoh" else "simplified"
    heard_for = at_end + at_next
    for n in range(len(A)):
        _, drive = decay_and_drive(
            torch.ones_like(dt), heard_for, A[n : n + 1], B[..., n : n + 1], rule=rule_of_drive
        )
        kernel += C[:, :, None, n : n + 1] * torch.exp(A[n] * between) * drive[:, None, :, 0]
    kernel = kernel.masked_fill(~heard, 0.0)
    itself = (slice(None), torch.arange(len(targets)), targets)
    if centred:
        kernel[itself] *= 0.5
    own = (C * B[:, targets]).sum(-1, keepdim=True)
    kernel[itself] -= own * at_next[:, targets]
    if scan.D is not None:
        kernel[itself] += scan.D[k].double()
    return kernel
