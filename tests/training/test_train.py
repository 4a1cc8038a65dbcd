"""Training from end to end, on a small real problem."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from darcy_problem import make_darcy_split
from runner import weights_of
from smoothing_problem import CONFIG, MODEL, TRAINING, VALIDATION, make_split, run
from torch import nn

from mno.core.batch import Batch
from mno.core.errors import InputError, MnoError
from mno.data.loading import epoch_order
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig


class Notebook:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, dict[str, float]]] = []

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        self.entries.append((epoch, metrics))


def error_of(surrogate, split) -> float:
    predicted = surrogate.predict({"source": split.fields["source"]})["temperature"]
    truth = split.fields["temperature"].astype(np.float64)
    norms = [np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (predicted - truth, truth)]
    return float(np.mean(norms[0] / norms[1]))


def altered(split, **fields):
    return replace(split, fields=split.fields | fields)


def config(**changes) -> TrainConfig:
    return CONFIG.model_copy(update=changes)


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(tmp_path):
    first, first_history = run(tmp_path / "first")
    second, second_history = run(tmp_path / "second")
    other, _ = run(tmp_path / "other", seed=1)
    assert weights_of(first) == weights_of(second)
    assert first_history == second_history
    assert weights_of(first) != weights_of(other)


def test_training_beats_predicting_the_mean(tmp_path):
    surrogate, history = run(tmp_path, config=config(epochs=40, patience=40))
    mean = TRAINING.fields["temperature"].mean()
    truth = VALIDATION.fields["temperature"]
    baseline = np.linalg.norm(truth - mean) / np.linalg.norm(truth)
    assert error_of(surrogate, VALIDATION) < 0.7 * baseline
    assert error_of(surrogate, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-4
    )


def test_one_batch_is_learned_by_heart(tmp_path):
    batch = make_split("train", 2, seed=3)
    surrogate, history = run(
        tmp_path,
        training=batch,
        validation=batch,
        model=ModelConfig(width=32, layers=1, d_state=2),
        config=config(epochs=150, patience=150),
    )
    assert error_of(surrogate, batch) < 0.2 * history.records[0].train_relative_l2


def test_early_stopping_keeps_the_best_weights(tmp_path):
    # Validation data that contradict the training data: learning must make them worse.
    mean = VALIDATION.fields["temperature"].mean()
    contrary = altered(VALIDATION, temperature=2 * mean - VALIDATION.fields["temperature"])
    surrogate, history = run(
        tmp_path, validation=contrary, config=config(epochs=50, patience=3, learning_rate=1e-2)
    )
    assert len(history) == history.best.epoch + 3 < 50
    assert error_of(surrogate, contrary) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-4
    )
    assert history.best.validation_relative_l2 < history.records[-1].validation_relative_l2


def test_each_epoch_takes_the_samples_in_the_order_of_its_seed_and_number(tmp_path):
    source = TRAINING.fields["source"]
    # One value is enough to tell which sample it is of.
    known = (source[:, 0, 0] - source.mean(dtype=np.float64)) / source.std(dtype=np.float64)
    taken: list[int] = []

    def watch(module: nn.Module, arguments: tuple) -> None:
        if module.training and arguments and isinstance(arguments[0], Batch):
            seen = arguments[0].fields["source"].numpy()[:, 0, 0]
            taken.extend(np.abs(seen[:, None] - known[None, :]).argmin(axis=1).tolist())

    hook = nn.modules.module.register_module_forward_pre_hook(watch)
    try:
        run(tmp_path, config=config(epochs=3), seed=11)
    finally:
        hook.remove()
    expected = [epoch_order(len(source), 11, epoch) for epoch in range(3)]
    assert taken == np.concatenate(expected).tolist()


def test_observers_hear_every_epoch_in_order_also_from_a_finished_training(tmp_path):
    live, later = Notebook(), Notebook()
    _, history = run(tmp_path, observers=[live])
    run(tmp_path, observers=[later])
    assert live.entries == [(r.epoch, r.metrics) for r in history.records]
    assert later.entries == live.entries
    assert [epoch for epoch, _ in live.entries] == list(range(1, 7))
    assert set(live.entries[0][1]) == {
        "train_relative_l2",
        "validation_relative_l2",
        "learning_rate",
    }


def test_a_finished_training_is_returned_without_training_again(tmp_path):
    surrogate, history = run(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again, history_again = run(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert weights_of(again) == weights_of(surrogate)
    assert history_again == history


def test_the_normaliser_and_the_description_come_from_the_training_split(tmp_path):
    surrogate, _ = run(tmp_path, config=config(epochs=1))
    description = surrogate.description
    assert description.normaliser.mean["source"] == pytest.approx(TRAINING.fields["source"].mean())
    assert description.normaliser.std["source"] == pytest.approx(TRAINING.fields["source"].std())
    assert description.inputs == {"source": "K"}
    assert description.outputs == {"temperature": "K"}
    assert description.extent == (1.0, 1.0)
    assert description.reference_spacing == pytest.approx((1 / 8, 1 / 8))
    assert description.model == MODEL


def test_points_off_the_middle_of_their_cells_are_known_to_the_operator(tmp_path):
    shifted = tuple(
        replace(axis, points=axis.points - share / 8)
        for axis, share in zip(TRAINING.schema.axes, (0.5, 0.0), strict=True)
    )
    schema = replace(TRAINING.schema, axes=shifted)
    splits = {
        name: replace(split, schema=schema)
        for name, split in (("training", TRAINING), ("validation", VALIDATION))
    }
    surrogate, _ = run(tmp_path, config=config(epochs=1), **splits)
    description = surrogate.description
    assert description.offset == (0.0, 0.5)
    assert description.grid((8, 8)).centres(0) == tuple(shifted[0].points)
    assert description.grid((16, 16)).centres(0) == tuple(i / 16 for i in range(16))
    assert description.grid((16, 16)).centres(1) == tuple((i + 0.5) / 16 for i in range(16))
    surrogate.save(tmp_path)
    assert Surrogate.load(tmp_path).description.grid((8, 8)) == description.grid((8, 8))


def test_points_at_uneven_distances_are_refused_in_one_line(tmp_path):
    x, y = TRAINING.schema.axes
    points = np.linspace(0.0, 1.0, 8)  # both ends: 1/7 apart on an extent of eight cells
    schema = replace(TRAINING.schema, axes=(replace(x, points=points), y))
    with pytest.raises(InputError, match="axis x has 8 points from 0 to 1 .* 0.125 apart"):
        run(tmp_path, training=replace(TRAINING, schema=schema))


def test_what_cannot_be_trained_on_such_points_is_refused_in_one_line(tmp_path):
    split = make_darcy_split("train", 4, seed=1)
    axes = tuple(replace(axis, points=axis.points - 1 / 16) for axis in split.schema.axes)
    on_walls = replace(split, schema=replace(split.schema, axes=axes))
    with pytest.raises(InputError, match="axis 0 lie from 0 to 0.875 .* within the walls"):
        run(tmp_path, training=on_walls, validation=on_walls, config=config(residual_weight=0.1))


def test_a_batch_larger_than_the_split_is_one_step_per_epoch(tmp_path):
    _, history = run(tmp_path, config=config(batch_size=1000, epochs=2, warmup_fraction=0.0))
    assert [record.learning_rate for record in history.records] == pytest.approx([1e-2, 0.5e-2])


def test_training_leaves_the_process_and_the_folder_as_they_were(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    state = torch.get_rng_state()
    try:
        run(tmp_path / "work", config=config(threads=1, epochs=1))
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(Path.cwd().iterdir()) == []


def test_nothing_but_progress_is_printed(tmp_path, capfd):
    run(tmp_path, config=config(epochs=40, patience=40))
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert all(line.startswith("epoch ") for line in lines)
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, *range(4, 41, 4)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["training", "validation"])
def test_values_that_are_not_finite_are_refused(tmp_path, which, value):
    split = {"training": TRAINING, "validation": VALIDATION}[which]
    field = split.fields["source"].copy()
    field[3, 1, 2] = value
    with pytest.raises(InputError, match=r"field source .* not finite .*sample 3") as caught:
        run(tmp_path, **{which: altered(split, source=field)})
    assert "\n" not in str(caught.value)


def test_a_diverging_training_stops_with_a_remedy_and_saves_nothing_of_it(tmp_path):
    with pytest.raises(MnoError, match="lower train.learning_rate") as caught:
        run(tmp_path, config=TrainConfig(**(CONFIG.model_dump() | {"learning_rate": 1e30})))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["training", "validation"])
def test_a_split_without_samples_is_refused(tmp_path, which):
    split = make_split("validation", 0, seed=0)
    with pytest.raises(InputError, match="holds no sample"):
        run(tmp_path, **{which: split})


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(InputError, match="seed=-1"):
        run(tmp_path, seed=-1)


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_training_is_refused(tmp_path, finished):
    run(tmp_path)
    if not finished:
        next(tmp_path.glob("finished.*")).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="other data, parameters or seed"):
        run(tmp_path, seed=1)
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_that_cannot_be_built_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)  # as if it were not installed
    model = ModelConfig(backbone="fno", width=4, layers=1)
    with pytest.raises(InputError, match="section model: backbone='fno' needs .*neuraloperator"):
        run(tmp_path, model=model)
