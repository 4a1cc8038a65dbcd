"""Starting from a trained model: the same operator at first, then fine-tuned."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from darcy_problem import make_darcy_split
from runner import weights_of
from smoothing_problem import CONFIG, MODEL, run

from mno.core.errors import InputError
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig

STANDSTILL = CONFIG.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1})
COARSE = {
    "training": make_darcy_split("train", 12, seed=1),
    "validation": make_darcy_split("validation", 6, seed=2),
}
FINE = {
    "training": make_darcy_split("train", 12, seed=3, resolution=16),
    "validation": make_darcy_split("validation", 6, seed=4, resolution=16),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Surrogate:
    """A surrogate trained at 8 x 8, read back as a registry would give it."""
    folder = tmp_path_factory.mktemp("first")
    surrogate, _ = run(folder / "work", **COARSE)
    surrogate.save(folder)
    return Surrogate.load(folder)


def test_with_no_step_taken_it_answers_as_the_first_at_every_resolution(tmp_path, first):
    """The finer dataset changes neither normaliser nor reference spacing: one operator."""
    again, _ = run(tmp_path, **FINE, config=STANDSTILL, initial=first)
    assert weights_of(again) == weights_of(first)
    assert again.description == first.description
    assert again.description.reference_spacing == pytest.approx((1 / 8, 1 / 8))
    for split in (COARSE["validation"], FINE["validation"]):
        inputs = {"permeability": split.fields["permeability"]}
        np.testing.assert_array_equal(
            again.predict(inputs)["pressure"], first.predict(inputs)["pressure"]
        )


def test_fine_tuning_at_a_higher_resolution_lowers_the_error_there(tmp_path, first):
    _, before = run(tmp_path / "before", **FINE, config=STANDSTILL, initial=first)
    _, after = run(tmp_path / "after", **FINE, initial=first)
    _, fresh = run(tmp_path / "fresh", **FINE)
    assert after.best.validation_relative_l2 < before.best.validation_relative_l2
    assert after.records[0].train_relative_l2 < fresh.records[0].train_relative_l2


def test_the_seed_draws_no_weights(tmp_path, first):
    one, _ = run(tmp_path / "one", **COARSE, config=STANDSTILL, initial=first, seed=1)
    other, _ = run(tmp_path / "other", **COARSE, config=STANDSTILL, initial=first, seed=2)
    assert weights_of(one) == weights_of(other) == weights_of(first)


def test_the_initial_weights_are_part_of_what_a_training_is(tmp_path, first):
    run(tmp_path, **COARSE, config=STANDSTILL, initial=first)
    run(tmp_path, **COARSE, config=STANDSTILL, initial=first)
    other, _ = run(tmp_path / "other", **COARSE, config=STANDSTILL)
    other = Surrogate(first.description, other.operator)
    for initial in (other, None):
        with pytest.raises(InputError, match="other data, parameters or seed"):
            run(tmp_path, **COARSE, config=STANDSTILL, initial=initial)


def test_the_average_begins_with_the_initial_weights(tmp_path, first):
    still = STANDSTILL.model_copy(update={"ema_decay": 0.9})
    again, _ = run(tmp_path, **COARSE, config=still, initial=first)
    for ours, theirs in zip(again.operator.parameters(), first.operator.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-6)


def test_dropout_may_differ(tmp_path, first):
    model = MODEL.model_copy(update={"dropout": 0.5})
    again, _ = run(tmp_path, **COARSE, config=STANDSTILL, initial=first, model=model)
    assert again.description.model.dropout == 0.5
    assert weights_of(again) == weights_of(first)


def test_another_architecture_is_refused_with_what_differs(tmp_path, first):
    model = MODEL.model_copy(update={"width": 12, "path": ["hilbert"]})
    with pytest.raises(InputError) as caught:
        run(tmp_path, **COARSE, initial=first, model=model)
    message = str(caught.value)
    assert "that model has width=8, path=['axial']; expected width=12, path=['hilbert']" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_other_fields_are_refused(tmp_path, first, kind):
    description = dataclasses.replace(first.description, **{kind: {"heat": "K"}})
    with pytest.raises(InputError, match=rf"{kind} heat \[K\]; expected those of the dataset, p"):
        run(tmp_path, **COARSE, initial=Surrogate(description, first.operator))


def test_another_domain_is_refused(tmp_path, first):
    description = dataclasses.replace(first.description, extent=(2.0, 1.0))
    with pytest.raises(InputError, match=r"extent \(2.0, 1.0\); expected \(1.0, 1.0\)"):
        run(tmp_path, **COARSE, initial=Surrogate(description, first.operator))


def test_a_named_model_that_is_not_handed_over_is_not_ignored(tmp_path):
    given = {"warm_start": "models:/mno-darcy/3#0123456789ab"}
    config = TrainConfig(**(CONFIG.model_dump() | given))
    with pytest.raises(InputError, match="`initial` is not given"):
        run(tmp_path, **COARSE, config=config)
