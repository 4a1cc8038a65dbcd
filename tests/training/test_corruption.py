"""Noise and missing points in the inputs of training."""

from __future__ import annotations

import pytest
import torch
from smoothing_problem import CONFIG, run, weights_of

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.training.batches import corrupt, seed_epoch

GRID = Grid((40, 50), (1.0, 1.0))


def make_batch() -> Batch:
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


def test_a_missing_point_holds_the_mean_in_all_fields_and_frames():
    noisy = corrupt(make_batch(), noise=0.5, mask=0.25)
    missing = noisy.fields["a"] == 0
    assert missing.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(missing[0], missing[1]), "each sample misses points of its own"
    assert torch.equal(noisy.fields["b"] == 0, missing[:, None].expand(5, 3, 40, 50))


def test_nothing_is_drawn_where_nothing_is_asked_for():
    batch, state = make_batch(), torch.get_rng_state()
    clean = corrupt(batch, noise=0.0, mask=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(clean.fields[name] is batch.fields[name] for name in batch.fields)


def test_the_batch_that_is_given_is_left_alone():
    batch = make_batch()
    corrupt(batch, noise=1.0, mask=0.5)
    assert (batch.fields["a"] == 2).all()


@pytest.mark.parametrize("option", [{"input_noise": 0.5}, {"input_mask": 0.5}])
def test_it_changes_what_is_learned_and_how_hard_it_is(tmp_path, option):
    plain, usual = run(tmp_path / "plain", config=CONFIG.model_copy(update={"epochs": 2}))
    other, corrupted = run(
        tmp_path / "other", config=CONFIG.model_copy(update={"epochs": 2, **option})
    )
    assert weights_of(plain) != weights_of(other)
    assert corrupted.records[0].train_relative_l2 > usual.records[0].train_relative_l2
