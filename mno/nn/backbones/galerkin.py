"""The Galerkin Transformer: an encoder without norms between layers, and a spectral regressor."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.backbones.spectral import SpectralRegressor
from mno.nn.config import ModelConfig
from mno.nn.mixers.choice import Mixers
from mno.nn.operator import Operator, Signature
from mno.scan.paths import Place


class EncoderLayer(nn.Module):
    """One layer: x <- x + mixer(x), then x <- x + second(relu(first(x))).

    Nothing is normalised but what the mixer normalises, so that the scale of the input is kept.

    Args:
        width: Features per point.
        hidden: Hidden features of the feed-forward network.
        mixer: The layer in which points exchange information, called as `mixer(x, place)`.
        dropout: Share of the features that are dropped, while training.
    """

    def __init__(self, width: int, hidden: int, mixer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch point width"], place: Place
    ) -> Float[Tensor, "batch point width"]:
        """Apply the layer to features of shape `(batch, points, width)`."""
        x = x + self.dropout(self.mixer(x, place))
        return x + self.dropout(self.feed_forward(x))


class GalerkinOperator(Operator):
    """The Galerkin Transformer, with any mixer in the place of its attention.

    A linear layer of each point's inputs, coordinates and scalars; encoder layers; and a spectral
    regressor, whose Fourier transforms need a grid with equal cells along each axis. The paper's
    size, as Cheng et al. take it: width 256, 6 layers, 4 heads, `feed_forward` 1, `modes` 12,
    `spectral_layers` 2, `spectral_width` 32.

    It differs from the public code in that coordinates are not appended to the features of each
    head, which know them from the input; in that no convolutions reduce the grid in front of the
    encoder and restore it behind (Cheng et al. have none, either); in that dropout does not apply
    to the products of keys and values; and in that outputs vanish at the walls only where the
    configuration says so. Its pointwise regressor, for outputs that jump, is not built.

    Args are those of `Operator`.

    Source:
        Cao, "Choose a Transformer: Fourier or Galerkin", arXiv:2105.14995, sections 3 and 4; code
        at github.com/scaomath/galerkin-transformer. Cheng et al., arXiv:2410.02113.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        width, hidden = config.width, config.feed_forward * config.width
        self.lifting = nn.Linear(self.num_point_inputs, width)
        self.blocks = nn.ModuleList(
            EncoderLayer(width, hidden, mixers.self_mixer(i), config.dropout)
            for i in range(config.layers)
        )
        self.regressor = SpectralRegressor(
            width,
            config.spectral_width,
            self.num_outputs,
            layers=config.spectral_layers,
            modes=config.modes,
            dims=self.dims,
            dropout=config.dropout,
        )

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are.

        Raises:
            ValueError: The batch does not fit the operator, or is not on a grid with equal cells.
        """
        shape = _shape_of(batch.place)
        x, places = self.lifting(self._inputs(batch)), self._coordinates(batch)
        place = self._mixing_place(batch.place)
        for block in self.blocks:
            x = block(x, place)
        return self._answer(self.regressor(x, places, shape), batch.place)


def _shape_of(place: Grid | Points) -> tuple[int, ...]:
    """Return the shape of a grid with equal cells; refuse what cannot be Fourier-transformed."""
    if isinstance(place, Points):
        given = f"{place.num_points} scattered points"
    elif any(isinstance(h, tuple) for h in place.spacing):
        given = f"a grid of shape {place.shape} with cells of different widths"
    else:
        return place.shape
    raise ValueError(
        f"backbone='galerkin' ends in Fourier transforms, which need a grid with equal cells along "
        f"each axis, and was given {given}; interpolate to such a grid, or use plain, gnot, "
        "oformer or transolver"
    )
