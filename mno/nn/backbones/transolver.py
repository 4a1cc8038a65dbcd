"""Transolver: pre-norm layers of physics attention."""

from __future__ import annotations

from torch import nn

from mno.nn.backbones.plain import PlainOperator
from mno.nn.config import ModelConfig
from mno.nn.operator import Mixers, Signature

WEIGHT_STD = 0.02
"""Standard deviation of fresh weights."""


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
