"""The plain pre-norm stack: lifting, blocks of mixer and feed-forward network, projection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mno.data.batch import Batch
from mno.grid import Grid
from mno.nn.config import ModelConfig
from mno.scan.paths import Place


class Block(nn.Module):
    """One layer: x + mixer(norm(x)), then x + feed_forward(norm(x)).

    Args:
        width: Features per point.
        feed_forward: Hidden features of the feed-forward network per feature.
        mixer: The layer in which points exchange information, called as `mixer(x, place)`.
    """

    def __init__(self, width: int, feed_forward: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = _perceptron(width, feed_forward * width, width)

    def forward(
        self, x: Float[Tensor, "batch point width"], place: Place
    ) -> Float[Tensor, "batch point width"]:
        """Apply the layer to features of shape `(batch, points, width)`."""
        x = x + self.mixer(self.mixer_norm(x), place)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Stack(nn.Module):
    """An operator that takes and returns a `Batch` of normalised fields on one grid.

    Each point is given its coordinates, relative to the domain, next to the input fields. Any grid
    that covers the domain may be given, whatever the model was trained on.

    Args:
        config: Size of the operator.
        mixer: Makes the mixer of a layer, given its number.
        inputs: Names of the fields it is given, in the order of the weights.
        outputs: Names of the fields it predicts.
        dims: Axes of the grids it will be given.
    """

    def __init__(
        self,
        config: ModelConfig,
        mixer: Callable[[int], nn.Module],
        *,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        dims: int,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.dims = dims
        self.scale_delta = config.scale_delta
        width = config.width
        self.lifting = _perceptron(len(inputs) + dims, 2 * width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.feed_forward, mixer(i)) for i in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = _perceptron(width, 2 * width, len(outputs))

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields on the grid of the input fields.

        Raises:
            ValueError: An input field is missing, or the grid has another number of axes.
        """
        missing = [name for name in self.inputs if name not in batch.fields]
        if missing:
            raise ValueError(
                f"the batch holds {sorted(batch.fields)}; this operator also needs {missing}"
            )
        grid = batch.grid
        if len(grid.shape) != self.dims:
            raise ValueError(
                f"grid of shape {grid.shape} has {len(grid.shape)} axes, but this operator was "
                f"built for {self.dims}; build it with dims={len(grid.shape)}"
            )
        fields = torch.stack([batch.fields[name] for name in self.inputs], dim=-1).flatten(1, -2)
        places = _coordinates(grid, fields).expand(len(fields), -1, -1)
        x = self.lifting(torch.cat([fields, places], dim=-1))
        for block in self.blocks:
            x = block(x, grid if self.scale_delta else grid.shape)
        out = self.projection(self.norm(x)).unflatten(1, grid.shape)
        return Batch(dict(zip(self.outputs, out.unbind(-1), strict=True)), grid)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _coordinates(grid: Grid, like: Tensor) -> Float[Tensor, "point axis"]:
    """Return the cell centres relative to the domain, in row-major order."""
    axes = [like.new_tensor(grid.centres(axis)) for axis in range(len(grid.shape))]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
