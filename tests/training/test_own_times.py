"""Samples whose frames have times of their own: what is learned, predicted and refused."""

import dataclasses

import numpy as np
import pytest
import torch
import zarr
from relaxing_problem import FIELDS, FRAMES, MODEL, TRAINING, VALIDATION, run, without_times
from runner import encoded

from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.core.observing import Sensor
from mno.data.parts import seen
from mno.evaluation.config import EvaluateConfig, IntervalConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.evaluation.tools import measure_tools
from mno.surrogate.following import Run
from mno.surrogate.predictions import predict_store
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import Windows
from mno.training.problem import continued, describe

TASK = TaskConfig(history=2, time="axis", predict="change")
INTERVAL = np.diff(TRAINING.fields["elapsed"]).mean(dtype=np.float64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return run(tmp_path_factory.mktemp("work"), TASK, unroll=3)


def given_of(split, frames=2):
    return split.fields | {"temperature": split.fields["temperature"][:, :frames]}


def test_what_depends_on_the_intervals_is_learned_with_them_alone(trained, tmp_path):
    surrogate, history = trained
    blind = {"training": without_times(TRAINING), "validation": without_times(VALIDATION)}
    _, ignored = run(tmp_path, TASK, unroll=3, **blind)
    ours, theirs = (h.best.validation_relative_l2 for h in (history, ignored))
    assert ours < 0.2 * theirs
    forecast = surrogate.description.forecast
    assert forecast.interval == pytest.approx(INTERVAL) and not forecast.intervals


def test_predictions_are_of_the_times_that_are_given(trained, tmp_path):
    surrogate, history = trained
    surrogate.save(tmp_path)
    loaded, given = Surrogate.load(tmp_path), given_of(VALIDATION)
    assert loaded.description == surrogate.description
    truth = VALIDATION.fields["temperature"][:, 2:]
    found = loaded.predict(given)["temperature"]
    errors = np.linalg.norm(found - truth, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
    assert errors.mean() == pytest.approx(history.best.validation_relative_l2, rel=1e-3)
    late = given["elapsed"] + 1000.0  # from any beginning
    np.testing.assert_allclose(
        loaded.predict(given | {"elapsed": late})["temperature"], found, rtol=1e-3
    )
    twice = loaded.predict(given | {"elapsed": 2 * given["elapsed"]})["temperature"]
    assert (twice[:, -1] < 0.9 * found[:, -1]).all()
    assert loaded.predict(given, steps=3)["temperature"].shape[1] == 3
    with pytest.raises(InputError, match="field elapsed .*expected numbers of shape"):
        loaded.predict(given, steps=7)
    with pytest.raises(InputError, match="elapsed: times of sample 0 do not ascend: frame 1"):
        loaded.predict(given | {"elapsed": -given["elapsed"]})
    with pytest.raises(InputError, match="beside the field elapsed"):
        loaded.predict(given, times=np.arange(8.0))


def test_windows_keep_the_intervals_of_their_frames(trained):
    description, fields = trained[0].description, encoded(trained[0].description, VALIDATION)
    cut = Windows(("temperature", "elapsed"), 4, lambda _: np.array([0, 1, 2, 3, 4]))
    batch = description.batch(cut(fields, torch.arange(5), 0))
    expected = np.diff(VALIDATION.fields["elapsed"]) / INTERVAL
    for row in range(5):
        np.testing.assert_allclose(batch.intervals[row, 1:], expected[row, row:][:3], rtol=1e-4)
        assert batch.intervals[row, 0] == 1.0


def test_evaluation_predicts_at_the_samples_own_times(trained):
    surrogate, history = trained
    test = dataclasses.replace(VALIDATION, name="test")
    found = evaluate(surrogate, test, mean_fields(TRAINING), EvaluateConfig())
    error = found.metrics()["relative_l2"]
    assert error == pytest.approx(history.best.validation_relative_l2, rel=1e-3)
    with pytest.raises(InputError, match="times of their own.*train again"):
        evaluate(surrogate, without_times(test), mean_fields(TRAINING), EvaluateConfig())


def test_a_store_is_predicted_at_its_times(trained, tmp_path):
    store = zarr.open_group(tmp_path / "in.zarr", mode="w")
    for field in FIELDS:
        store.create_array(field.name, data=VALIDATION.fields[field.name])
    store.create_array("time", data=np.arange(FRAMES) * 10.0)
    predict_store(trained[0], tmp_path / "in.zarr", tmp_path / "out.zarr", 2, lambda *_: None)
    out = zarr.open_group(tmp_path / "out.zarr", mode="r")
    expected = trained[0].predict(given_of(VALIDATION))["temperature"]
    np.testing.assert_allclose(out["temperature"][:], expected, rtol=1e-5)
    assert np.array_equal(out["elapsed"][:], VALIDATION.fields["elapsed"][:, 2:])
    assert out["elapsed"].attrs["units"] == "s"


def test_all_at_once_and_an_observer_know_the_times(tmp_path):
    task = TaskConfig(history=2, time="axis", scheme="horizon")
    _, history = run(tmp_path / "horizon", task)
    assert history.best.validation_relative_l2 < 0.3 * history.records[0].validation_relative_l2
    task = TaskConfig(kind="observe", sensors={"temperature": Sensor(noise=0.01, missing=0.2)})
    training, validation = (seen(s, "fields", 0, task.sensors) for s in (TRAINING, VALIDATION))
    surrogate, history = run(
        tmp_path / "observer", task, training=training, validation=validation, epochs=8
    )
    assert history.best.validation_relative_l2 < history.records[0].validation_relative_l2
    given = surrogate.description.given(validation.fields)
    whole = surrogate.predict(given)["temperature"]
    spread = surrogate.predict(given | {"elapsed": 3 * given["elapsed"]})["temperature"]
    assert not np.allclose(whole, spread, rtol=1e-3)
    evenly = measure_tools(
        ["kalman_filter"], training, validation, validation, surrogate.description, IntervalConfig()
    )
    assert "at equal distances alone" in str(evenly[0]["why"])
    follower, frames = Run(surrogate, {"x": given["x"][0]}), []
    for frame in range(FRAMES):
        read = {"temperature_read": given["temperature_read"][0, frame]}
        told = follower.told(float(given["elapsed"][0, frame]), read)
        frames.append(told["temperature"])
    np.testing.assert_allclose(np.stack(frames), whole[0], rtol=1e-3, atol=1e-4)


def test_a_warm_start_keeps_what_an_interval_is(trained):
    other = dataclasses.replace(
        TRAINING, fields=TRAINING.fields | {"elapsed": 1.1 * TRAINING.fields["elapsed"]}
    )
    fresh, initial = describe(other, MODEL, TASK), trained[0].description
    assert fresh.forecast.interval == pytest.approx(1.1 * INTERVAL)
    assert continued(initial, fresh) == initial
    with pytest.raises(InputError, match="times={'elapsed': 's'}"):
        continued(initial, describe(without_times(TRAINING), MODEL, TASK))


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\(elapsed\), at unequal distances: set task.time=axis"):
        run(tmp_path, TaskConfig(history=2))
    falling = dataclasses.replace(
        TRAINING, fields=TRAINING.fields | {"elapsed": -TRAINING.fields["elapsed"]}
    )
    with pytest.raises(InputError, match="elapsed of the train split of sample 0 do not ascend"):
        run(tmp_path, TASK, training=falling)
