"""Loss, schedule, order of samples, grouping of weights: the pure parts of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from smoothing_problem import MODEL
from torch import nn

from mno.data.loading import Loader, epoch_order
from mno.data.normalise import Normaliser
from mno.nn.build import build_operator
from mno.training.batches import TrainingSamples, seed_epoch
from mno.training.history import EpochRecord, History
from mno.training.objective import NORM_FLOOR, relative_l2
from mno.training.step import learning_rate_factor, parameter_groups, warmup_steps

NORMALISER = Normaliser(mean={"u": 7.0, "v": -1.0}, std={"u": 3.0, "v": 0.5})


def encoded(fields: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(NORMALISER.encode(n, field)) for n, field in fields.items()}


def test_the_loss_is_the_relative_error_in_physical_units():
    rng = np.random.default_rng(0)
    truth = {name: rng.standard_normal((3, 4, 5)) for name in "uv"}
    predicted = {name: rng.standard_normal((3, 4, 5)) for name in "uv"}
    expected = np.mean(
        [
            np.linalg.norm((predicted[n] - truth[n]).reshape(3, -1), axis=1)
            / np.linalg.norm(truth[n].reshape(3, -1), axis=1)
            for n in "uv"
        ],
        axis=0,
    )
    found = relative_l2(encoded(predicted), encoded(truth), NORMALISER)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_field_of_zeros_is_measured_against_the_floor():
    truth = encoded({"u": np.zeros((1, 4))})
    predicted = encoded({"u": np.full((1, 4), 0.3)})
    found = relative_l2(predicted, truth, NORMALISER)
    np.testing.assert_allclose(found.numpy(), 0.3 / (NORM_FLOOR * 3.0), rtol=1e-12)


def test_an_exact_prediction_has_no_error_and_a_finite_gradient():
    truth = encoded({"u": np.linspace(1, 2, 8).reshape(2, 4)})
    predicted = {"u": truth["u"].clone().requires_grad_()}
    error = relative_l2(predicted, truth, NORMALISER)
    error.sum().backward()
    assert error.tolist() == [0.0, 0.0]
    assert torch.isfinite(predicted["u"].grad).all()


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
    fields = {"a": torch.arange(10), "b": torch.arange(10) * 10}
    batches = Loader(TrainingSamples(fields), 4, seed=0)
    taken = list(batches)
    assert [len(batch["a"]) for batch in taken] == [4, 4, 2]
    assert len(batches) == 3
    assert all(torch.equal(batch["b"], batch["a"] * 10) for batch in taken)
    assert torch.cat([batch["a"] for batch in taken]).tolist() == epoch_order(10, 0, 0).tolist()


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
