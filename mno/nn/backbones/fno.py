"""The Fourier neural operator of the package `neuraloperator`, as an operator of ours."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.batch import Batch
from mno.nn.config import ModelConfig
from mno.nn.operator import Images, Mixers, Operator, Signature


class FNOOperator(Operator):
    """The FNO, the baseline of neural operators; grids only, no mixers.

    The package's model with its own defaults, `width` hidden channels and `layers` Fourier layers.
    As the package counts, `modes` along an axis are half of them positive and half negative
    frequencies, so that `modes=8` reaches the fourth; a grid too coarse for them uses those it has.
    Coordinates (of cell centres) and scalars are inputs of every point. Frequencies are those of
    the points' numbers: cells are taken to be equal. `feed_forward` and mixers have no effect.

    A Fourier series is periodic, and so is what it learns of a boundary: with `padding=0.25` zeros
    are put around the features, a quarter of the domain on either side, as the package does. On
    Darcy flow that keeps the error on finer grids (see the page on resolution).

    With an odd number of points along an axis other than the last, version 2.0 of the package
    shifts what it computes by one frequency, and so answers another function than on an even
    number. With padding, one cell more is added there; without, such a grid is refused.

    Source:
        Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations",
        arXiv:2010.08895; Kossaifi et al., arXiv:2412.10354 (the package).
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        self.padding = config.padding
        self.fno: Any = _package_fno()(
            n_modes=(config.modes,) * self.dims,
            in_channels=self.num_point_inputs,
            out_channels=self.num_outputs,
            hidden_channels=config.width,
            n_layers=config.layers,
            channel_mlp_dropout=config.dropout,
            positional_embedding=None,  # ours are given as inputs
        )
        self.register_state_dict_post_hook(_only_weights)

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are, on a grid."""
        return self._on_image(self._network, batch)

    def _network(self, x: Images) -> Images:
        """Do what the package's own `forward` does, but for the padding of odd grids."""
        shape = x.shape[2:]
        x = self._pad(self.fno.lifting(x))
        for layer in range(self.fno.n_layers):
            x = self.fno.fno_blocks(x, layer)
        for axis, points in enumerate(shape, start=2):
            x = x.narrow(axis, round(self.padding * points), points)
        return self.fno.projection(x)

    def _pad(self, x: Tensor) -> Tensor:
        shape = x.shape[2:]
        odd = [n % 2 for n in shape[:-1]] + [0]
        if not self.padding:
            if any(odd):
                raise ValueError(
                    f"grid of shape {tuple(shape)}: on an odd number of points along an axis other "
                    "than the last, the FNO of neuraloperator is another function than on an even "
                    "one; choose an even number, or set padding, for example padding=0.25"
                )
            return x
        widths = [round(self.padding * n) for n in shape]
        pairs = [(before, before + more) for before, more in zip(widths, odd, strict=True)]
        return F.pad(x, [n for pair in reversed(pairs) for n in pair])


def _package_fno() -> type[nn.Module]:
    """Import the package when it is needed: it takes seconds, and not everyone has it."""
    try:
        return import_module("neuralop.models").FNO
    except ModuleNotFoundError as error:
        raise ValueError(
            f"backbone='fno' needs the package neuraloperator, and {error.name} is not installed: "
            "pip install 'mno[fno]'"
        ) from None


def _only_weights(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Take out what the package adds to a state dict, the arguments that it was built with."""
    state.pop("_metadata", None)
