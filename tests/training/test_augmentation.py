"""Symmetries: declared ones hold for the solver, and training turns samples by them."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from darcy_problem import darcy, make_darcy_split
from smoothing_problem import CONFIG, TRAINING, run

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.scenarios.base import SQUARE
from mno.training.batches import Augmentation, epoch_choices, turns_of

DARCY = make_darcy_split("train", 3, seed=0, resolution=12)
AUGMENTED = CONFIG.model_copy(update={"augment": True, "epochs": 2})


def make_schema(*symmetries: str, shape: tuple[int, ...] = (4, 4), dims=("x", "y")) -> Schema:
    axes = tuple(
        Axis(name, "1", name, np.arange(n) + 0.5, (0.0, float(n)))
        for name, n in zip("xyz", shape, strict=False)
    )
    fields = (Field("a", "1", "a", "input", dims), Field("u", "1", "u", "output", dims))
    return Schema("test", fields, axes, symmetries)


@pytest.mark.parametrize("name", SQUARE)
def test_solving_a_turned_input_gives_the_turned_solution(name):
    (turn,) = turns_of(dataclasses.replace(DARCY.schema, symmetries=(name,)))
    turned = {n: turn[n](torch.from_numpy(f)).numpy() for n, f in DARCY.fields.items()}
    for sample, expected in zip(turned["permeability"], turned["pressure"], strict=True):
        found = darcy(12).solve({"permeability": sample})["pressure"]
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_symmetries_of_the_square_are_eight_that_make_a_group():
    corners = torch.arange(16.0).view(1, 4, 4)
    turns = [turn["a"] for turn in turns_of(make_schema(*SQUARE))]
    results = {tuple(turn(corners).flatten().tolist()) for turn in turns}
    assert len(results) == len(SQUARE) == 8
    assert tuple(corners.flatten().tolist()) in results
    twice = {
        tuple(first(second(corners)).flatten().tolist())
        for first, second in product(turns, repeat=2)
    }
    assert twice == results


def test_a_name_says_which_axis_runs_along_each_axis_of_the_result():
    field = torch.arange(12.0).view(1, 3, 4)
    mirror, quarter = torch.flip(field, (1,)), torch.rot90(field, 1, (1, 2))
    (turn,) = turns_of(make_schema("-x y", shape=(3, 4)))
    assert torch.equal(turn["a"](field), mirror)
    (turn,) = turns_of(make_schema("-y x"))
    square = torch.arange(16.0).view(1, 4, 4)
    assert torch.equal(turn["a"](square), torch.rot90(square, 1, (1, 2)))
    assert quarter.shape == (1, 4, 3), "which is why a quarter turn of unequal sides is refused"


def test_frames_and_fields_of_fewer_axes_are_carried_along():
    schema = make_schema("-x y", shape=(3, 4), dims=("time", "x", "y"))
    (turn,) = turns_of(schema)
    frames = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(turn["u"](frames), frames.flip(2))
    (turn,) = turns_of(make_schema("-x y", shape=(3, 4), dims=("y",)))
    side = torch.arange(4.0).view(1, 4)
    assert torch.equal(turn["u"](side), side)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (make_schema(), "declares no symmetry"),
        (make_schema("x"), "'x y'"),
        (make_schema("x x"), "'x y'"),
        (make_schema("x z"), "'x y'"),
        (make_schema("--x y"), "'x y'"),
        (make_schema("y x", shape=(3, 4)), "exchanges y and x"),
        (make_schema("y x", dims=("y",)), "exchanges y and x"),
    ],
)
def test_what_cannot_be_applied_is_refused_in_one_line(schema, message):
    with pytest.raises(InputError, match=message) as caught:
        turns_of(schema)
    assert "\n" not in str(caught.value)


def test_a_sample_is_turned_as_a_whole_whatever_else_is_in_its_batch():
    turns = turns_of(make_schema(*SQUARE))
    fields = {name: torch.rand(20, 4, 4) for name in "au"}
    choices = epoch_choices(20, 8, seed=3, epoch=5, purpose="turn")
    augmentation = Augmentation(turns, lambda epoch: choices)
    samples = torch.tensor([7, 0, 19, 3])
    turned = augmentation({n: f[samples] for n, f in fields.items()}, samples, 5)
    for row, sample in enumerate(samples.tolist()):
        for name, field in fields.items():
            expected = turns[choices[sample]][name](field[sample][None])[0]
            assert torch.equal(turned[name][row], expected)


def test_training_turns_samples_of_its_own_split_only(tmp_path):
    symmetric = dataclasses.replace(
        TRAINING, schema=dataclasses.replace(TRAINING.schema, symmetries=SQUARE)
    )
    _, turned = run(tmp_path / "turned", training=symmetric, config=AUGMENTED)
    _, plain = run(tmp_path / "plain", config=AUGMENTED.model_copy(update={"augment": False}))
    assert turned != plain
    # A symmetry group of the identity alone turns nothing.
    identity = dataclasses.replace(
        TRAINING, schema=dataclasses.replace(TRAINING.schema, symmetries=("x y",))
    )
    _, unturned = run(tmp_path / "unturned", training=identity, config=AUGMENTED)
    assert unturned == plain


def test_a_dataset_without_symmetries_is_refused_by_training(tmp_path):
    with pytest.raises(InputError, match="scenario smoothing declares no symmetry"):
        run(tmp_path, config=AUGMENTED)
