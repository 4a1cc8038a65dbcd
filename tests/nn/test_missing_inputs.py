"""Operators whose inputs have gaps: they are told what is missing, and never see a NaN."""

from __future__ import annotations

import math

import backbone_cases
import pytest
import torch
from backbone_cases import random

from mno.data import Batch
from mno.nn import Grid, Points
from mno.nn.backbones import BACKBONES
from mno.nn.build import match_parameters_to
from mno.nn.operator import count_parameters
from mno.nn.replace import replace_mixer

SHAPE = (6, 8)
GRID = Grid(SHAPE, (1 / 6, 1 / 8))
each_on_grids = pytest.mark.parametrize("backbone", BACKBONES)


def build(backbone, inputs, **options):
    return backbone_cases.build(backbone, inputs=inputs, **{"layers": 1, "modes": 2, **options})


def with_holes(field, share=0.3, seed=2):
    holes = torch.rand(field.shape, generator=torch.Generator().manual_seed(seed)) < share
    return field.masked_fill(holes, math.nan)


@each_on_grids
def test_the_network_is_given_zero_and_a_mark_for_what_is_missing(backbone):
    field = with_holes(random(3, *SHAPE))
    present = (~field.isnan()).float()
    told = build(backbone, ("a",), gaps=("a",))
    explicit = build(backbone, {"a": 2})  # the same network, shown both as frames
    explicit.load_state_dict(told.state_dict())
    shown = torch.stack([field.nan_to_num(0.0), present], dim=1)
    expected = explicit(Batch({"a": shown}, GRID)).fields["p"]
    found = told(Batch({"a": field}, GRID)).fields["p"]
    assert torch.equal(found, expected) and found.isfinite().all()


def test_only_inputs_with_gaps_are_marked():
    assert build("plain", ("a", "b")).input_sizes == [1, 1]
    assert build("plain", ("a", "b"), gaps=("b",)).input_sizes == [1, 2]


@each_on_grids
def test_a_missing_value_and_the_mean_are_told_apart(backbone):
    operator = build(backbone, ("a",), gaps=("a",))
    field = random(1, *SHAPE)
    field[0, 2, 3] = 0.0
    missing = field.clone()
    missing[0, 2, 3] = math.nan
    answers = [operator(Batch({"a": f}, GRID)).fields["p"] for f in (field, missing)]
    assert not torch.equal(*answers)


@each_on_grids
def test_gradients_are_finite_and_reach_every_weight(backbone):
    operator = build(backbone, ("a", "b"), outputs=("p", "q"), gaps=("b",))
    fields = {"a": random(3, *SHAPE).requires_grad_(), "b": with_holes(random(3, *SHAPE, seed=5))}
    fields["b"].requires_grad_()
    out = operator(Batch(fields, GRID))
    sum(field.square().sum() for field in out.fields.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())
    assert (fields["b"].grad[fields["b"].isnan()] == 0).all()
    assert fields["a"].grad.isfinite().all() and fields["b"].grad.isfinite().all()


def test_frames_are_marked_one_by_one():
    operator = build("plain", {"a": 3, "b": None}, gaps=("a",))
    field = with_holes(random(2, 3, *SHAPE))
    batch = Batch({"a": field, "b": random(2, *SHAPE)}, GRID)
    seen = operator._features(batch)
    assert operator.input_sizes == [6, 1] and seen.shape == (2, 48, 7)
    flat = field.flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[..., :3], flat.nan_to_num(0.0))
    assert torch.equal(seen[..., 3:6], (~flat.isnan()).float())


@pytest.mark.parametrize("backbone", ["plain", "gnot", "oformer"])
def test_one_batch_of_points_with_a_third_missing_is_learned(backbone):
    operator = build(
        backbone, ("a",), gaps=("a",), width=16, path=["bidirectional"], discretization="simplified"
    )
    places = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(0))
    field = torch.sin(3 * places[..., 0]) + random(2, 1)
    batch = Batch({"a": with_holes(field)}, Points(places))
    optimiser = torch.optim.AdamW(operator.parameters(), 1e-2)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = (operator(batch).fields["p"] - field).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.3 and min(losses) < 0.02 * losses[0]


def test_other_mixers_and_widths_keep_what_the_inputs_are():
    operator = build("plain", ("a", "b"), gaps=("b",))
    assert replace_mixer(operator, [0], "softmax").gaps == {"b"}
    wide = build("plain", ("a", "b"), gaps=("a", "b"), width=12)
    given = {"inputs": ("a", "b"), "outputs": ("p",), "gaps": ("a", "b")}
    narrow = wide.config.model_copy(update={"width": 8})
    assert match_parameters_to(narrow, count_parameters(wide), **given).width == 12


def test_gaps_of_what_is_no_input_are_refused():
    with pytest.raises(ValueError, match=r"gaps=\['p'\].*\('a',\) only"):
        build("plain", ("a",), gaps=("a", "p"))
