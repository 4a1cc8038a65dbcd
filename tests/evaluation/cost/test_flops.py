"""Operations of one prediction against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from mno.data.normalise import Normaliser
from mno.evaluation.cost import flops_per_prediction, scan_flops
from mno.nn.config import ModelConfig
from mno.nn.mixers.mamba import MambaMixer
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

POINTS = 6


class OneLayer(nn.Module):
    """What stands in the place of an operator: any layer, on the values of one field."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        values = batch.fields["u"]
        self.layer(values)
        return type(batch)({"v": values}, batch.place, {})


def flops_of(layer, values: np.ndarray) -> int:
    description = Description(
        scenario="line",
        inputs={"u": "1"},
        outputs={"v": "1"},
        extent=(1.0,),
        reference_spacing=(1 / values.shape[-1],),
        normaliser=Normaliser({"u": 0.0, "v": 0.0}, {"u": 1.0, "v": 1.0}),
        model=ModelConfig.model_validate({"width": 4, "layers": 1, "d_state": 2}),
    )
    return flops_per_prediction(Surrogate(description, OneLayer(layer)), {"u": values})


def values(points: int = POINTS) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, points)).astype(np.float32)


def test_a_linear_layer_is_two_operations_per_weight() -> None:
    assert flops_of(nn.Linear(POINTS, 5), values()) == 2 * POINTS * 5


def test_a_product_of_complex_numbers_counts_four_real_ones() -> None:
    weights = torch.ones(POINTS, 3, dtype=torch.complex64)
    assert flops_of(lambda u: u.to(torch.complex64) @ weights, values()) == 4 * 2 * POINTS * 3


@pytest.mark.parametrize(
    ("transform", "given", "per_point"),
    [
        (lambda u: torch.fft.fft(u.to(torch.complex64)), 8, 5.0),
        (torch.fft.rfft, 8, 2.5),
        (lambda u: torch.fft.irfft(u.to(torch.complex64), n=8), 5, 2.5),
    ],
)
def test_a_fourier_transform_counts_by_the_usual_formula(transform, given, per_point) -> None:
    assert flops_of(transform, values(given)) == per_point * 8 * math.log2(8)


def test_attention_is_counted() -> None:
    def attend(u):
        q = u.reshape(1, 1, POINTS, 1)
        nn.functional.scaled_dot_product_attention(q, q, q)

    assert flops_of(attend, values()) == 2 * (2 * POINTS * POINTS)


@pytest.mark.parametrize(
    ("discretization", "per_state"), [("simplified", 7), ("zoh", 9), ("centred", 9)]
)
def test_a_mamba_mixer_is_its_projections_and_its_scan(discretization: str, per_state: int) -> None:
    """By hand: d_inner = 4, two directions of state 3, steps of rank 1."""
    width, inner, directions, state, rank = 4, 4, 2, 3, 1
    mixer = MambaMixer(width, d_state=state, expand=1, dims=1, discretization=discretization)
    assert (mixer.d_inner, mixer.dt_rank) == (inner, rank)
    projections = 2 * width * 2 * inner + 2 * inner * directions * (rank + 2 * state)
    projections += 2 * inner * width
    scan = directions * inner * ((2 * rank + 1) + 2 + per_state * state)
    found = flops_of(
        lambda u: mixer(u.reshape(1, POINTS, width), (POINTS,)), values(POINTS * width)
    )
    assert found == POINTS * (projections + scan)


def test_the_formula_of_the_scan_is_linear_in_everything_it_should_be() -> None:
    one = scan_flops(1, 10, 2, 4, 3)
    assert scan_flops(5, 10, 2, 4, 3) == 5 * one
    assert scan_flops(1, 20, 2, 4, 3) == 2 * one
    assert scan_flops(1, 10, 2, 4, 3, direct=False) == one - 2 * 10 * 2 * 4
