"""Shares of the training split: nested, drawn by the seed, trained with as many steps."""

from __future__ import annotations

import numpy as np
import pytest
from smoothing_problem import TRAINING

from mno.core.errors import InputError
from mno.training.config import TrainConfig, nested_samples, with_as_many_steps


def test_a_larger_share_holds_the_smaller_ones() -> None:
    chosen = [set(nested_samples(100, share, 0)) for share in (0.1, 0.25, 0.8)]
    assert [len(samples) for samples in chosen] == [10, 25, 80]
    assert chosen[0] < chosen[1] < chosen[2]


def test_the_seed_draws_the_samples_and_none_twice() -> None:
    first, again, other = (nested_samples(100, 0.5, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    assert first.dtype == np.int64


@pytest.mark.parametrize(("samples", "share"), [(40, 0.01), (40, 0.99), (1, 0.5)])
def test_a_share_of_none_or_all_is_refused(samples: int, share: float) -> None:
    with pytest.raises(InputError, match="learning_curve.shares"):
        nested_samples(samples, share, 0)


@pytest.mark.parametrize(
    ("samples", "chosen", "epochs", "patience"),
    # 200 steps of an epoch are 8 times 25; 5 of 40 samples are one step, 40 are three.
    [(3200, 400, 40, 80), (3200, 1600, 10, 20), (40, 5, 15, 30)],
)
def test_a_share_takes_as_many_steps(samples: int, chosen: int, epochs: int, patience: int) -> None:
    config = TrainConfig(epochs=5, batch_size=16, patience=10)
    scaled = with_as_many_steps(config, samples, chosen)
    assert (scaled.epochs, scaled.patience) == (epochs, patience)
    assert scaled.model_copy(update={"epochs": 5, "patience": 10}) == config


def test_a_step_of_several_batches_counts_once() -> None:
    config = TrainConfig(epochs=6, batch_size=4, accumulate=2)  # 10 batches: 5 steps; 3 batches: 2
    assert with_as_many_steps(config, 40, 12).epochs == 15


def test_the_samples_of_a_share_are_those_of_the_split() -> None:
    taken = TRAINING.take(np.array([1, 4]))
    assert taken.indices.tolist() == TRAINING.indices[[1, 4]].tolist()
    for name, field in taken.fields.items():
        np.testing.assert_array_equal(field, TRAINING.fields[name][[1, 4]])
