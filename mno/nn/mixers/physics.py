"""The physics mixers: Transolver's attention among slices of the points."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mno.nn.mixers.attention import CrossMixer, Quadrature, SelfMixer, check_sizes, merge, weigh

TEMPERATURES = (0.1, 5.0)
"""Range to which the temperature of a head is clamped, as in the published code."""

EMPTY = 1e-12
"""Added to the volume of a slice, so that one without points has a token of zeros, not 0/0."""


class PhysicsMixer(SelfMixer):
    """Mix points by attention among slices: soft groups of points in a like physical state.

    Each head assigns every point to M slices, and with cells of volume w

        s_im = softmax over m of (slice_proj(assign_proj(x_i)) / temperature)_m
        t_m  = sum_i w_i s_im value_proj(x_i) / sum_i w_i s_im
        y_i  = sum_m s_im u_m,    u = softmax attention among the tokens t;

    `out_proj` follows. The cost is linear in the number of points. This is the form for irregular
    meshes, with projections point by point, which serves grids as well.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each slices and attends by itself.
        slices: Slices of a head, M.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Wu et al., "Transolver", arXiv:2402.02366, section 3; the weights w are ours.
    """

    def __init__(self, d_model: int, *, heads: int = 4, slices: int = 32) -> None:
        super().__init__(d_model, heads)
        check_sizes(slices=slices)
        d_head = d_model // heads
        self.assign_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)
        self.slice_proj = nn.Linear(d_head, slices)
        nn.init.orthogonal_(self.slice_proj.weight)
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), 0.5))
        self.q_proj = nn.Linear(d_head, d_head, bias=False)
        self.k_proj = nn.Linear(d_head, d_head, bias=False)
        self.v_proj = nn.Linear(d_head, d_head, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        slices = self._slices(self.assign_proj(x))
        return self._read(slices, self._tokens(source, slices, quadrature))

    def _slices(self, assigned: Tensor) -> Tensor:
        logits = self.slice_proj(self._split(assigned))
        return (logits / self.temperature.clamp(*TEMPERATURES)).softmax(-1)

    def _tokens(self, source: Tensor, slices: Tensor, quadrature: Quadrature) -> Tensor:
        weights = weigh(slices, quadrature)
        volumes = weights.sum(-2).unsqueeze(-1) + EMPTY
        return weights.mT @ self._split(self.value_proj(source)) / volumes

    def _read(self, slices: Tensor, tokens: Tensor) -> Tensor:
        q, k, v = self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)
        return self.out_proj(merge(slices @ F.scaled_dot_product_attention(q, k, v)))


class PhysicsCrossMixer(CrossMixer, PhysicsMixer):
    """Mix a second input into points: slices are filled by the source and read by the points.

    The source is assigned to the slices by a projection of its own, `source_proj`, in place of
    `assign_proj`. Arguments, equations and source are those of `PhysicsMixer`.
    """

    def __init__(self, d_model: int, *, heads: int = 4, slices: int = 32) -> None:
        super().__init__(d_model, heads=heads, slices=slices)
        self.source_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        tokens = self._tokens(source, self._slices(self.source_proj(source)), quadrature)
        return self._read(self._slices(self.assign_proj(x)), tokens)
