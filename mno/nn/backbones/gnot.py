"""GNOT: query points take up several input functions, by cross mixing and gated experts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.batch import Batch
from mno.nn.config import ModelConfig
from mno.nn.operator import Features, Mixers, Operator, Places, Signature, perceptron
from mno.scan.paths import Domain

GateWeights = Float[Tensor, "batch point expert"] | None
"""What each expert counts at each point; sums to one; `None` where there is but one."""


class Gate(nn.Module):
    """A soft division of the domain: softmax(perceptron(coordinates)), one share per expert.

    With one expert there is nothing to divide, and the gate has no weights.
    """

    def __init__(self, dims: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.network = perceptron(dims, hidden, experts, layers=2) if experts > 1 else None

    def forward(self, coordinates: Places) -> GateWeights:
        """Return each expert's share at each point; shares sum to one."""
        return None if self.network is None else self.network(coordinates).softmax(-1)


class Experts(nn.Module):
    """Feed-forward networks, averaged at each point: sum_e share_e network_e(x)."""

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(perceptron(width, hidden, width) for _ in range(experts))

    def forward(self, x: Features, gates: GateWeights) -> Features:
        """Apply the networks to features of shape `(batch, points, width)`."""
        if gates is None:
            return self.networks[0](x)
        answers = torch.stack([network(x) for network in self.networks], dim=-1)
        return (answers * gates[..., None, :]).sum(-1)


class ResidualPerceptron(nn.Module):
    """h = gelu(first(x)), then h + gelu(layer(h)) for each layer, then last(h)."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Float[Tensor, "*point input"]) -> Float[Tensor, "*point output"]:
        """Apply the perceptron to each point by itself."""
        x = F.gelu(self.first(x))
        for layer in self.layers:
            x = x + F.gelu(layer(x))
        return self.last(x)


class GNOTBlock(nn.Module):
    """One layer: query points take up the branches, then mix among each other.

    With branches y_b, experts E weighed by a gate on the coordinates, and norms N, all different:

        x <- x + mean over b of cross_b(N(x), N_b(y_b)),    x <- x + N(E_1(x)),
        x <- x + mixer(N(x)),                               x <- x + N(E_2(x)).
    """

    def __init__(
        self, config: ModelConfig, mixers: Mixers, layer: int, branches: int, dims: int
    ) -> None:
        super().__init__()
        width, hidden = config.width, config.feed_forward * config.width
        self.gate = Gate(dims, hidden, config.experts)
        self.cross_norm = nn.LayerNorm(width)
        self.branch_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(branches))
        self.cross_mixers = nn.ModuleList(mixers.cross_mixer(layer) for _ in range(branches))
        self.cross_experts = Experts(width, hidden, config.experts)
        self.cross_experts_norm = nn.LayerNorm(width)
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = mixers.self_mixer(layer)
        self.experts = Experts(width, hidden, config.experts)
        self.experts_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Features, branches: list[Tensor], coordinates: Places, domain: Domain
    ) -> Features:
        """Apply the layer."""
        gates = self.gate(coordinates)
        query = self.cross_norm(x)
        ways = zip(self.cross_mixers, self.branch_norms, branches, strict=True)
        taken = [mixer(query, norm(branch), domain, domain) for mixer, norm, branch in ways]
        x = x + self.dropout(torch.stack(taken).mean(0))
        x = x + self.cross_experts_norm(self.cross_experts(x, gates))
        x = x + self.dropout(self.mixer(self.mixer_norm(x), domain))
        return x + self.experts_norm(self.experts(x, gates))


class GNOTOperator(Operator):
    """GNOT, with any mixer in the place of its heterogeneous normalised linear attention.

    The trunk, a perceptron of coordinates and scalars, makes the features of the query points;
    branches, one perceptron for each input field, of its values and coordinates, make those of the
    input functions. Layers of `GNOTBlock` mix them, and a perceptron makes the outputs, asked for
    at the points of the inputs. At the paper's size: width 96, 4 layers, 8 heads, `feed_forward` 2,
    `perceptron_layers` 4, one expert.

    It differs from the public code in that each branch has a cross mixer of its own, whereas there
    branches share the queries' projection and the output's (with those tied, ours is the paper's
    attention: queries + mean over branches, of which the code takes the sum); in the weights of the
    quadrature; and in that no gate is built for a single expert, where its softmax is one.

    Source:
        Hao et al., "GNOT: A General Neural Operator Transformer for Operator Learning",
        arXiv:2302.14376, section 3; code at github.com/HaoZhongkai/GNOT.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        width, layers = config.width, config.perceptron_layers
        self.trunk = ResidualPerceptron(self.dims + len(self.scalars), width, width, layers)
        self.branches = nn.ModuleList(
            ResidualPerceptron(size + self.dims, width, width, layers) for size in self.input_sizes
        )
        self.blocks = nn.ModuleList(
            GNOTBlock(config, mixers, i, len(self.inputs), self.dims) for i in range(config.layers)
        )
        self.projection = ResidualPerceptron(width, width, self.num_outputs, layers)

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are."""
        fields = self._features(batch).split(self.input_sizes, -1)
        places, domain = self._coordinates(batch), self._mixing_domain(batch.place)
        scalars = self._scalars(batch)[:, None].expand(-1, places.shape[1], -1)
        x = self.trunk(torch.cat([places, scalars], dim=-1))
        functions = [
            branch(torch.cat([places, field], dim=-1))
            for branch, field in zip(self.branches, fields, strict=True)
        ]
        for block in self.blocks:
            x = block(x, functions, places, domain)
        return self._answer(self.projection(x), batch.place)
