"""OFormer: an encoder, a decoder, and steps in time of a latent state."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.batch import Batch
from mno.nn.config import ModelConfig
from mno.nn.operator import Features, Mixers, Operator, Places, Signature
from mno.scan.paths import Domain


class GatedFeedForward(nn.Module):
    """out(gelu(a) * b) with (a, b) = first(x).

    Source:
        Shazeer, arXiv:2002.05202.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*point width"]) -> Float[Tensor, "*point width"]:
        """Apply the network to each point by itself."""
        a, b = self.first(x).chunk(2, dim=-1)
        return self.dropout(self.out(self.dropout(F.gelu(a) * b)))


class EncoderLayer(nn.Module):
    """One layer: x <- n + mixer(n) with n = norm(x), then x <- m + feed_forward(m), m = norm(x)."""

    def __init__(self, config: ModelConfig, mixer: nn.Module) -> None:
        super().__init__()
        width = config.width
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = GatedFeedForward(width, config.feed_forward * width, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Features, domain: Domain) -> Features:
        """Apply the layer to features of shape `(batch, points, width)`."""
        x = self.mixer_norm(x)
        x = self.feed_forward_norm(x + self.dropout(self.mixer(x, domain)))
        return x + self.feed_forward(x)


class FourierFeatures(nn.Module):
    """linear(gelu(sin, cos (2 pi B c))) of coordinates c, the matrix B random and not trained.

    Source:
        Tancik et al., arXiv:2006.10739.
    """

    def __init__(self, dims: int, width: int, spread: float) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", spread * torch.randn(dims, width))
        self.linear = nn.Linear(2 * width, width, bias=False)

    def forward(self, coordinates: Places) -> Features:
        """Return features of places."""
        phases = 2.0 * math.pi * coordinates @ self.frequencies
        return self.linear(F.gelu(torch.cat([phases.sin(), phases.cos()], dim=-1)))


class Propagator(nn.Module):
    """A step of the latent state at each point by itself: z + network(norm(z), coordinates)."""

    def __init__(self, width: int, dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.network = _pointwise(width + dims, width, width, width)

    def forward(self, z: Features, coordinates: Places) -> Features:
        """Return the state one step later."""
        return z + self.network(torch.cat([self.norm(z), coordinates], dim=-1))


class OFormerOperator(Operator):
    """OFormer, with any mixer in the place of its attention.

    Encoder layers work on each point's inputs, coordinates and scalars. In the decoder, Fourier
    features of the same points take up what is encoded, by a cross mixer of the last layer's kind,
    and make a latent state of twice the width. `latent_steps` steps, each with weights of its own,
    lead from one frame of the outputs to the next, and one network reads every frame off the state;
    outputs without frames are read after the first. At the size of the paper's Darcy model: width
    96, 6 layers, 4 heads, `feed_forward` 1, `frequencies` 0.5; the model of Navier-Stokes has 5
    layers, one head and `frequencies` 8.

    It differs from the public code in its attention, which is `GalerkinMixer`: no rotation of
    queries and keys by the coordinates, norms over the features of a head and not over the points,
    heads that divide the width and do not each have all of it; in that encoder and decoder are
    equally wide (Darcy there: 96 and 256; Navier-Stokes: 96 and 192, and 384 in the latent state,
    twice the decoder's width as here); and in that outputs without frames take a step, too.

    Raises:
        ValueError: The outputs differ in their number of frames; or as for `Operator`.

    Source:
        Li, Meidani, Barati Farimani, "Transformer for Partial Differential Equations' Operator
        Learning", arXiv:2205.13671, section 3; code at github.com/BaratiLab/OFormer.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        if len(set(self.outputs.values())) > 1:
            raise ValueError(
                f"outputs={self.outputs} have different numbers of frames; oformer steps from "
                "frame to frame, so give all of them the same, or build an operator for each number"
            )
        width, latent = config.width, 2 * config.width
        self.lifting = nn.Linear(self.num_point_inputs, width, bias=False)
        self.blocks = nn.ModuleList(
            EncoderLayer(config, mixers.self_mixer(i)) for i in range(config.layers)
        )
        self.encoded = nn.Linear(width, width, bias=False)
        self.query_features = FourierFeatures(self.dims, width, config.frequencies)
        self.cross_mixer = mixers.cross_mixer(config.layers - 1)
        self.feed_forward = GatedFeedForward(width, config.feed_forward * width, config.dropout)
        self.expansion = nn.Linear(width, latent)
        self.propagators = nn.ModuleList(
            Propagator(latent, self.dims) for _ in range(config.latent_steps)
        )
        hidden = [width] * config.perceptron_layers
        self.projection = nn.Sequential(
            nn.LayerNorm(latent), _pointwise(latent, *hidden, len(self.outputs), offset=True)
        )

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are."""
        domain, places = self._mixing_domain(batch.place), self._coordinates(batch)
        x = self._through_blocks(self.lifting(self._inputs(batch)), domain)
        z = self.query_features(places)
        z = z + self.cross_mixer(z, self.encoded(x), domain, domain)
        z = self.expansion(z + self.feed_forward(z))
        frames = []
        for _ in range(next(iter(self.outputs.values())) or 1):
            for propagator in self.propagators:
                z = propagator(z, places)
            frames.append(self.projection(z))
        # The frames of a field side by side, field after field.
        return self._answer(torch.stack(frames, dim=-1).flatten(-2), batch.place)


def _pointwise(*widths: int, offset: bool = False) -> nn.Sequential:
    """Return linear layers without offsets, GELU between them; the last may have an offset."""
    parts: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        parts += [nn.Linear(before, after, bias=False), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(*widths[-2:], bias=offset))
