"""GNOT's feed-forward networks, shared out among the points by a gate on where they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mno.nn.perceptron import perceptron

Shares = Float[Tensor, "batch point expert"] | None
"""What each expert counts at each point; `None` where there is but one."""


class Gate(nn.Module):
    """A soft division of the domain: softmax(perceptron(coordinates)), one share per expert.

    With one expert there is nothing to divide, and the gate has no weights.

    Args:
        dims: Coordinates of a point.
        hidden: Hidden features of its two hidden layers.
        experts: Parts that the domain is divided into.
    """

    def __init__(self, dims: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.network = perceptron(dims, hidden, experts, layers=2) if experts > 1 else None

    def forward(self, coordinates: Float[Tensor, "batch point axis"]) -> Shares:
        """Return each expert's share at each point; shares sum to one."""
        return None if self.network is None else self.network(coordinates).softmax(-1)


class Experts(nn.Module):
    """Feed-forward networks whose answers are averaged at each point: sum_e share_e network_e(x).

    Args:
        width: Features per point.
        hidden: Hidden features of each network.
        experts: Networks.
    """

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(perceptron(width, hidden, width) for _ in range(experts))

    def forward(
        self, x: Float[Tensor, "batch point width"], shares: Shares
    ) -> Float[Tensor, "batch point width"]:
        """Apply the networks to features of shape `(batch, points, width)`."""
        if shares is None:
            return self.networks[0](x)
        answers = torch.stack([network(x) for network in self.networks], dim=-1)
        return (answers * shares[..., None, :]).sum(-1)
