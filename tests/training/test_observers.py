"""Observers: what they are given, what training makes of it, and the best that could be told."""

import dataclasses

import numpy as np
import pytest
import torch
from rod_problem import FIELDS, FRAMES, POINTS, make_split, schema
from runner import encoded

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import TaskConfig
from mno.core.observing import READ, Sensor, observing_of
from mno.core.readings import from_points
from mno.data.parts import seen
from mno.data.reading import Split
from mno.evaluation.filters import kalman_filter
from mno.evaluation.kalman_peer import fit_kalman_filter
from mno.evaluation.linear_state_space import (
    Dynamics,
    Gaussian,
    LinearStateSpace,
    Sensors,
    States,
)
from mno.evaluation.simple_peers import Peer
from mno.nn.config import ModelConfig
from mno.surrogate.description import INTERVALS
from mno.surrogate.following import Run
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import Readings, changes_of
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.problem import describe
from tests.support.furnace_runs import runs

SENSORS = {"temperature": Sensor(noise=0.02, missing=0.1, every=2)}
TASK = TaskConfig(kind="observe", sensors=SENSORS, hidden=["loss"])
MODEL = ModelConfig(width=8, layers=1, mixer=["softmax"], heads=2)


def as_seen(split, task=TASK):
    return seen(split, task.part, sensors=task.sensors, hidden=task.hidden)


def observer(task=TASK, split=None, model=MODEL):
    torch.manual_seed(0)
    split = split or as_seen(make_split("train", 12, 0), task)
    description = describe(split, model, task)
    return Surrogate(description, description.build())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TrainConfig(epochs=20, batch_size=4, learning_rate=0.01, warmup_fraction=0.0)
    splits = (as_seen(make_split(n, 24, k)) for k, n in enumerate(("train", "validation")))
    work = tmp_path_factory.mktemp("work")
    return train(*splits, model=MODEL, config=config, seed=0, task=TASK, work=work, quiet=True)


def test_a_sensor_reads_with_its_faults_and_nothing_else():
    values, rng = np.linspace(0.0, 1.0, 400 * 50).reshape(400, 50), np.random.default_rng
    assert np.array_equal(Sensor().read(values, rng(0)), values.astype(np.float32))
    noise = Sensor(noise=0.5).read(values, rng(0)) - values
    assert np.std(noise) == pytest.approx(0.5, rel=0.03)
    drift = Sensor(drift=2.0).read(values, rng(0)) - values
    assert np.abs(drift[0]).max() < 1e-6
    assert np.std(drift[-1]) == pytest.approx(2.0, rel=0.3)
    np.testing.assert_allclose(drift[200], drift[-1] * 200 / 399, atol=1e-5)
    assert np.isnan(Sensor(missing=0.2).read(values, rng(0))).mean() == pytest.approx(0.2, rel=0.1)
    gone = np.isnan(Sensor(dead=0.5).read(values, rng(0)))
    assert gone.any(axis=0).mean() == pytest.approx(0.5, abs=0.2)
    assert np.all(np.diff(gone.astype(int), axis=0) >= 0)  # the dead stay dead
    some = np.isnan(Sensor(every=5).read(values, rng(0)))
    assert np.flatnonzero(~some[0]).tolist() == list(range(2, 50, 5))


def test_what_is_read_of_a_sample_is_its_own_and_always_the_same():
    whole = as_seen(make_split("test", 6, 1))
    some = as_seen(make_split("test", 6, 1).take(np.array([4, 1])))
    read = whole.fields["temperature" + READ]
    assert np.array_equal(some.fields["temperature" + READ], read[[4, 1]], equal_nan=True)
    assert not np.array_equal(read[0], read[1], equal_nan=True)


def test_hidden_inputs_are_told_at_every_frame_and_not_given():
    split = as_seen(make_split("train", 3, 0))
    roles = {field.name: field.role for field in split.schema.fields}
    assert roles == {
        "power": "input", "loss": "output", "temperature": "output", "temperature_read": "input"
    }  # fmt: skip
    loss = make_split("train", 3, 0).fields["loss"]
    assert split.fields["loss"].shape == (3, FRAMES, POINTS)
    assert np.array_equal(split.fields["loss"], np.broadcast_to(loss[:, None, None], (3, 6, 8)))


def test_of_readings_the_plants_own_point_tells_what_is_hidden():
    plain = runs("train", 0)
    said = {"thermocouple_temperature": {"noise": 1.0}}
    split = seen(plain, "fields", sensors=said, hidden=["wear", "thermocouple_lag"])
    given = from_points(split.schema.readings, split.fields)
    drawn = from_points(plain.schema.readings, plain.fields)
    frames = given["wear"].shape[1]
    assert given["wear"].shape == (4, frames)
    assert np.array_equal(given["wear"][:, 0], plain.fields["wear"])
    lag = drawn["thermocouple_lag"]
    assert np.array_equal(given["thermocouple_lag"], np.repeat(lag[:, None], frames, axis=1))
    read = given["thermocouple_temperature_read"]
    assert read.shape == drawn["thermocouple_temperature"].shape
    assert 0.0 < np.nanstd(read - drawn["thermocouple_temperature"]) < 3.0


@pytest.mark.parametrize(
    ("sensors", "hidden", "words"),
    [
        ({}, (), "nothing says what is read"),
        ({"pressure": {}}, (), "task.sensors names pressure; expected some of temperature"),
        ({"temperature": {}}, ("power",), "task.hidden names power; expected some of loss"),
    ],
)
def test_what_is_not_there_is_refused(sensors, hidden, words):
    with pytest.raises(InputError, match=words):
        observing_of(FIELDS, sensors, hidden)


def test_what_a_plant_hides_is_left_out_where_it_is_not_looked_at():
    said = {"sensors": {"temperature": {}}, "hidden": ["loss", "stiffness"]}
    assert observing_of(FIELDS, {}, (), said).hidden == ("loss",)


def test_without_fields_over_time_nothing_is_observed():
    with pytest.raises(InputError, match="tells fields over time, and there are none"):
        observing_of(FIELDS[1:2], {"temperature": {}}, [])


def test_what_others_are_measured_from_cannot_be_hidden():
    fields = [
        dataclasses.replace(f, scale="less loss") if f.name == "temperature" else f for f in FIELDS
    ]
    with pytest.raises(InputError, match="loss, which other fields are measured from"):
        observing_of(fields, {"temperature": {}}, ["loss"])


def test_training_lowers_the_error_and_the_model_is_kept(trained, tmp_path):
    surrogate, history = trained
    first, best = history.records[0], history.best
    assert best.validation_relative_l2 < 0.7 * first.validation_relative_l2
    surrogate.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    assert loaded.description == surrogate.description
    given = surrogate.description.given(as_seen(make_split("test", 3, 5)).fields)
    for name, field in surrogate.predict(given).items():
        assert np.array_equal(field, loaded.predict(given)[name])
        assert field.shape == (3, FRAMES, POINTS)


def test_no_answer_changes_with_what_is_read_later():
    surrogate = observer()
    given = surrogate.description.given(as_seen(make_split("test", 3, 5)).fields)
    later = {n: np.concatenate([a[:, :3], 2 * a[:, 3:]], axis=1) for n, a in given.items()}
    one, other = surrogate.predict(given), surrogate.predict(later)
    for name in one:
        assert np.array_equal(one[name][:, :3], other[name][:, :3])
        assert not np.array_equal(one[name][:, 3:], other[name][:, 3:])


def test_a_run_that_is_followed_gets_the_answers_of_the_whole(trained, tmp_path):
    surrogate, _ = trained
    given = surrogate.description.given(as_seen(make_split("test", 1, 5)).fields)
    times = np.array([0.0, 0.2, 0.7, 1.1, 1.2, 3.0])
    whole, run = surrogate.predict(given, times=times), Run(surrogate, {})
    for frame, time in enumerate(times):
        if frame == 3:  # goes on in another process
            run.save(tmp_path / "run", "model", line="7")
            run, told = Run.load(tmp_path / "run", surrogate, "model")
            assert told == {"line": "7"}
            assert (run.time, run.frames) == (0.7, 3)
        found = run.told(time, {name: field[0, frame] for name, field in given.items()})
        for name, field in found.items():
            np.testing.assert_allclose(field, whole[name][0, frame], rtol=1e-5, atol=1e-6)


def test_a_run_refuses_what_it_cannot_go_on_with(trained, tmp_path):
    surrogate, _ = trained
    run = Run(surrogate, {})
    reading = {"power": np.zeros(POINTS), "temperature_read": np.full(POINTS, np.nan)}
    run.told(1.0, reading)
    for time in (1.0, 0.5, np.nan):
        with pytest.raises(InputError, match="not later than the last one, at 1"):
            run.told(time, reading)
    with pytest.raises(InputError, match=r"a reading has \['power'\]; this model takes exactly"):
        run.told(2.0, {"power": np.zeros(POINTS)})
    with pytest.raises(InputError, match="field power of a reading has shape"):
        run.told(2.0, reading | {"power": np.zeros(3)})
    with pytest.raises(InputError, match="power .*not finite; .*of fields that may be missing"):
        run.told(2.0, reading | {"power": np.full(POINTS, np.nan)})
    with pytest.raises(InputError, match=r"of the run as a whole there are \['loss'\]"):
        Run(surrogate, {"loss": 0.1})
    run.save(tmp_path / "run", "one")
    with pytest.raises(InputError, match="is the state of another model"):
        Run.load(tmp_path / "run", surrogate, "other")
    (tmp_path / "run").write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no run that can be read"):
        Run.load(tmp_path / "run", surrogate, "one")


def test_of_fields_beside_readings_the_readings_alone_are_remembered():
    plain = runs("train", 0, part="both")
    said = {"thermocouple_temperature": Sensor(noise=1.0)}
    task = TaskConfig(kind="observe", part="both", sensors=said, hidden=["wear"])
    split = seen(plain, "fields", sensors=task.sensors, hidden=task.hidden)
    surrogate = observer(task, split)
    description = surrogate.description
    points = split.fields["wear"].shape[-1]
    given = from_points(split.schema.readings, description.given(split.fields), split.schema.cells)
    run = Run(surrogate, {n: a[0] for n, a in given.items() if n not in description.forcings})
    whole = surrogate.predict(description.given(split.fields))
    whole = from_points(split.schema.readings, whole, split.schema.cells)
    for frame in range(3):  # readings alone, but for the last
        found = run.told(
            1800.0 * frame,
            {name: given[name][0, frame] for name in description.forcings},
            readings_alone=frame < 2,
        )
        assert ("temperature" in found) == (frame == 2)
        wear = whole["wear"][0, frame]
        np.testing.assert_allclose(found["wear"], wear, rtol=1e-4, atol=1e-6)
    for name, field in found.items():
        np.testing.assert_allclose(field, whole[name][0, 2], rtol=1e-4, atol=1e-3)
    assert found["temperature"].shape == split.schema.cells
    assert run.state.shape[2] == description.sources < points


def test_readings_are_drawn_anew_in_each_epoch_and_half_of_them_at_other_times():
    split = as_seen(make_split("train", 40, 0))
    description = observer(split=split).description
    fields = {
        n: torch.from_numpy(description.normaliser.encode(n, a, split.fields))
        for n, a in split.fields.items()
    }
    change = Readings(
        description.sensors, description.normaliser, description.outputs, ["power"], 0
    )
    numbers = torch.arange(40)
    first, second = (change(fields, numbers, epoch) for epoch in (0, 1))
    again = change({n: f[5:9] for n, f in fields.items()}, numbers[5:9], 0)
    for name, field in first.items():
        torch.testing.assert_close(field[5:9], again[name], equal_nan=True)
        assert name in ("loss",) or not torch.equal(field.nan_to_num(), second[name].nan_to_num())
    regular = (first[INTERVALS] == 1.0).all(dim=1)
    assert 10 <= int(regular.sum()) <= 30
    assert torch.equal(first["temperature"][regular], fields["temperature"][regular])
    assert (first[INTERVALS] > 0).all()
    assert (first[INTERVALS][:, 1:-1].sum(dim=1) <= FRAMES - 1 + 1e-4).all()


def test_readings_between_frames_at_unequal_distances_are_as_far_apart_as_they_were_read():
    split = as_seen(make_split("train", 40, 0))
    axes = [
        dataclasses.replace(a, points=a.points**2) if a.name == "time" else a
        for a in split.schema.axes
    ]
    split = dataclasses.replace(split, schema=dataclasses.replace(split.schema, axes=tuple(axes)))
    description = observer(split=split).description
    (change,) = changes_of(split, description, TrainConfig(), 0)
    fields = encoded(description, split)
    clock = torch.tensor((0.0, *description.forecast.intervals[1:])).cumsum(0)
    fields["temperature"] = clock[:, None].expand(40, FRAMES, POINTS)
    found = change(fields, torch.arange(40), 0)
    steps = found["temperature"][..., 0].diff(dim=1)
    torch.testing.assert_close(found[INTERVALS][:, 1:-1], steps.clamp_min(1e-3))
    assert 10 <= int((steps - clock.diff()).abs().amax(dim=1).lt(1e-6).sum()) <= 30


# A rod that loses heat at a known rate: linear, and its best observer is the Kalman filter.
SIZE, LONG, NOISE, PUSH = 6, 10, 0.3, 0.2


def diffusing():
    spread = np.eye(SIZE) + 0.25 * (np.eye(SIZE, k=1) + np.eye(SIZE, k=-1) - 2 * np.eye(SIZE))
    spread[0, 0] = spread[-1, -1] = 0.75
    return 0.9 * spread


def linear_runs(name, samples, seed):
    rng = np.random.default_rng([seed, 3])
    frames, power = [rng.normal(size=(samples, SIZE))], rng.normal(size=(samples, LONG, SIZE))
    for k in range(LONG - 1):
        pushed = 0.5 * power[:, k] + PUSH * rng.normal(size=(samples, SIZE))
        frames.append(frames[-1] @ diffusing().T + pushed)
    fields = {"power": power, "temperature": np.stack(frames, axis=1)}
    plain = schema()
    time, x = plain.axes
    axes = (
        dataclasses.replace(time, points=0.5 * np.arange(LONG), extent=(0.0, 0.5 * (LONG - 1))),
        dataclasses.replace(x, points=(np.arange(SIZE) + 0.5) / SIZE),
    )
    there = dataclasses.replace(plain, fields=(FIELDS[0], FIELDS[2]), axes=axes)
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, there, arrays, np.arange(samples))


def rms(predicted, truth):
    return float(np.sqrt(np.mean(np.square(predicted - truth))))


@pytest.mark.slow
def test_on_a_linear_plant_it_comes_near_to_the_exact_filter_and_not_below(tmp_path):
    task = TaskConfig(kind="observe", sensors={"temperature": Sensor(noise=NOISE, every=2)})
    training, validation, test = (
        as_seen(linear_runs(name, count, seed), task)
        for seed, (name, count) in enumerate((("train", 600), ("validation", 60), ("test", 400)))
    )
    model = ModelConfig(width=32, layers=2, mixer=["softmax"], heads=4)
    config = TrainConfig(
        epochs=40, batch_size=16, optimizer="muon", learning_rate=0.01, beta2=0.95, patience=1000
    )
    surrogate, _ = train(
        training, validation, model=model, config=config, seed=0, task=task, work=tmp_path,
        quiet=True,
    )  # fmt: skip
    read, truth = test.fields["temperature_read"].astype(float), test.fields["temperature"]
    there = ~np.isnan(read[0, 0])
    exact = LinearStateSpace(
        Dynamics(diffusing(), 0.5 * np.eye(SIZE), np.zeros(SIZE), PUSH**2 * np.eye(SIZE)),
        States(np.zeros(SIZE), np.eye(SIZE), np.eye(SIZE), np.zeros(SIZE)),
        Sensors(np.zeros(there.sum()), np.eye(SIZE)[there], NOISE**2 * np.eye(there.sum())),
        Gaussian(np.zeros(SIZE), np.eye(SIZE)),
    )
    beliefs = kalman_filter(exact, read[..., there], test.fields["power"].astype(float))
    best = rms(np.stack([belief.mean for belief in beliefs], axis=1), truth)
    given = surrogate.description.given(test.fields)
    ours = rms(surrogate.predict(given)["temperature"], truth)
    assert 0.98 * best < ours < 1.15 * best
    peer = fit_kalman_filter(training, validation, surrogate.description)
    assert 0.98 * best < rms(peer.predict(given)["temperature"], truth) < 1.1 * best


def cooling_runs(name, samples, seed):
    """Places that begin warm, as is given of them, and cool; of each run some are not there."""
    rng = np.random.default_rng([seed, 5])
    warm = rng.uniform(300.0, 600.0, (samples, SIZE))
    warm[rng.random(warm.shape) < 0.3] = np.nan
    decay = 0.8 ** np.arange(LONG)
    plain = linear_runs(name, samples, seed)
    fields = (
        Field("warm", "K", "temperature at the start", "input", ("x",), gaps=True),
        dataclasses.replace(FIELDS[2], gaps=True),
    )
    arrays = {"warm": warm, "temperature": 300.0 + decay[:, None] * (warm[:, None] - 300.0)}
    arrays = {key: field.astype(np.float32) for key, field in arrays.items()}
    return Split(name, dataclasses.replace(plain.schema, fields=fields), arrays, plain.indices)


def test_the_kalman_filter_begins_with_what_is_given_of_a_run_also_where_places_are_missing():
    task = TaskConfig(kind="observe", sensors={"temperature": Sensor(noise=1.0, every=3)})
    training, validation, test = (
        as_seen(cooling_runs(name, count, seed), task)
        for seed, (name, count) in enumerate((("train", 200), ("validation", 50), ("test", 50)))
    )
    description = describe(training, MODEL, task)
    peer = fit_kalman_filter(training, validation, description)
    wrong = peer.predict(description.given(test.fields))["temperature"] - test.fields["temperature"]
    assert np.sqrt(np.nanmean(wrong[:, 0] ** 2)) < 1.0  # of 87 K by which places differ
    assert np.sqrt(np.nanmean(wrong**2)) < 5.0


@pytest.mark.parametrize(("frames", "components"), [(5, 8), (1, None)])
def test_a_reading_of_few_values_leaves_fewer_components_to_the_kalman_filter(frames, components):
    sensors = {"temperature": Sensor(noise=0.02)}
    task = TaskConfig(kind="observe", sensors=sensors, hidden=["loss"])
    training, validation = (
        as_seen(make_split(name, 60, seed), task) for seed, name in enumerate(("train", "test"))
    )
    read = training.fields["temperature_read"]
    read[2:, :, 0] = read[:, frames:, 0] = np.nan
    peer = fit_kalman_filter(training, validation, describe(training, MODEL, task))
    if components:
        assert isinstance(peer, Peer) and peer.settings["components"] == components
    else:
        assert isinstance(peer, Absent) and "reading 0 has 2 values" in str(peer)
