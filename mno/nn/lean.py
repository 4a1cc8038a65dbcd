"""The lean form of an operator: what an answer needs, and nothing else.

Weights are prepared once: projections of the same features stand in one matrix, what the scan
derives of its parameters is derived, and the path through a grid is laid once. There is no dropout,
no graph, and results overwrite what nobody needs any more. The function is that of the operator to
rounding; a batch that the compiled scan does not take goes the operator's own way.
"""

import copy
import math
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.along_time import TimeBlock
from mno.nn.backbones.plain import Block
from mno.nn.mixers.attention import SoftmaxMixer, merge
from mno.nn.mixers.mamba import MambaMixer
from mno.nn.operator import Operator
from mno.scan import cpu
from mno.scan.arguments import ScanArguments, ScanPath
from mno.scan.backends import is_direct
from mno.scan.paths import Domain, check_num_points, scan_path


def lean(operator: Operator) -> Operator:
    """Return the lean form of an operator, with weights of its own.

    It takes no part in training: no graph is kept, later changes of the operator's weights unseen.
    """
    copied = copy.deepcopy(operator).eval().requires_grad_(False)
    _replace(copied)
    return copied


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        _replace(child)
        if (form := _FORMS.get(type(child))) is not None:
            setattr(module, name, form(child))


class LeanBlock(nn.Module):
    """A `Block` without dropout, in fewer calls."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.mixer = block.mixer
        norms = (block.mixer_norm, block.feed_forward_norm)
        self.norms = [(n.normalized_shape, n.weight, n.bias, n.eps) for n in norms]
        layers: Any = block.feed_forward
        self.inward, self.outward = ((layers[i].weight, layers[i].bias) for i in (0, 2))

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Apply the layer to features of shape `(batch, points, width)`."""
        mixed, fed = self.norms
        x = x + self.mixer(F.layer_norm(x, *mixed), domain)
        hidden = F.gelu(F.linear(F.layer_norm(x, *fed), *self.inward))
        return x.add_(F.linear(hidden, *self.outward))


class LeanSoftmax(nn.Module):
    """A `SoftmaxMixer` with one projection to queries, keys and values."""

    def __init__(self, mixer: SoftmaxMixer) -> None:
        super().__init__()
        self.mixer = mixer
        parts = (mixer.q_proj, mixer.k_proj, mixer.v_proj)
        self.projection = torch.cat([part.weight for part in parts])

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Mix features `(batch, points, d_model)`."""
        chosen = isinstance(domain, Points) and domain.sources not in (None, x.shape[1])
        if chosen or not _has_equal_cells(domain):
            return self.mixer(x, domain)
        check_num_points(domain, x.shape[1])
        heads = F.linear(x, self.projection).unflatten(-1, (3, self.mixer.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        return self.mixer.out_proj(merge(F.scaled_dot_product_attention(q, k, v)))


class LeanMamba(nn.Module):
    """A `MambaMixer` that calls the compiled scan directly, with its parameters prepared."""

    def __init__(self, mixer: MambaMixer) -> None:
        super().__init__()
        self.mixer = mixer
        shape = (mixer.directions, mixer.d_inner)
        self.weights = mixer.x_proj_weight.flatten(0, 1)
        self.parts = (mixer.dt_rank, mixer.d_state, mixer.d_state)
        self.A = -torch.exp(mixer.A_logs.float()).unflatten(0, shape).transpose(1, 2).contiguous()
        self.D = mixer.Ds.unflatten(0, shape)
        self.step_weight = mixer.dt_projs_weight.transpose(1, 2).contiguous()

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Mix features `(batch, points, d_model)`, points of a grid in row-major order."""
        mixer = self.mixer
        known = mixer.discretization != "trapezoidal" and is_direct((x,))
        if domain is None or not known:
            return mixer(x, domain)
        from mno.scan.cpu import launch  # loads numba

        path = _path(mixer.path, domain, x.shape[1])
        inner, gate = F.silu(mixer.in_proj(x), inplace=True).chunk(2, dim=-1)
        weights = F.linear(inner, self.weights).unflatten(-1, (mixer.directions, -1))
        step, b, c = weights.split(self.parts, dim=-1)
        scan = ScanArguments(
            inner[:, :, None], step, self.A, b, c, self.D, mixer.dt_projs_bias, self.step_weight,
            path, discretization=mixer.discretization,
        )  # fmt: skip
        y, *_ = launch.arranged_forward(scan.tensors, scan.how, save=False)
        return mixer.out_proj(mixer.out_norm(y[:, :, 0]).mul_(gate))


class LeanTimeBlock(nn.Module):
    """A `TimeBlock` in one pass of a compiled kernel."""

    def __init__(self, block: TimeBlock) -> None:
        super().__init__()
        self.block = block
        self.layer = None
        if cpu.unavailable() is not None:
            return
        from mno.scan.cpu.time_layer import TimeLayer  # loads numba

        mixer, norm, inward = block.mixer, block.norm, block.mixer.in_proj.weight
        A = -torch.exp(mixer.A_logs.float()).T
        self.layer = TimeLayer(
            inward=(inward * norm.weight).T.unflatten(1, (2, -1)),
            inward_bias=(inward @ norm.bias).unflatten(0, (2, -1)),
            window=mixer.window.T,
            window_bias=mixer.window_bias,
            weights=mixer.x_proj_weight[0].T,
            step=mixer.dt_projs_weight[0].T,
            step_bias=mixer.dt_projs_bias[0],
            rates=A * math.log2(math.e),
            inverse=1 / A,
            direct=mixer.Ds,
            scale=mixer.out_norm.weight,
            offset=mixer.out_norm.bias,
            outward=mixer.out_proj.weight.T,
        )

    def forward(self, x: Tensor, intervals: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the layer to `(lines, frames, width)`."""
        if self.layer is None or not is_direct((x, intervals, state)):
            return self.block(x, intervals, state)
        return self.layer(x, intervals, state)


def _has_equal_cells(domain: Domain) -> bool:
    return not isinstance(domain, Grid) or not any(isinstance(h, tuple) for h in domain.spacing)


def _path(name: str, domain: Grid | Points | tuple[int, ...], num_points: int) -> ScanPath:
    if not isinstance(domain, Points):
        return _path_of_grid(name, domain, num_points)
    laid = _paths_of_points.setdefault(domain, {})
    if (path := laid.get(name)) is None:
        path = laid[name] = scan_path(name, domain, num_points)
    return path


@lru_cache(maxsize=64)
def _path_of_grid(name: str, domain: Grid | tuple[int, ...], num_points: int) -> ScanPath:
    return scan_path(name, domain, num_points)


# All layers, and all frames of a stream, are given the same points.
_paths_of_points: WeakKeyDictionary[Points, dict[str, ScanPath]] = WeakKeyDictionary()

_FORMS: dict[type, Any] = {
    Block: LeanBlock,
    SoftmaxMixer: LeanSoftmax,
    MambaMixer: LeanMamba,
    TimeBlock: LeanTimeBlock,
}
"""The lean forms, by what they stand for."""
