"""The plain pre-norm stack of mixers and feed-forward networks; and Transolver, which is one."""

from torch import nn

from mno.core.batch import Batch
from mno.nn.along_time import OperatorInTime, Stream
from mno.nn.config import ModelConfig
from mno.nn.operator import Features, Mixers, Signature, perceptron
from mno.scan.paths import Domain

WEIGHT_STD = 0.02  # of Transolver's fresh weights


class Block(nn.Module):
    """One layer: x + mixer(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, feed_forward: int, mixer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = perceptron(width, feed_forward * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Features, domain: Domain) -> Features:
        """Apply the layer to features of shape `(batch, points, width)`."""
        x = x + self.dropout(self.mixer(self.mixer_norm(x), domain))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class PlainOperator(OperatorInTime):
    """Blocks between a lifting and a projection, all points alike.

    Each point is given its coordinates and the scalars of its sample next to the input fields. Any
    grid that covers the domain may be given, whatever the model was trained on.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        width = config.width
        self.lifting = perceptron(self.num_point_inputs, 2 * width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.feed_forward, mixers.self_mixer(i), config.dropout)
            for i in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = perceptron(width, 2 * width, self.num_outputs)

    def _predict(self, batch: Batch, stream: Stream | None) -> Batch:
        x, domain = self.lifting(self._inputs(batch)), self._mixing_domain(batch.place)
        x = self._in_turn(x, domain, stream)
        return self._answer(self.projection(self.norm(x)), batch.place)


class TransolverOperator(PlainOperator):
    """Transolver, with any mixer in the place of its physics attention.

    Each layer is x + mixer(norm(x)), then x + feed_forward(norm(x)); a norm and one linear layer
    make the output of the last. Linear layers start from a normal distribution of standard
    deviation 0.02, with offsets of zero; mixers start as mixers do. At the paper's size: width 128,
    8 layers, 8 heads, 64 slices, `feed_forward` 1.

    It differs from the public code in that scalars are inputs of every point, that points of a grid
    are treated like any others (there, a convolution projects them), and that `dropout` also drops
    from what the feed-forward network adds.

    Source:
        Wu et al., "Transolver: A Fast Transformer Solver for PDEs on General Geometries",
        arXiv:2402.02366, sections 3 and D; code at github.com/thuml/Transolver.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        self.projection = nn.Linear(config.width, self.num_outputs)
        of_mixers = {part for mixer in mixers.layer_of for part in mixer.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in of_mixers:
                nn.init.trunc_normal_(module.weight, std=WEIGHT_STD)
                nn.init.zeros_(module.bias)
