"""What a step is given: windows, symmetries, noise and missing points."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from darcy_problem import darcy, make_darcy_split
from reaction_problem import run as run_reaction
from runner import as_they_are, weights_of
from smoothing_problem import CONFIG, TRAINING, run

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.fields import RATE, Axis, Field
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.scenarios.base import SQUARE
from mno.training.batches import (
    Augmentation,
    TurnedPoints,
    Windows,
    corrupt,
    epoch_choices,
    maps_of,
    seed_epoch,
    turns_of,
)

DARCY = make_darcy_split("train", 3, seed=0, resolution=12)
AUGMENTED = CONFIG.model_copy(update={"augment": True, "epochs": 2})


def make_schema(*symmetries, shape=(4, 4), dims=("x", "y")):
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
    (turn,) = turns_of(make_schema("-x y", shape=(3, 4), dims=("time", "x", "y")))
    frames = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(turn["u"](frames), frames.flip(2))
    (turn,) = turns_of(make_schema("-x y", shape=(3, 4), dims=("y",)))
    side = torch.arange(4.0).view(1, 4)
    assert torch.equal(turn["u"](side), side)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (make_schema("x"), "'x' .* for example 'x y'"),
        (make_schema("x x"), "'x x' .* for example 'x y'"),
        (make_schema("x z"), "'x z' .* for example 'x y'"),
        (make_schema("--x y"), "'--x y' .* for example 'x y'"),
        (make_schema("y x", shape=(3, 4)), "'y x' .* have the same points"),
        (make_schema("y x", dims=("y",)), "'y x' .* have the same points"),
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


def make_schema_of_points(*symmetries):
    axis = Axis("point", "1", "point", np.arange(6.0), (0.0, 6.0))
    roles = {"x": "coordinate", "y": "coordinate", "a": "input", "u": "output"}
    fields = tuple(Field(name, "1", name, role, ("point",)) for name, role in roles.items())
    return Schema("test", fields, (axis,), symmetries)


def test_points_are_moved_in_physical_units_and_their_rates_with_them():
    maps = maps_of(make_schema_of_points(*SQUARE))
    normaliser = Normaliser({"x": 1.0, "y": -2.0}, {"x": 3.0, "y": 0.5})
    choices = epoch_choices(20, 8, seed=3, epoch=5, purpose="turn")
    samples = torch.tensor([7, 0, 19, 3])
    places, rates = torch.randn(2, 4, 6, 2)
    told = {"a": torch.rand(4, 6), RATE + "a": torch.rand(4, 6)}
    for k, name in enumerate("xy"):
        told[name] = normaliser.encode(name, places[..., k])
        told[RATE + name] = rates[..., k] / normaliser.std[name]
    change = TurnedPoints(maps, ("x", "y"), normaliser, lambda epoch: choices)
    found = change(told, samples, 5)
    assert found["a"] is told["a"] and found[RATE + "a"] is told[RATE + "a"]
    for row, sample in enumerate(samples.tolist()):
        parts = SQUARE[choices[sample]].split()
        for name, part in zip("xy", parts, strict=True):
            sign, source = (-1 if part.startswith("-") else 1), "xy".index(part[-1])
            there = normaliser.decode(name, found[name][row])
            torch.testing.assert_close(there, sign * places[row, :, source])
            rate = found[RATE + name][row] * normaliser.std[name]
            torch.testing.assert_close(rate, sign * rates[row, :, source])


@pytest.mark.parametrize("name", ["x", "x x", "x z", "--x y", "x y z"])
def test_symmetries_that_do_not_name_all_coordinates_are_refused_in_one_line(name):
    with pytest.raises(InputError, match=f"{name!r} .* for example 'x y'") as caught:
        maps_of(make_schema_of_points(name))
    assert "\n" not in str(caught.value)


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


def test_where_no_symmetry_is_declared_nothing_is_turned(tmp_path):
    _, plain = run(tmp_path / "plain", config=AUGMENTED.model_copy(update={"augment": False}))
    _, same = run(tmp_path / "augmented", config=AUGMENTED)
    assert same == plain


GRID = Grid((40, 50), (1.0, 1.0))


def make_batch():
    fields = {"a": torch.full((5, 40, 50), 2.0), "b": torch.full((5, 3, 40, 50), 3.0)}
    return Batch(fields, GRID, {"viscosity": torch.ones(5)})


@pytest.fixture(autouse=True)
def own_stream():
    with torch.random.fork_rng(devices=[]):
        seed_epoch(0, 0)
        yield


def test_noise_has_the_deviation_that_is_asked_for_and_differs_everywhere():
    noisy = corrupt(make_batch(), noise=0.3, mask=0.0)
    for name, value in (("a", 2.0), ("b", 3.0)):
        noise = noisy.fields[name] - value
        assert noise.mean().item() == pytest.approx(0, abs=0.02)
        assert noise.std().item() == pytest.approx(0.3, rel=0.03)
        assert len(noise.unique()) > 0.99 * noise.numel() * 0.5
    assert torch.equal(noisy.scalars["viscosity"], torch.ones(5))


@pytest.mark.parametrize("gaps", [(), ("b",)])
def test_a_missing_point_holds_the_mean_in_all_fields_and_frames_or_is_told_of(gaps):
    noisy = corrupt(make_batch(), noise=0.5, mask=0.25, gaps=gaps)
    missing = noisy.fields["a"] == 0
    assert missing.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(missing[0], missing[1]), "each sample misses points of its own"
    of_b = noisy.fields["b"].isnan() if gaps else noisy.fields["b"] == 0
    assert torch.equal(of_b, missing[:, None].expand(5, 3, 40, 50))


def test_nothing_is_drawn_where_nothing_is_asked_for():
    batch, state = make_batch(), torch.get_rng_state()
    clean = corrupt(batch, noise=0.0, mask=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(clean.fields[name] is batch.fields[name] for name in batch.fields)


def test_the_batch_that_is_given_is_left_alone():
    batch = make_batch()
    corrupt(batch, noise=1.0, mask=0.5)
    assert (batch.fields["a"] == 2).all()


@pytest.mark.parametrize(
    ("run", "option"),
    [(run, {"input_noise": 0.5}), (run, {"input_mask": 0.5}), (run_reaction, {"unroll": 2})],
)
def test_it_changes_what_is_learned_and_how_hard_it_is(tmp_path, run, option):
    plain, usual = run(tmp_path / "plain", epochs=2)
    other, harder = run(tmp_path / "other", epochs=2, **option)
    assert weights_of(plain) != weights_of(other)
    assert harder.records[0].train_relative_l2 > usual.records[0].train_relative_l2


def test_each_sample_has_its_own_window_whatever_batch_it_is_in():
    frames = np.arange(5, dtype=np.float32)
    axes = (Axis("time", "1", "time", frames, (0.0, 5.0)), Axis("x", "1", "x", frames[:1], (0, 1)))
    fields = tuple(
        Field(name, "1", name, "input", dims)
        for name, dims in (("state", ("time", "x")), ("steady", ("x",)))
    )
    numbers = np.arange(6, dtype=np.float32)[:, None]
    arrays = {"state": (10 * numbers + frames)[..., None], "steady": numbers}
    starts = np.array([0, 3, 1, 2, 0, 3])
    samples = as_they_are(
        Split("train", Schema("test", fields, axes), arrays, np.arange(6)),
        Windows({"state"}, 2, lambda epoch: starts),
    )
    order = np.array([5, 0, 2, 1, 4, 3])
    batches = [samples.batch(part, 0) for part in (order[:4], order[4:])]
    found = torch.cat([batch["state"] for batch in batches])[..., 0]
    assert found.tolist() == [[10 * k + starts[k], 10 * k + starts[k] + 1] for k in order]
    assert torch.cat([batch["steady"] for batch in batches])[:, 0].tolist() == order.tolist()
