"""The exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class AveragedWeights(nn.Module):
    """An operator whose weights are a moving average of those of another, in training.

    After step `n` each weight becomes `d · average + (1 − d) · weight` with
    `d = min(decay, (1 + n) / (10 + n))`: at first little stays, so that the average forgets the
    weights that training began with. The number of steps is part of the state, as in TensorFlow's
    `ExponentialMovingAverage`, from which the formula is.

    Args:
        operator: The operator that is trained; it is copied.
        decay: Share of the average that stays at a step.

    Source:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging",
        doi:10.1137/0330046.
    """

    def __init__(self, operator: nn.Module, decay: float) -> None:
        super().__init__()
        self.operator = copy.deepcopy(operator).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, operator: nn.Module) -> None:
        """Take a step of the operator into the average; buffers are copied as they are."""
        steps = cast(Tensor, self.steps).add_(1).item()
        decay = min(self.decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.operator.parameters(), operator.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for kept, buffer in zip(self.operator.buffers(), operator.buffers(), strict=True):
            kept.copy_(buffer)
