"""The U-Net: convolutions on grids that coarsen and refine again, with connections across."""

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from mno.core.batch import Batch
from mno.nn.config import ModelConfig
from mno.nn.operator import Images, Mixers, Operator, Signature

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
INTERPOLATIONS = {1: "linear", 2: "bilinear", 3: "trilinear"}


class UNetOperator(Operator):
    """A plain U-Net, the baseline of image-to-image networks; grids only, no mixers.

    On each of `levels` grids stand two convolutions over 3 points along each axis, each followed by
    a normalisation of the whole sample and GELU. Downwards, the largest of 2 points along each axis
    makes one, and features double from `width`; upwards, linear interpolation and what was found on
    that grid on the way down, side by side. Coordinates and scalars are inputs of every point.

    Any number of points will do: an odd number n becomes (n + 1) / 2, the last cell standing alone,
    and an axis that has shrunk to one point stays so. Convolutions span cells, not lengths, so the
    answer on another grid than that of training is another function: it is a baseline, not an
    operator. `layers`, `feed_forward` and what concerns mixers have no effect.

    Source:
        Ronneberger et al., "U-Net", arXiv:1505.04597; with padding, a norm and GELU, as is usual
        for PDEs (Gupta and Brandstetter, arXiv:2209.15616).
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        widths = [config.width * 2**level for level in range(config.levels)]
        befores = [self.num_point_inputs, *widths]
        self.down = nn.ModuleList(
            _convolutions(self.dims, before, after, config.dropout)
            for before, after in zip(befores, widths, strict=False)
        )
        self.up = nn.ModuleList(
            _convolutions(self.dims, below + level, level, config.dropout)
            for level, below in zip(widths, widths[1:], strict=False)
        )
        self.projection = CONVOLUTIONS[self.dims](config.width, self.num_outputs, 1)

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are, on a grid."""
        return self._on_image(self._network, batch)

    def _network(self, x: Images) -> Images:
        if forward_ad.unpack_dual(x).tangent is not None:  # norms take this order in memory alone
            x = x.contiguous()
        found = []
        for level, convolutions in enumerate(self.down):
            if level:
                x = POOLS[self.dims](x, 2, ceil_mode=True)
            x = convolutions(x)
            found.append(x)
        for convolutions, skip in zip(reversed(self.up), reversed(found[:-1]), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode=INTERPOLATIONS[self.dims])
            x = convolutions(torch.cat([skip, x], dim=1))
        return self.projection(x)


def _convolutions(dims: int, before: int, after: int, dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for channels in (before, after):
        parts += [CONVOLUTIONS[dims](channels, after, 3, padding=1), nn.GroupNorm(1, after)]
        parts.append(nn.GELU())
    return nn.Sequential(*parts, nn.Dropout(dropout))
