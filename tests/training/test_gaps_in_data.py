"""Training on data with gaps: sensors at places of their own, and readings that are missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rod_problem import make_split as make_rod
from rod_problem import run as run_rod
from runner import CONFIG
from scattered_problem import make_split, run
from smoothing_problem import make_split as make_smoothing
from smoothing_problem import run as run_smoothing

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.data.reading import Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import corrupt
from mno.training.config import TrainConfig

SHARE = 0.3


def with_gaps(split: Split, *names: str, share: float = SHARE, seed: int = 7) -> Split:
    """Declare that fields may have gaps, and take a share of their values away."""
    rng = np.random.default_rng(seed)
    fields = dict(split.fields)
    for name in names:
        holes = rng.random(fields[name].shape) < share
        fields[name] = np.where(holes, np.float32(math.nan), fields[name])
    declared = tuple(replace(f, gaps=f.gaps or f.name in names) for f in split.schema.fields)
    return replace(split, fields=fields, schema=replace(split.schema, fields=declared))


def plate(name: str, samples: int, seed: int) -> Split:
    return with_gaps(make_split(name, samples, seed), "load", "deflection", seed=seed)


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory) -> Surrogate:
    config = CONFIG.model_copy(update={"epochs": 40})
    data = {"training": plate("train", 24, 1), "validation": plate("validation", 8, 2)}
    return run(tmp_path_factory.mktemp("gaps"), config=config, **data)[0]


def test_what_is_missing_is_told_of_inputs_alone(surrogate):
    assert surrogate.description.gaps == ("load",)
    assert surrogate.operator.num_inputs == 2


def test_a_model_learns_and_beats_the_mean_field(surrogate):
    test = plate("test", 10, 5)
    result = evaluate(surrogate, test, mean_fields(plate("train", 24, 1)), EvaluateConfig())
    metrics = result.metrics()
    assert metrics["relative_l2"] < 0.5 * metrics["baseline_relative_l2"]
    whole = make_split("test", 10, 5).fields["deflection"]  # also where it was never measured
    predicted = surrogate.predict(surrogate.description.given(test.fields))["deflection"]
    errors = np.linalg.norm(predicted - whole, axis=1) / np.linalg.norm(whole, axis=1)
    assert errors.mean() < 0.5 * metrics["baseline_relative_l2"]


def test_a_saved_model_predicts_the_same_with_gaps(surrogate, tmp_path):
    given = surrogate.description.given(plate("test", 4, 5).fields)
    surrogate.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    assert loaded.description.gaps == ("load",)
    expected = surrogate.predict(given)["deflection"]
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(loaded.predict(given)["deflection"], expected)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x", math.nan, r"field x has a value that is missing \(NaN\), first in sample 2"),
        ("x", math.inf, "field x has a value that is infinite, first in sample 2"),
        ("load", math.inf, "infinite.*finite numbers, or NaN where one is missing"),
    ],
)
def test_a_model_refuses_what_it_was_not_trained_on(surrogate, name, value, words):
    given = {n: f.copy() for n, f in surrogate.description.given(plate("t", 4, 5).fields).items()}
    given[name][2, 3] = value
    with pytest.raises(InputError, match=words) as caught:
        surrogate.predict(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        ("horizon", {}),
        ("rollout", {}),
        ("rollout", {"unroll": 3}),
        ("rollout", {"unroll": 3, "pushforward": True}),
    ],
)
def test_states_and_forcings_with_gaps_are_continued(tmp_path, scheme, change):
    names = ("power", "temperature")
    training = with_gaps(make_rod("train", 12, 1), *names)
    validation = with_gaps(make_rod("validation", 5, 2), *names, seed=8)
    config = TrainConfig(epochs=12, batch_size=4, learning_rate=1e-2, threads=1, **change)
    surrogate, history = run_rod(
        tmp_path,
        TaskConfig(history=2, scheme=scheme),
        config=config,
        training=training,
        validation=validation,
    )
    assert surrogate.description.gaps == names
    first = history.records[0].validation_relative_l2
    assert history.best.validation_relative_l2 < first
    predicted = surrogate.predict(surrogate.description.given(validation.fields))
    assert np.isfinite(predicted["temperature"]).all()


def test_an_outage_neither_stops_a_training_nor_counts_as_a_success(tmp_path):
    def data(samples_lost: int) -> dict[str, Split]:
        splits = {}
        for name, samples, seed in (("training", 12, 1), ("validation", 6, 2)):
            split = with_gaps(make_split(name, samples, seed), "deflection", share=0.0)
            split.fields["deflection"][:samples_lost] = math.nan
            splits[name] = split
        return splits

    whole, lost = (
        run(tmp_path / str(k), config=CONFIG.model_copy(update={"epochs": 1}), **data(k))[1]
        for k in (0, 5)
    )
    for name in ("train_relative_l2", "validation_relative_l2"):
        assert getattr(lost.records[0], name) > 0.5 * getattr(whole.records[0], name)


def test_the_h1_loss_trains_between_gaps(tmp_path):
    names = ("source", "temperature")
    data = {
        "training": with_gaps(make_smoothing("train", 12, 1), *names),
        "validation": with_gaps(make_smoothing("validation", 5, 2), *names),
    }
    config = CONFIG.model_copy(update={"epochs": 8, "loss": "h1"})
    _, history = run_smoothing(tmp_path, config=config, **data)
    losses = [record.train_loss for record in history.records]
    assert losses[-1] < losses[0]


def test_declared_gaps_without_any_learn_as_well(tmp_path):
    data = {
        "training": with_gaps(make_split("train", 12, 1), "load", share=0.0),
        "validation": with_gaps(make_split("validation", 5, 2), "load", share=0.0),
    }
    surrogate, history = run(tmp_path, **data)
    assert surrogate.description.gaps == ("load",)
    assert history.best.validation_relative_l2 < 1.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("load", math.inf, "field load of the train split has a value that is not finite"),
        ("x", math.nan, "field x of the train split has a value that is not finite"),
    ],
)
def test_only_fields_with_gaps_may_have_some_and_never_infinite_ones(tmp_path, name, value, words):
    training = with_gaps(make_split("train", 6, 1), "load", "x", share=0.0)
    training.fields[name][3, 2] = value
    with pytest.raises(InputError, match=f"{words}.*its sample 3"):
        run(tmp_path, training=training)


def test_a_number_per_sample_may_not_be_missing(tmp_path):
    training = with_gaps(make_rod("train", 6, 1), "loss", share=0.0)
    training.fields["loss"][4] = math.nan
    with pytest.raises(InputError, match="field loss of the train split .*its sample 4"):
        run_rod(tmp_path, TaskConfig(), training=training)


def test_a_field_without_any_value_is_refused(tmp_path):
    training = with_gaps(make_split("train", 6, 1), "load", share=1.0)
    with pytest.raises(InputError, match="field load of the train split has no value at all"):
        run(tmp_path, training=training)


def test_a_split_with_nothing_to_predict_is_refused(tmp_path):
    training = with_gaps(make_rod("train", 6, 1), "temperature", share=0.0)
    training.fields["temperature"][:, 1:] = math.nan
    with pytest.raises(InputError, match="train split has no value of temperature to compare"):
        run_rod(tmp_path, TaskConfig(history=1), training=training)


def test_a_residual_needs_all_inputs(tmp_path):
    data = {
        "training": with_gaps(make_smoothing("train", 6, 1), "source"),
        "validation": make_smoothing("validation", 3, 2),
    }
    config = CONFIG.model_copy(update={"residual_weight": 0.1})
    with pytest.raises(InputError, match="train.residual_weight=0.1 needs all values of the input"):
        run_smoothing(tmp_path, config=config, **data)


def test_a_warm_start_must_know_the_gaps(tmp_path, surrogate):
    plain, _ = run(tmp_path / "plain", config=CONFIG.model_copy(update={"epochs": 1}))
    gappy = {"training": plate("train", 8, 1), "validation": plate("validation", 4, 2)}
    with pytest.raises(InputError, match="knows no missing values of load"):
        run(tmp_path / "refused", initial=plain, **gappy)
    whole = make_split("train", 24, 1)  # none is missing, at the same places
    again, _ = run(tmp_path / "whole", initial=surrogate, training=whole)
    assert again.description.gaps == ("load",)


def test_the_normaliser_counts_what_is_present():
    values = np.random.default_rng(0).normal(5, 2, (4, 9)).astype(np.float32)
    values[values < 4] = math.nan
    found = Normaliser.fit({"u": values, "v": values}, about_zero=["v"])
    wide = values.astype(np.float64)
    assert found.mean == pytest.approx({"u": np.nanmean(wide), "v": 0.0})
    expected = {"u": np.nanstd(wide), "v": np.sqrt(np.nanmean(wide**2))}
    assert found.std == pytest.approx(expected)


def test_points_that_training_takes_away_are_told_of_where_gaps_are_known():
    fields = {"a": torch.full((5, 40, 50), 2.0), "b": torch.full((5, 3, 40, 50), 3.0)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = corrupt(Batch(fields, Grid((40, 50), (1.0, 1.0))), noise=0.1, mask=0.25, gaps=["b"])
    missing = seen.fields["a"] == 0
    assert missing.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(seen.fields["b"].isnan(), missing[:, None].expand(5, 3, 40, 50))


def test_a_training_may_take_further_points_away(tmp_path):
    data = {"training": plate("train", 12, 1), "validation": plate("validation", 5, 2)}
    config = CONFIG.model_copy(update={"epochs": 2, "input_mask": 0.4, "input_noise": 0.01})
    masked, _ = run(tmp_path / "masked", config=config, **data)
    plain, _ = run(tmp_path / "plain", config=CONFIG.model_copy(update={"epochs": 2}), **data)
    weights = plain.operator.state_dict()
    assert any(not torch.equal(weights[n], w) for n, w in masked.operator.state_dict().items())


@pytest.mark.parametrize("backbone", ["gnot", "oformer", "transolver"])
def test_other_backbones_train_on_gaps_too(tmp_path: Path, backbone):
    model = ModelConfig(backbone=backbone, mixer="own", width=8, layers=1, heads=2)
    data = {"training": plate("train", 12, 1), "validation": plate("validation", 5, 2)}
    _, history = run(tmp_path, model=model, config=CONFIG, **data)
    records = history.records
    assert records[-1].train_relative_l2 < records[0].train_relative_l2
