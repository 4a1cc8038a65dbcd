"""Training from end to end on a small real problem, the parts of a step, and warm starts."""

import copy
import dataclasses
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from darcy_problem import make_darcy_split
from hypothesis import given
from hypothesis import strategies as st
from runner import as_they_are, weights_of
from smoothing_problem import CONFIG, MODEL, TRAINING, VALIDATION, make_split, run
from torch import nn

from mno.core.batch import Batch
from mno.core.device import DEVICE
from mno.core.errors import InputError, MnoError
from mno.data.loading import Loader, epoch_order
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import DESCRIPTION_FILE, Surrogate
from mno.training.batches import seed_epoch
from mno.training.config import TrainConfig
from mno.training.history import EpochRecord, History
from mno.training.step import averaging, learning_rate_factor


def error_of(surrogate, split):
    predicted = surrogate.predict({"source": split.fields["source"]})["temperature"]
    truth = split.fields["temperature"].astype(np.float64)
    norms = [np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (predicted - truth, truth)]
    return float(np.mean(norms[0] / norms[1]))


def altered(split, **fields):
    return replace(split, fields=split.fields | fields)


def config(**changes):
    return CONFIG.model_copy(update=changes)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    work = tmp_path_factory.mktemp("usual")
    return work, *run(work)


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(tmp_path, usual):
    _, first, first_history = usual
    second, second_history = run(tmp_path / "second")
    other, _ = run(tmp_path / "other", seed=1)
    assert weights_of(first) == weights_of(second)
    assert first_history == second_history
    assert weights_of(first) != weights_of(other)


def test_training_beats_predicting_the_mean_and_prints_nothing_but_progress(tmp_path, capfd):
    surrogate, history = run(tmp_path, epochs=40, patience=40)
    mean = TRAINING.fields["temperature"].mean()
    truth = VALIDATION.fields["temperature"]
    baseline = np.linalg.norm(truth - mean) / np.linalg.norm(truth)
    assert error_of(surrogate, VALIDATION) < 0.7 * baseline
    assert error_of(surrogate, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-4
    )
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert all(line.startswith("epoch ") for line in lines)
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, *range(4, 41, 4)]


def test_one_batch_is_learned_by_heart(tmp_path):
    batch = make_split("train", 2, seed=3)
    surrogate, history = run(
        tmp_path,
        training=batch,
        validation=batch,
        model=ModelConfig(width=32, layers=1, d_state=2),
        epochs=150,
        patience=150,
    )
    assert error_of(surrogate, batch) < 0.2 * history.records[0].train_relative_l2


def test_early_stopping_keeps_the_best_weights(tmp_path):
    # Validation data that contradict the training data: learning must make them worse.
    mean = VALIDATION.fields["temperature"].mean()
    contrary = altered(VALIDATION, temperature=2 * mean - VALIDATION.fields["temperature"])
    surrogate, history = run(
        tmp_path, validation=contrary, epochs=50, patience=3, learning_rate=1e-2
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
        run(tmp_path, epochs=3, seed=11)
    finally:
        hook.remove()
    expected = [epoch_order(len(source), 11, epoch) for epoch in range(3)]
    assert taken == np.concatenate(expected).tolist()


def test_a_finished_training_is_returned_and_observers_hear_every_epoch_again(tmp_path):
    live, later = [], []
    surrogate, history = run(tmp_path, observers=[lambda *told: live.append(told)])
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again, history_again = run(tmp_path, observers=[lambda *told: later.append(told)])
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert weights_of(again) == weights_of(surrogate)
    assert history_again == history
    assert live == later == [(r.epoch, r.metrics) for r in history.records]
    assert [epoch for epoch, _ in live] == list(range(1, 7))
    assert set(live[0][1]) == {"train_relative_l2", "validation_relative_l2", "learning_rate"}


def test_the_normaliser_and_the_description_come_from_the_training_split(usual):
    description = usual[1].description
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
    surrogate, _ = run(tmp_path, epochs=1, **splits)
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
        run(tmp_path, training=on_walls, validation=on_walls, residual_weight=0.1)


def test_a_batch_larger_than_the_split_is_one_step_per_epoch(tmp_path):
    _, history = run(tmp_path, batch_size=1000, epochs=2, warmup_fraction=0.0)
    assert [record.learning_rate for record in history.records] == pytest.approx([1e-2, 0.5e-2])


def test_training_leaves_the_process_and_the_folder_as_they_were(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    state = torch.get_rng_state()
    try:
        run(tmp_path / "work", threads=1, epochs=1)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["training", "validation"])
def test_values_that_are_not_finite_and_splits_without_samples_are_refused(tmp_path, which, value):
    split = {"training": TRAINING, "validation": VALIDATION}[which]
    field = split.fields["source"].copy()
    field[3, 1, 2] = value
    with pytest.raises(InputError, match=r"field source .* not finite .*sample 3") as caught:
        run(tmp_path, **{which: altered(split, source=field)})
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no sample"):
        run(tmp_path, **{which: make_split("validation", 0, seed=0)})


def test_a_diverging_training_stops_with_a_remedy_and_saves_nothing_of_it(tmp_path):
    with pytest.raises(MnoError, match="lower train.learning_rate") as caught:
        run(tmp_path, learning_rate=1e30)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_training_is_refused(usual):
    work, *_ = usual
    before = sorted(work.iterdir())
    with pytest.raises(InputError, match="other data, parameters or seed"):
        run(work, seed=1)
    assert sorted(work.iterdir()) == before


def test_a_model_that_cannot_be_built_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)  # as if it were not installed
    model = ModelConfig(backbone="fno", width=4, layers=1)
    with pytest.raises(InputError, match="section model: backbone='fno' needs .*neuraloperator"):
        run(tmp_path, model=model)


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_learning_rate_rises_once_then_falls_to_zero(num_steps, warmup_fraction):
    factors = [learning_rate_factor(s, num_steps, warmup_fraction) for s in range(num_steps)]
    warmup = min(round(warmup_fraction * num_steps), num_steps - 1)
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


def test_a_model_that_vanishes_at_the_walls_does_so_in_physical_units(tmp_path):
    trained, _ = run(tmp_path / "work", model=MODEL.model_copy(update={"walls": "zero"}), epochs=1)
    mean = trained.description.normaliser.mean
    assert mean["temperature"] == 0.0 and mean["source"] > 4.0
    edges = []
    for n in (8, 80, 240):  # the source does not change with the grid
        out = trained.predict({"source": np.ones((1, n, n))})["temperature"][0]
        edges.append(np.abs(out[0]).max() / np.abs(out).max())
    assert edges[1] < 0.25 * edges[0] and edges[2] < 0.5 * edges[1]
    trained.save(tmp_path)
    loaded, given = Surrogate.load(tmp_path), {"source": VALIDATION.fields["source"]}
    assert loaded.description.model.walls == "zero"
    assert np.array_equal(
        loaded.predict(given)["temperature"], trained.predict(given)["temperature"]
    )
    path = tmp_path / DESCRIPTION_FILE
    path.write_text(path.read_text().replace('"temperature": 0.0', '"temperature": 5.0'))
    with pytest.raises(InputError, match="normalised about .*expected 0"):
        Surrogate.load(tmp_path)


def history(*errors):
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


def test_the_average_forgets_its_beginning_and_then_keeps_its_decay():
    linear = nn.Linear(1, 1)
    average = averaging(linear, 0.5)
    assert not any(p.requires_grad for p in average.parameters())
    expected = linear.weight.item()
    for step in range(1, 30):
        with torch.no_grad():
            linear.weight.fill_(float(step))
        average.update_parameters(linear)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
        if step == 5:  # its steps are in its state
            state = copy.deepcopy(average.state_dict())
            average = averaging(linear, 0.5)
            average.load_state_dict(state)


def test_averaged_weights_are_validated_and_saved_and_training_goes_on_as_without(tmp_path, usual):
    _, plain, without = usual
    averaged, history = run(tmp_path, ema_decay=0.9)
    assert [r.train_relative_l2 for r in history.records] == [
        r.train_relative_l2 for r in without.records
    ]
    assert weights_of(averaged) != weights_of(plain)
    assert set(weights_of(averaged)) == set(weights_of(plain))
    assert error_of(averaged, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-4
    )


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9))
def test_steps_of_several_batches_are_counted(samples, batch_size, accumulate):
    steps = len(range(0, samples, batch_size)[::accumulate])
    assert config(batch_size=batch_size, accumulate=accumulate).steps_per_epoch(samples) == steps


@pytest.mark.parametrize("samples", [14, 13, 9])
def test_accumulated_batches_are_one_batch(tmp_path, samples):
    """Also where the last batch is shorter and the last step has fewer batches."""
    split = make_split("train", samples, seed=1)
    wide, expected = run(tmp_path / "wide", training=split, batch_size=6, epochs=3)
    narrow, found = run(tmp_path / "narrow", training=split, batch_size=2, accumulate=3, epochs=3)
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


def test_mixed_precision_learns_as_much_and_its_weights_are_validated_in_32_bits(tmp_path, usual):
    _, plain, in_32_bits = usual
    mixed, history = run(tmp_path, precision="bf16")
    assert weights_of(plain) != weights_of(mixed)
    assert all(p.dtype == torch.float32 for p in mixed.operator.parameters())
    assert error_of(mixed, VALIDATION) == pytest.approx(
        history.best.validation_relative_l2, rel=1e-5
    )
    assert history.best.validation_relative_l2 == pytest.approx(
        in_32_bits.best.validation_relative_l2, rel=0.1
    )


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"precision": "bf16"}])
def test_complex_weights_are_trained_too(tmp_path, options):
    pytest.importorskip("neuralop")
    model = MODEL.model_copy(update={"backbone": "fno", "modes": 3})
    trained, _ = run(tmp_path / "trained", model=model, epochs=2, **options)
    fresh = trained.description.build()
    weights = {n: p for n, p in trained.operator.named_parameters() if p.is_complex()}
    assert weights
    assert not any(torch.equal(p, fresh.get_parameter(n)) for n, p in weights.items())
    trained.save(tmp_path)
    assert weights_of(Surrogate.load(tmp_path)) == weights_of(trained)


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
def first(tmp_path_factory):
    """A surrogate trained at 8 x 8, read back as a registry would give it."""
    folder = tmp_path_factory.mktemp("first")
    surrogate, _ = run(folder / "work", **COARSE)
    surrogate.save(folder)
    return Surrogate.load(folder)


@pytest.mark.parametrize(
    "others",
    [
        FINE,
        {**COARSE, "seed": 2},
        {**COARSE, "model": MODEL.model_copy(update={"dropout": 0.5})},
        {**COARSE, "config": STANDSTILL.model_copy(update={"ema_decay": 0.9})},
    ],
    ids=["finer", "seed", "dropout", "average"],
)
def test_with_no_step_taken_it_answers_as_the_first_at_every_resolution(tmp_path, first, others):
    """The finer dataset changes neither normaliser nor reference spacing: one operator."""
    again, _ = run(tmp_path, **{"config": STANDSTILL, **others}, initial=first)
    for ours, theirs in zip(again.operator.parameters(), first.operator.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-6)
    if "config" not in others:  # an average is rounded
        assert weights_of(again) == weights_of(first)
        for split in (COARSE["validation"], FINE["validation"]):
            inputs = {"permeability": split.fields["permeability"]}
            same = (model.predict(inputs)["pressure"] for model in (again, first))
            assert np.array_equal(*same)
    model = others.get("model", first.description.model)
    assert again.description == dataclasses.replace(first.description, model=model)
    assert again.description.reference_spacing == pytest.approx((1 / 8, 1 / 8))


def test_fine_tuning_at_a_higher_resolution_lowers_the_error_there(tmp_path, first):
    _, before = run(tmp_path / "before", **FINE, config=STANDSTILL, initial=first)
    _, after = run(tmp_path / "after", **FINE, initial=first)
    _, fresh = run(tmp_path / "fresh", **FINE)
    assert after.best.validation_relative_l2 < before.best.validation_relative_l2
    assert after.records[0].train_relative_l2 < fresh.records[0].train_relative_l2


def test_the_initial_weights_are_part_of_what_a_training_is(tmp_path, first):
    run(tmp_path, **COARSE, config=STANDSTILL, initial=first)
    run(tmp_path, **COARSE, config=STANDSTILL, initial=first)
    other, _ = run(tmp_path / "other", **COARSE, config=STANDSTILL)
    other = Surrogate(first.description, other.operator)
    for initial in (other, None):
        with pytest.raises(InputError, match="other data, parameters or seed"):
            run(tmp_path, **COARSE, config=STANDSTILL, initial=initial)


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
    with pytest.raises(InputError, match=rf"{kind}={{'heat': 'K'}}; expected {kind}={{'p"):
        run(tmp_path, **COARSE, initial=Surrogate(description, first.operator))


def test_another_domain_is_refused(tmp_path, first):
    description = dataclasses.replace(first.description, extent=(2.0, 1.0))
    with pytest.raises(InputError, match=r"extent=\(2.0, 1.0\); expected extent=\(1.0, 1.0\)"):
        run(tmp_path, **COARSE, initial=Surrogate(description, first.operator))


def test_a_named_model_that_is_not_handed_over_is_not_ignored(tmp_path):
    given = {"warm_start": "models:/mno-darcy/3#0123456789ab"}
    config = TrainConfig(**(CONFIG.model_dump() | given))
    with pytest.raises(InputError, match="`initial` is not given"):
        run(tmp_path, **COARSE, config=config)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_trains_as_the_processor_does_and_its_weights_are_read_anywhere(
    usual, tmp_path, monkeypatch
):
    monkeypatch.setenv(DEVICE, "cuda")
    surrogate, history = run(tmp_path / "gpu")
    expected = usual[2].best.validation_relative_l2
    assert history.best.validation_relative_l2 == pytest.approx(expected, rel=0.1)
    assert {weight.device.type for weight in surrogate.operator.parameters()} == {"cpu"}
