"""Parts of a step: order, schedule, averaged weights, accumulated gradients, mixed precision."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runner import as_they_are, weights_of
from smoothing_problem import CONFIG, MODEL, TRAINING, VALIDATION, make_split, run
from test_train import error_of
from torch import nn

from mno.core.errors import InputError
from mno.data.loading import Loader, epoch_order
from mno.nn.build import build_operator
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import seed_epoch
from mno.training.config import TrainConfig
from mno.training.fit import autocast_of
from mno.training.history import EpochRecord, History
from mno.training.step import (
    AveragedWeights,
    learning_rate_factor,
    parameter_groups,
    samples_of_step,
    steps_per_epoch,
    warmup_steps,
)


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_learning_rate_rises_once_then_falls_to_zero(num_steps, warmup_fraction):
    factors = [learning_rate_factor(s, num_steps, warmup_fraction) for s in range(num_steps)]
    warmup = warmup_steps(num_steps, warmup_fraction)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert max(factors) == 1.0
    assert learning_rate_factor(num_steps, num_steps, warmup_fraction) == pytest.approx(0)


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 1000))
def test_the_order_is_a_permutation_given_by_seed_and_epoch(num_samples, seed, epoch):
    order = epoch_order(num_samples, seed, epoch)
    assert sorted(order) == list(range(num_samples))
    np.testing.assert_array_equal(order, epoch_order(num_samples, seed, epoch))


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(epoch_order(20, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_an_epoch_has_its_own_random_numbers():
    def draw(seed, epoch):
        seed_epoch(seed, epoch)
        return torch.rand(4).tolist()

    with torch.random.fork_rng(devices=[]):
        assert draw(0, 1) == draw(0, 1)
        assert draw(0, 1) != draw(0, 2)
        assert draw(0, 1) != draw(1, 1)


def test_a_pass_over_the_batches_takes_every_sample_once_with_its_own_fields():
    source = TRAINING.fields["source"]
    batches = Loader(as_they_are(TRAINING), 4, seed=0)
    taken = list(batches)
    assert [len(batch["source"]) for batch in taken] == [4, 4, 4, 2]
    assert len(batches) == 4
    order = epoch_order(14, 0, 0)
    for name in ("source", "temperature"):
        found = torch.cat([batch[name] for batch in taken]).numpy()
        np.testing.assert_array_equal(found, TRAINING.fields[name][order])
    assert len(np.unique(source, axis=0)) == 14


def test_every_weight_is_optimised_once_and_only_matrices_decay():
    operator = build_operator(MODEL, inputs=("a",), outputs=("u",))
    groups = parameter_groups(operator, 0.1)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in operator.parameters())
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    linear = {id(m.weight) for m in operator.modules() if isinstance(m, nn.Linear)}
    biases = {id(p) for name, p in operator.named_parameters() if name.endswith("bias")}
    assert linear <= decaying
    assert not biases & decaying


def history(*errors: float) -> History:
    return History(tuple(EpochRecord(i + 1, 1.0, e, 1e-3) for i, e in enumerate(errors)))


def test_the_best_epoch_is_the_first_of_the_lowest_validation_errors():
    assert history(0.5, 0.2, 0.3, 0.2).best.epoch == 2


@pytest.mark.parametrize(
    ("errors", "complete"),
    [((), False), ((0.5, 0.6), False), ((0.5, 0.6, 0.5), True), ((0.5, 0.6, 0.4, 0.5), False)],
)
def test_training_is_complete_after_epochs_without_a_new_best(errors, complete):
    assert history(*errors).is_complete(epochs=10, patience=2) is complete


def test_a_history_is_read_back_as_it_was_written():
    written = history(0.5, 1 / 3)
    assert History.from_records(written.to_dict()["epochs"]) == written
    assert written.to_dict()["best_epoch"] == 2


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
