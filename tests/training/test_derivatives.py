"""Derivatives of solvers: stored beside solutions, matched in training, refused elsewhere."""

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray

from mno.core.errors import InputError, MnoError
from mno.core.fields import RATE
from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.generate.work import WorkFolder
from mno.data.reading import open_split, open_splits
from mno.nn.config import ModelConfig
from mno.nn.mixers import MIXERS
from mno.scenarios.base import make_scenario, scenario_class
from mno.training.batches import TrainingSamples, changes_of
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.objective import predict_batch, predict_rates
from mno.training.problem import describe, fingerprint

DIRECTIONS = 3
GENERATE = {
    "samples": 20, "resolution": 8, "shard_size": 8, "seed": 0, "derivatives": DIRECTIONS,
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
}  # fmt: skip
MODEL = ModelConfig(width=8, layers=1, d_state=2, mixer=["softmax"])
CONFIG = TrainConfig(epochs=4, batch_size=4, learning_rate=3e-3, derivatives=0.5, threads=1)
CASES = {
    "darcy": {},
    "burgers": {"viscosity_high": 0.1},
    "darcy_ring": {},
    "furnace": {"frames": 4},
}


def made(folder, scenario, **changes):
    cls = scenario_class(scenario)
    given = cls.Parameters.model_validate(CASES.get(scenario, {}))
    resolution = 32 if scenario == "furnace" else 8
    config = GenerateConfig.model_validate({**GENERATE, "resolution": resolution, **changes})
    plan = make_plan(cls, given, config, "code", folder)
    generate(plan, folder / "work", folder / "data", ExecutionConfig())
    return folder / "data"


@pytest.fixture(scope="module", params=CASES)
def dataset(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def darcy(tmp_path_factory):
    return made(tmp_path_factory.mktemp("darcy"), "darcy")


def task_of(split):
    return TaskConfig(history=1, scheme="horizon")


def model_of(split):
    points = bool(split.schema.coordinates)
    return MODEL.model_copy(update={"path": ["bidirectional"]}) if points else MODEL


def test_rates_lie_beside_solutions_and_are_what_differences_are(dataset):
    training, validation = open_splits(dataset, "train", "validation")
    schema, fields = training.schema, training.fields
    scenario = make_scenario(schema.scenario, schema.resolution, dict(schema.parameters))
    moving = [f.name for f in schema.fields]
    assert set(training.rates) == set(moving) and not validation.rates
    states = {f.name for f in schema.fields if f.role == "state"}
    given = {f.name: fields[f.name][0] for f in (*schema.inputs, *schema.coordinates)}
    given = {n: x[0] if n in states else x for n, x in given.items()}
    for k in range(DIRECTIONS):
        rates = {n: training.rates[n][0, k].astype(float) for n in moving}
        along = {n: rates[n][0] if n in states else rates[n] for n in moving if n in given}
        most = max(
            np.abs(d / (np.abs(given[n]) + 1e-9)).max() for n, d in along.items() if n != "power"
        )
        step, ends = 1e-2 / most, []
        for sign in (step, -step):
            moved = {n: (given[n] + sign * d).astype(np.float32) for n, d in along.items()}
            ends.append(scenario.solve({**given, **moved}))
        for name in (f.name for f in schema.outputs):
            found = (ends[0][name].astype(float) - ends[1][name]) / (2 * step)
            off = np.linalg.norm(found - rates[name])
            assert off < 2e-2 * np.linalg.norm(rates[name])


def test_other_readers_of_a_dataset_see_the_samples_alone(darcy, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = xarray.open_zarr(darcy)
    assert stored[f"{RATE}pressure"].dims == ("sample", "direction", "x", "y")
    missing = np.isnan(stored[f"{RATE}pressure"].values).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(missing, stored["split"].values != "train")
    plain = made(tmp_path, "darcy", derivatives=None)
    ours, theirs = (open_split(store, "train").load() for store in (darcy, plain))
    assert ours.schema.fields == theirs.schema.fields
    assert [a.name for a in ours.schema.axes] == [a.name for a in theirs.schema.axes]
    np.testing.assert_array_equal(ours.fields["permeability"], theirs.fields["permeability"])
    np.testing.assert_allclose(ours.fields["pressure"], theirs.fields["pressure"], rtol=1e-5)


def test_rates_count_where_the_disk_may_be_too_small(tmp_path):
    cls, free = scenario_class("darcy"), shutil.disk_usage(tmp_path).free
    samples = free // (4 * 2 * 2 * 4 * 64**2)  # both fields, with as much to spare: a quarter of it
    folders = []
    for derivatives in (None, 10):
        changes = {"samples": samples, "shard_size": samples, "derivatives": derivatives}
        config = GenerateConfig.model_validate({**GENERATE, "resolution": 64, **changes})
        folders.append(WorkFolder(tmp_path, make_plan(cls, cls.Parameters(), config, "code")))
    folders[0].require_space([0])
    with pytest.raises(MnoError, match="GB free; .* samples may need"):
        folders[1].require_space([0])


def test_shards_do_not_change_rates(darcy, tmp_path):
    other = made(tmp_path, "darcy", shard_size=20)
    ours, theirs = (open_split(store, "train").load().rates for store in (darcy, other))
    for name, rates in ours.items():
        np.testing.assert_array_equal(rates, theirs[name])


def test_each_epoch_mixes_the_directions_of_a_sample_anew_all_fields_alike(darcy):
    training, _ = open_splits(darcy, "train", "validation")
    description = describe(training, MODEL, task_of(training))
    samples = TrainingSamples(
        training, description.normaliser, changes_of(training, description, CONFIG, seed=0)
    )
    std = description.normaliser.std
    kept = {n: np.asarray(x, dtype=float) for n, x in training.rates.items()}

    def shares(name, numbers, epoch):
        rates = samples.batch(np.array(numbers), epoch)[RATE + name].numpy() * std[name]
        of = [kept[name][number].reshape(DIRECTIONS, -1).T for number in numbers]
        found = [
            np.linalg.lstsq(directions, rate.ravel(), rcond=None)
            for directions, rate in zip(of, rates, strict=True)
        ]
        for answer, rate in zip(found, rates, strict=True):
            assert answer[1] < 1e-9 * (rate**2).sum()  # left over: nothing else is in it
        return np.array([answer[0] for answer in found])

    numbers = list(range(len(training)))
    given, solved = (shares(name, numbers, 0) for name in ("permeability", "pressure"))
    np.testing.assert_allclose(given, solved, atol=1e-4)
    np.testing.assert_allclose(shares("pressure", [7, 2], 0), solved[[7, 2]], atol=1e-5)
    later = np.concatenate([shares("pressure", numbers, epoch) for epoch in range(1, 30)])
    assert np.linalg.matrix_rank(np.concatenate([solved, later])) == DIRECTIONS
    assert not np.isclose(later[: len(numbers)], solved).any()
    np.testing.assert_allclose(later.T @ later / len(later), np.eye(DIRECTIONS) / 3, atol=0.1)


def test_rates_of_a_prediction_are_what_differences_of_predictions_are(dataset):
    training, _ = open_splits(dataset, "train", "validation")
    description = describe(training, model_of(training), task_of(training))
    torch.manual_seed(0)
    operator = description.build().double()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    changes = changes_of(training, description, CONFIG, seed=0)
    batch = TrainingSamples(training, description.normaliser, changes).batch(np.arange(4), 0)
    batch = {name: field.double() for name, field in batch.items()}

    def predicted(sign):
        moved = {
            n: x + sign * batch.get(RATE + n, 0 * x)
            for n, x in batch.items()
            if not n.startswith(RATE)
        }
        seen = description.batch(description.given(moved))
        return predict_batch(operator, description, moved, seen).fields

    _, apart = predict_rates(
        operator, description, batch, description.batch(description.given(batch))
    )
    ends = [predicted(step) for step in (1e-4, -1e-4)]
    truth = description.truth({n: batch[RATE + n] for n in description.outputs})
    off = [
        ((ends[0][n] - ends[1][n]) / 2e-4 - rate).flatten(1).norm(dim=1)
        for n, rate in truth.items()
    ]
    size = [rate.flatten(1).norm(dim=1) for rate in truth.values()]
    expected = torch.stack(off).norm(dim=0) / torch.stack(size).norm(dim=0)
    torch.testing.assert_close(apart, expected, rtol=1e-4, atol=1e-6)


def test_training_that_is_told_rates_meets_them_better(darcy, tmp_path):
    training, validation = open_splits(darcy, "train", "validation")
    model, task = model_of(training), task_of(training)

    def off(weight):
        config = CONFIG.model_copy(update={"epochs": 60, "derivatives": weight})
        surrogate, _ = train(
            training, validation, model=model, config=config, task=task, seed=0,
            work=tmp_path / str(weight), quiet=True,
        )  # fmt: skip
        description = surrogate.description
        changes = changes_of(training, description, CONFIG, seed=0)
        batch = TrainingSamples(training, description.normaliser, changes).batch(np.arange(12), 0)
        seen = description.batch(description.given(batch))
        return predict_rates(surrogate.operator, description, batch, seen)[1].mean().item()

    assert off(0.5) < 0.8 * off(0.0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_whatever_mixes_learns_from_rates(mixer, darcy, tmp_path):
    training, validation = open_splits(darcy, "train", "validation")
    model = MODEL.model_copy(update={"mixer": [mixer]})

    def error(weight):
        config = CONFIG.model_copy(update={"epochs": 1, "derivatives": weight})
        _, history = train(
            training, validation, model=model, config=config, task=task_of(training), seed=0,
            work=tmp_path / str(weight), quiet=True,
        )  # fmt: skip
        return history.best.validation_relative_l2

    assert np.isfinite(error(0.5)) and error(0.5) != error(0.0)


def test_rates_count_for_the_fingerprint_only_where_they_are_used(darcy):
    training, validation = open_splits(darcy, "train", "validation")
    description = describe(training, MODEL, TaskConfig())
    doubled = replace(training, rates={n: 2 * x for n, x in training.rates.items()})

    def digest(split, weight):
        config = CONFIG.model_copy(update={"derivatives": weight})
        return fingerprint(description, (split, validation), config, 0, None)

    assert digest(training, 0.5) != digest(doubled, 0.5)
    assert digest(training, 0.0) == digest(doubled, 0.0)


def test_what_has_no_derivatives_is_refused_in_one_line(darcy, tmp_path):
    with pytest.raises(InputError, match=r"derivatives=3, but diffusion_reaction has no .* choose"):
        made(tmp_path, "diffusion_reaction")
    cls = scenario_class("darcy")
    channel = cls.Parameters(inlet_pressure=1.0)
    plan = make_plan(cls, channel, GenerateConfig.model_validate(GENERATE), "code")
    with pytest.raises(InputError, match="darcy has no derivatives as it is set"):
        generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig())
    assert not (tmp_path / "data").exists()
    training, validation = open_splits(darcy, "train", "validation")
    plain = replace(training, rates={})
    with pytest.raises(InputError, match=r"generate.derivatives=8, if the scenario has"):
        train(plain, validation, model=MODEL, config=CONFIG, seed=0, work=tmp_path / "t")


def test_predictions_that_follow_each_other_have_none(tmp_path):
    training, validation = open_splits(made(tmp_path, "furnace"), "train", "validation")
    with pytest.raises(InputError, match=r"predictions made at once; set task.scheme=horizon"):
        train(
            training, validation, model=MODEL, config=CONFIG, seed=0, work=tmp_path / "t",
            task=TaskConfig(history=1, scheme="rollout"),
        )  # fmt: skip
