"""Training of models along time: any frames, any times, and what is learned from all of them."""

import dataclasses

import numpy as np
import pytest
import torch
from reaction_problem import (
    FRAMES,
    NAMES,
    TRAINING,
    VALIDATION,
    first_frames,
    make_reaction_split,
    run,
)
from rod_problem import TRAINING as ROD_TRAINING
from rod_problem import VALIDATION as ROD_VALIDATION
from rod_problem import run as run_rod
from runner import CONFIG, encoded

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import TaskConfig, forecast_of
from mno.data.parts import seen
from mno.nn.config import ModelConfig
from mno.surrogate.description import INTERVALS
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import Windows
from mno.training.objective import predict_batch

ROD = (ROD_TRAINING, ROD_VALIDATION)
TASKS = {
    "rollout": TaskConfig(history=2, time="axis"),
    "changes": TaskConfig(history=2, time="axis", predict="change"),
    "horizon": TaskConfig(history=2, time="axis", scheme="horizon"),
}


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory):
    return request.param, *run(tmp_path_factory.mktemp("work"), TASKS[request.param], unroll=2)


@pytest.fixture(scope="module")
def rollout(tmp_path_factory):
    return run(tmp_path_factory.mktemp("work"), TASKS["changes"], unroll=2)[0]


def irregular(split, kept=(0, 1, 3, 5)):
    """A split of which some frames are left, at unequal distances."""
    axes = [
        dataclasses.replace(a, points=a.points[list(kept)]) if a.name == "time" else a
        for a in split.schema.axes
    ]
    fields = {name: field[:, list(kept)] for name, field in split.fields.items()}
    schema = dataclasses.replace(split.schema, axes=tuple(axes))
    return dataclasses.replace(split, schema=schema, fields=fields)


def test_training_lowers_the_error_which_is_that_of_predictions(trained, tmp_path):
    _, surrogate, history = trained
    assert history.best.validation_relative_l2 < history.records[0].validation_relative_l2
    assert history.best.train_loss not in (None, history.best.train_relative_l2)  # frame by frame
    given, truth = first_frames(VALIDATION, 2), surrogate.description.truth(VALIDATION.fields)
    predicted, errors = surrogate.predict(given), []
    for name in NAMES:
        wrong = (predicted[name] - truth[name]).reshape(5, -1)
        sizes = np.linalg.norm(truth[name].reshape(5, -1), axis=1)
        errors.append(np.linalg.norm(wrong, axis=1) / sizes)
    assert np.mean(errors) == pytest.approx(history.best.validation_relative_l2, rel=1e-4)
    surrogate.save(tmp_path)
    for name, frames in Surrogate.load(tmp_path).predict(given).items():
        assert np.array_equal(frames, predicted[name])


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_any_number_of_frames_is_given_and_predicted(trained, frames):
    surrogate, given = trained[1], first_frames(VALIDATION, frames)
    for steps in (1, 7):
        for name, field in surrogate.predict(given, steps=steps).items():
            assert field.shape == (5, steps, 8, 8), name
            assert np.isfinite(field).all()
    longer = surrogate.predict(given, steps=7)["activator"][:, :3]
    np.testing.assert_allclose(
        longer, surrogate.predict(given, steps=3)["activator"], rtol=1e-4, atol=1e-6
    )


def test_frames_before_the_last_are_remembered(rollout):
    given = first_frames(VALIDATION, 4)
    last = {name: field[:, -1:] for name, field in given.items()}
    of_all, of_last = (rollout.predict(x, steps=2)["activator"] for x in (given, last))
    assert not np.allclose(of_all, of_last, rtol=1e-3)


def test_all_answers_are_learned_from(trained):
    kind, surrogate, _ = trained
    description, fields = surrogate.description, encoded(trained[1].description, VALIDATION)
    batch = description.batch(description.given(fields))
    found = predict_batch(surrogate.operator, description, fields, batch, 3)
    frames = FRAMES - 1 if kind == "horizon" else 4  # from the second on
    for name in NAMES:
        assert found.fields[name].shape[1] == frames
        assert torch.equal(found.truth[name], fields[name][:, 1 : 1 + frames])
        assert torch.equal(found.given[name], fields[name][:, :1])


def test_frames_at_unequal_distances_are_learned_and_predicted(tmp_path):
    splits = {"training": irregular(TRAINING), "validation": irregular(VALIDATION)}
    surrogate, history = run(tmp_path, TASKS["changes"], **splits, epochs=6)
    assert history.best.validation_relative_l2 < history.records[0].validation_relative_l2
    forecast = surrogate.description.forecast
    np.testing.assert_allclose(forecast.intervals, np.array([1, 1, 2, 2]) * [1, 0.6, 0.6, 0.6])
    assert forecast.interval == pytest.approx(0.5)
    given, times = first_frames(VALIDATION, 2), 0.3 * np.array([0, 1, 3, 5])
    predicted = surrogate.predict(given)
    for name, frames in surrogate.predict(given, times=np.tile(times, (5, 1))).items():
        np.testing.assert_allclose(frames, predicted[name], rtol=1e-5, atol=1e-6)
    late = surrogate.predict(given, times=2 * times)
    assert not np.allclose(late["activator"], predicted["activator"], rtol=1e-3)
    assert surrogate.predict(given, steps=9)["activator"].shape[1] == 9
    with pytest.raises(InputError, match="between 0.3 and 0.6 apart.*task.time=axis"):
        run(tmp_path, TaskConfig(history=2), **splits)
    with pytest.raises(InputError, match="residual_weight.*equal distances"):
        run(tmp_path, TASKS["changes"], **splits, residual_weight=0.1)
    with pytest.raises(InputError, match="task.skip=1 needs .*equal distances.*task.skip=0"):
        run(tmp_path, TaskConfig(skip=1, time="axis"), **splits)
    _, turned = run(tmp_path / "turned", TASKS["changes"], **splits, epochs=1, augment=True)
    assert turned.records[0].train_relative_l2 != history.records[0].train_relative_l2


def test_windows_come_with_their_own_intervals():
    fields = {"a": torch.arange(8.0).reshape(2, 4)}
    windows = Windows(["a"], 2, lambda epoch: np.array([0, 2]), (1.0, 0.5, 2.0, 3.0))
    cut = windows(fields, torch.arange(2), 0)
    assert cut["a"].tolist() == [[0, 1], [6, 7]]
    assert cut[INTERVALS].tolist() == [[1.0, 0.5], [2.0, 3.0]]


def test_a_model_of_drives_along_time_learns_them(tmp_path):
    for scheme in ("rollout", "horizon"):
        task, errors = TaskConfig(history=2, scheme=scheme, time="axis", predict="change"), []
        for drives in (True, False):
            splits = ROD if drives else [without_drives(split) for split in ROD]
            history = run_rod(
                tmp_path / f"{scheme}-{drives}", task, epochs=30, training=splits[0],
                validation=splits[1],
            )[1]  # fmt: skip
            errors.append(history.best.validation_relative_l2)
        assert errors[0] < 0.7 * errors[1]


def without_drives(split):
    schema = dataclasses.replace(split.schema, fields=split.schema.fields[2:])
    return dataclasses.replace(
        split, schema=schema, fields={"temperature": split.fields["temperature"]}
    )


def test_frames_that_are_skipped_are_learned_and_not_validated(tmp_path):
    task = TaskConfig(history=1, skip=2)
    whole, cut = (seen(VALIDATION, "fields", skip) for skip in (0, 2))
    assert cut.fields["activator"].shape[1] == FRAMES - 2
    assert np.array_equal(cut.schema.axes[0].points, whole.schema.axes[0].points[2:])
    surrogate, history = run(tmp_path, task, validation=cut)
    assert surrogate.description.forecast.steps == FRAMES - 3
    assert len(history) == CONFIG.epochs
    other = run(tmp_path / "short", TaskConfig(history=1), validation=cut,
                training=seen(TRAINING, "fields", 2))[1]  # fmt: skip
    assert other.records[0].train_relative_l2 != history.records[0].train_relative_l2
    with pytest.raises(
        InputError, match="validation split has 6 frames; expected 4, .* first task.skip=2"
    ):
        run(tmp_path / "whole", task)
    with pytest.raises(InputError, match=r"history=1 with task.skip=5 leaves none of the 6"):
        run(tmp_path, TaskConfig(history=1, skip=5))
    with pytest.raises(InputError, match=r"task.skip=2 is for models that predict any number"):
        run(tmp_path, TaskConfig(history=1, skip=2, scheme="horizon"))
    with pytest.raises(InputError, match=r"task.skip=2 is for .*; set task.skip=0$"):
        run(tmp_path, TaskConfig(kind="observe", skip=2))


def test_what_does_not_fit_is_refused(rollout, tmp_path):
    given = first_frames(VALIDATION, 2)
    for times, words in (
        (np.arange(5), "times have shape \\(5,\\); expected .*\\(6,\\) or \\(5, 6\\)"),
        (np.array([0, 1, 1, 2, 3, 4]), "sample 0 do not ascend: frame 2"),
        (np.array([0, 1, 2, np.nan, 3, 4]), "expected a finite number"),
    ):
        with pytest.raises(InputError, match=words):
            rollout.predict(given, times=times)
    uneven = {**given, "inhibitor": given["inhibitor"][:, :1]}
    with pytest.raises(InputError, match=r"inhibitor is .*frames=2"):
        rollout.predict(uneven)
    plain = run(tmp_path / "frames", TaskConfig(history=2))[0]
    with pytest.raises(InputError, match="time is no axis of this model"):
        plain.predict(given, times=np.arange(6))
    with pytest.raises(InputError, match="train.warm_start: that model has along_time=False"):
        run(tmp_path / "warm", TASKS["rollout"], initial=plain)
    with pytest.raises(InputError, match="task.time=axis with model.backbone=fno.*plain, latent"):
        run(tmp_path, TASKS["rollout"], model=ModelConfig(backbone="fno"))
    schema = TRAINING.schema
    steady = Field("total", "1", "total", "output", ("x", "y"))
    with pytest.raises(InputError, match="task.time=axis continues states, but total"):
        forecast_of(TASKS["rollout"], (*schema.fields, steady), schema.axes)


def test_another_grid_is_taken(rollout):
    fine = make_reaction_split("validation", 2, seed=2, resolution=12)
    predicted = rollout.predict(first_frames(fine, 3), steps=3)
    assert predicted["activator"].shape == (2, 3, 12, 12)
