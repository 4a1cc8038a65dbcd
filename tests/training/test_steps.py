"""Averaged weights, accumulated gradients and mixed precision."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from smoothing_problem import CONFIG, MODEL, TRAINING, VALIDATION, make_split, run, weights_of
from test_train import error_of
from torch import nn

from mno.core.errors import InputError
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import autocast_of
from mno.training.step import (
    AveragedWeights,
    learning_rate_factor,
    samples_of_step,
    steps_per_epoch,
)


def config(**changes) -> TrainConfig:
    return CONFIG.model_copy(update=changes)


def test_the_average_forgets_its_beginning_and_then_keeps_its_decay():
    linear = nn.Linear(1, 1)
    average = AveragedWeights(linear, 0.5)
    expected = linear.weight.item()
    for step in range(1, 30):
        with torch.no_grad():
            linear.weight.fill_(float(step))
        average.update(linear)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.operator.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_average_has_no_gradient_and_its_steps_are_in_its_state():
    average = AveragedWeights(nn.Linear(2, 2), 0.9)
    assert not any(p.requires_grad for p in average.parameters())
    average.update(nn.Linear(2, 2))
    again = AveragedWeights(nn.Linear(2, 2), 0.9)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    assert again.state_dict()["steps"].item() == 1


def test_averaged_weights_are_validated_and_saved_and_training_goes_on_as_without(tmp_path):
    plain, usual = run(tmp_path / "plain")
    averaged, history = run(tmp_path / "averaged", config=config(ema_decay=0.9))
    assert [r.train_relative_l2 for r in history.records] == [
        r.train_relative_l2 for r in usual.records
    ]
    assert weights_of(averaged) != weights_of(plain)
    assert set(weights_of(averaged)) == set(weights_of(plain))
    assert error_of(averaged, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-4
    )


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9))
def test_the_steps_of_an_epoch_share_its_samples(samples, batch_size, accumulate):
    options = config(batch_size=batch_size, accumulate=accumulate)
    batches = -(-samples // batch_size)
    sizes = [min(batch_size, samples - i * batch_size) for i in range(batches)]
    groups = [sizes[i : i + accumulate] for i in range(0, batches, accumulate)]
    assert steps_per_epoch(samples, options) == len(groups)
    for i in range(batches):
        assert samples_of_step(i, samples, options) == sum(groups[i // accumulate])


@pytest.mark.parametrize("samples", [14, 13, 9])
def test_accumulated_batches_are_one_batch(tmp_path, samples):
    """Also where the last batch is shorter and the last step has fewer batches."""
    split = make_split("train", samples, seed=1)
    wide, expected = run(tmp_path / "wide", training=split, config=config(batch_size=6, epochs=3))
    narrow, found = run(
        tmp_path / "narrow",
        training=split,
        config=config(batch_size=2, accumulate=3, epochs=3),
    )
    for ours, theirs in zip(found.records, expected.records, strict=True):
        for name, value in theirs.metrics.items():
            assert ours.metrics[name] == pytest.approx(value, rel=1e-3)
    for a, b in zip(wide.operator.parameters(), narrow.operator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_schedule_counts_optimiser_steps(tmp_path):
    options = config(accumulate=2, batch_size=3)
    _, history = run(tmp_path, config=options)
    steps = -(-len(TRAINING) // 6)
    expected = [
        options.learning_rate
        * learning_rate_factor(e * steps - 1, options.epochs * steps, options.warmup_fraction)
        for e in range(1, options.epochs + 1)
    ]
    assert [r.learning_rate for r in history.records] == pytest.approx(expected, rel=1e-12)


def test_mixed_precision_learns_as_much_and_its_weights_are_validated_in_32_bits(tmp_path):
    plain, usual = run(tmp_path / "plain")
    mixed, history = run(tmp_path / "mixed", config=config(precision="bf16"))
    assert weights_of(plain) != weights_of(mixed)
    assert all(p.dtype == torch.float32 for p in mixed.operator.parameters())
    assert error_of(mixed, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-5
    )
    assert history.best.validation_relative_l2 == pytest.approx(
        usual.best.validation_relative_l2, rel=0.1
    )


def test_a_device_without_mixed_precision_is_named():
    assert autocast_of(32, "meta") is nullcontext
    with autocast_of("bf16", "cpu")():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    with pytest.raises(InputError, match=r"meta here has no bf16; set train.precision=32"):
        autocast_of("bf16", "meta")


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"precision": "bf16"}])
def test_complex_weights_are_trained_too(tmp_path, options):
    pytest.importorskip("neuralop")
    model = MODEL.model_copy(update={"backbone": "fno", "modes": 3})
    trained, _ = run(tmp_path / "trained", model=model, config=config(epochs=2, **options))
    fresh = trained.description.build()
    weights = {n: p for n, p in trained.operator.named_parameters() if p.is_complex()}
    assert weights
    assert not any(torch.equal(p, fresh.get_parameter(n)) for n, p in weights.items())
    trained.save(tmp_path)
    assert weights_of(Surrogate.load(tmp_path)) == weights_of(trained)
