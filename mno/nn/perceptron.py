"""The multilayer perceptron, applied to each point by itself."""

from __future__ import annotations

from torch import nn


def perceptron(inputs: int, hidden: int, outputs: int, layers: int = 1) -> nn.Sequential:
    """Return linear layers with GELU between them.

    Args:
        inputs: Features given.
        hidden: Features of the hidden layers.
        outputs: Features returned.
        layers: Hidden layers.
    """
    widths = [inputs, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        parts += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))
