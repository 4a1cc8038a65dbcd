"""Training on states: what is given and predicted, horizons and rollouts, and what does not fit."""

import dataclasses

import numpy as np
import pytest
import torch
from reaction_problem import (
    FRAMES,
    MODEL,
    NAMES,
    TRAINING,
    VALIDATION,
    first_frames,
    make_reaction_split,
    run,
)
from runner import CONFIG, encoded, weights_of
from smoothing_problem import run as run_steady
from torch import nn

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import Forecast, TaskConfig, forecast_of
from mno.core.grid import Grid
from mno.nn.build import build_operator
from mno.scenarios.residuals import residual_of
from mno.surrogate.rollout import roll_out
from mno.surrogate.surrogate import Surrogate
from mno.training.objective import Objective, Prediction, predict_batch
from mno.training.processes import Rank
from mno.training.step import FAR_OFF, OperatorTraining

HORIZON = TaskConfig(history=2, scheme="horizon")
ROLLOUT = TaskConfig(history=2, scheme="rollout")


def config(**changes):
    return CONFIG.model_copy(update=changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a training of each scheme gave."""
    work, options = tmp_path_factory.mktemp("work"), config(unroll=2)
    return {t.scheme: run(work / t.scheme, t, config=options) for t in (HORIZON, ROLLOUT)}


@pytest.fixture(scope="module")
def horizon(trained):
    return trained["horizon"][0]


@pytest.fixture(scope="module")
def rollout(trained):
    return trained["rollout"][0]


@pytest.mark.parametrize("kind", ["horizon", "rollout"])
def test_all_frames_after_those_given_are_predicted_and_validated(kind, trained):
    surrogate, history = trained[kind]
    predicted = surrogate.predict(first_frames(VALIDATION, 2))
    errors = []
    for name in NAMES:
        assert predicted[name].shape == (5, FRAMES - 2, 8, 8)
        assert predicted[name].dtype == np.float32
        truth = VALIDATION.fields[name][:, 2:].astype(float)
        error = (predicted[name] - truth).reshape(5, -1)
        errors.append(np.linalg.norm(error, axis=1) / np.linalg.norm(truth.reshape(5, -1), axis=1))
    assert history.best.validation_relative_l2 == pytest.approx(np.mean(errors), rel=1e-4)
    fine = {name: np.zeros((1, 2, 12, 12)) for name in NAMES}
    assert surrogate.predict(fine)["inhibitor"].shape == (1, FRAMES - 2, 12, 12)


def test_a_rollout_of_one_step_is_the_horizon_of_one_frame(tmp_path):
    results = []
    for scheme in ("horizon", "rollout"):
        surrogate, history = run(tmp_path / scheme, TaskConfig(history=FRAMES - 1, scheme=scheme))
        assert surrogate.description.forecast.steps == 1
        predicted = surrogate.predict(first_frames(VALIDATION, FRAMES - 1))
        results.append((weights_of(surrogate), history, predicted))
    assert results[0][:2] == results[1][:2]
    for name in NAMES:
        np.testing.assert_array_equal(results[0][2][name], results[1][2][name])


def test_a_rollout_goes_on_for_any_number_of_steps_from_what_it_predicted(rollout):
    given = first_frames(VALIDATION, 2)
    seven = rollout.predict(given, steps=7)
    three = rollout.predict(given, steps=3)
    later = {name: np.concatenate([given[name], three[name]], axis=1)[:, -2:] for name in NAMES}
    four = rollout.predict(later, steps=4)
    for name in NAMES:
        assert seven[name].shape[1] == 7
        np.testing.assert_array_equal(seven[name][:, :3], three[name])
        np.testing.assert_allclose(seven[name][:, 3:], four[name], rtol=1e-4, atol=1e-5)


ALL = {"loss": "h1", "input_noise": 0.01, "augment": True, "ema_decay": 0.5}
OTHERS = {"residual_weight": 0.01, "input_mask": 0.05}


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        ("horizon", ALL),
        ("horizon", OTHERS),
        ("rollout", {"unroll": 3}),
        ("rollout", {"unroll": 2, **ALL}),
        ("rollout", {"unroll": 2, **OTHERS}),
    ],
)
def test_training_lowers_the_error(tmp_path, scheme, changes):
    _, history = run(tmp_path, TaskConfig(history=1, scheme=scheme), epochs=8, **changes)
    first, best = history.records[0], history.best
    assert best.validation_relative_l2 < 0.9 * first.validation_relative_l2


def test_what_the_task_says_means_nothing_without_states(tmp_path):
    noisy = config(input_noise=0.1)
    plain, history = run_steady(tmp_path / "plain", config=noisy)
    other, same = run_steady(
        tmp_path / "other",
        task=TaskConfig(history=9, scheme="rollout"),
        config=noisy.model_copy(update={"unroll": 9}),
    )
    assert weights_of(plain) == weights_of(other)
    assert history == same
    assert other.description.forecast is None


def test_unrolled_steps_are_beside_the_frames_that_they_predict(rollout):
    description, operator = rollout.description, rollout.operator
    fields = {n: f[:, :5] for n, f in encoded(description, VALIDATION).items()}
    seen = Batch(description.given(fields), description.grid((8, 8)))

    unrolled = predict_batch(operator, description, fields, seen, 3)
    for name in NAMES:
        assert torch.equal(unrolled.truth[name], fields[name][:, 2:])
        assert torch.equal(unrolled.given[name], fields[name][:, :2])
        assert unrolled.fields[name].shape == (5, 3, 8, 8)


class Recurrence(nn.Module):
    """`u_next = u_last + u_first + forcing`: a rollout that can be written out."""

    def forward(self, batch):
        u = batch.fields["u"]
        return Batch({"u": (u[:, -1] + u[:, 0] + batch.fields["steady"])[:, None]}, batch.place)


def test_each_step_sees_the_last_frames_and_what_stays():
    batch = Batch({"u": torch.randn(4, 2, 6), "steady": torch.randn(4, 6)}, Grid((6,), (1 / 6,)))
    first, second = batch.fields["u"].unbind(1)
    expected = []
    for _ in range(5):
        first, second = second, second + first + batch.fields["steady"]
        expected.append(second)
    found = roll_out(Recurrence(), batch, 5).fields
    assert set(found) == {"u"}
    torch.testing.assert_close(found["u"], torch.stack(expected, dim=1))
    assert batch.fields["u"].shape == (4, 2, 6), "the batch that is given is left alone"


@pytest.mark.parametrize("outputs", [{"u": 2}, {"v": 1}])
def test_what_cannot_be_rolled_out_is_refused(outputs):
    operator = build_operator(MODEL, inputs={"u": 3}, outputs=outputs, dims=1)
    batch = Batch({"u": torch.randn(4, 3, 6)}, Grid((6,), (1 / 6,)))
    with pytest.raises(ValueError, match="expected one frame that continues an input"):
        roll_out(operator, batch, 2)


def test_the_residual_is_that_of_the_last_given_and_all_predicted_frames(rollout):
    description, schema = rollout.description, VALIDATION.schema
    grid = description.grid((8, 8))
    fields = encoded(description, VALIDATION)
    given = description.given(fields)
    torch.manual_seed(0)
    truth = description.truth(fields)
    wrong = {name: field + 0.1 * torch.randn_like(field) for name, field in truth.items()}

    def loss(weight: float) -> torch.Tensor:
        objective = Objective(description, config(residual_weight=weight), schema.parameters)
        return objective(Prediction(wrong, truth, given))

    physical = {
        name: description.normaliser.decode(name, torch.cat([given[name][:, -1:], wrong[name]], 1))
        for name in NAMES
    }
    numbers = {
        name: torch.tensor(value)
        for name, value in schema.parameters.items()
        if isinstance(value, float)
    }
    interval = float(np.diff(schema.axes[0].points)[0])
    place = dataclasses.replace(
        grid, shape=(FRAMES - 1, 8, 8), spacing=(interval, *grid.spacing), reference_spacing=()
    )
    expected = residual_of("diffusion_reaction")(physical | numbers, place)
    torch.testing.assert_close(loss(0.5) - loss(0.0), 0.5 * expected, rtol=1e-4, atol=1e-5)


def test_a_rollout_that_blows_up_counts_as_far_off_and_ends_no_training(rollout):
    surrogate = Surrogate(rollout.description, rollout.description.build())
    with torch.no_grad():
        for weight in surrogate.operator.parameters():
            weight.mul_(1e6)
    module = OperatorTraining(
        surrogate.operator, surrogate.description, TRAINING.schema, CONFIG, len(TRAINING)
    )
    module.validation_step(encoded(surrogate.description, VALIDATION))
    assert module.validation_error.over(Rank()) == FAR_OFF


def test_training_from_a_trained_model_may_roll_out_further(tmp_path, rollout):
    longer = {
        "training": make_reaction_split("train", 8, seed=3, frames=11, duration=3.0),
        "validation": make_reaction_split("validation", 4, seed=4, frames=11, duration=3.0),
    }
    still = config(learning_rate=1e-30, weight_decay=0.0, epochs=1)
    again, _ = run(tmp_path, ROLLOUT, config=still, initial=rollout, **longer)
    assert weights_of(again) == weights_of(rollout)
    assert again.description.forecast == dataclasses.replace(rollout.description.forecast, steps=9)


@pytest.mark.parametrize(
    ("task", "others"),
    [
        (TaskConfig(history=1, scheme="rollout"), {}),
        (TaskConfig(history=2, scheme="horizon"), {}),
        (ROLLOUT, {"training": make_reaction_split("train", 4, seed=3, duration=3.0)}),
    ],
    ids=["history", "scheme", "interval"],
)
def test_a_model_that_continues_states_otherwise_is_refused_as_a_start(
    tmp_path, rollout, task, others, request
):
    word = request.node.callspec.id
    with pytest.raises(InputError, match=f"that model has {word}=.*expected {word}=") as caught:
        run(tmp_path, task, initial=rollout, **others)
    assert "\n" not in str(caught.value)


def test_too_few_frames_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"history=6 leaves none of the 6 frames.*choose 5"):
        run(tmp_path, TaskConfig(history=6))
    with pytest.raises(InputError, match=r"unroll=5 is more than the 4 frames.*choose 4 or less"):
        run(tmp_path, ROLLOUT, unroll=5)
    run(tmp_path, HORIZON, unroll=5, epochs=1)
    alone = Axis("time", "s", "time", np.array([0.0]), (0.0, 1.0))
    with pytest.raises(InputError, match="have 1 frame over time.* two frames or more"):
        forecast_of(TaskConfig(kind="observe"), TRAINING.schema.fields, [alone])
    minutes = Axis("time", "min", "time", np.arange(3.0), (0.0, 2.0))
    with pytest.raises(InputError, match="times are in min.*units: s"):
        forecast_of(TaskConfig(kind="observe"), TRAINING.schema.fields, [minutes])


def test_frames_at_unequal_distances_are_refused(tmp_path):
    time, *space = TRAINING.schema.axes
    uneven = dataclasses.replace(time, points=time.points**2)
    schema = dataclasses.replace(TRAINING.schema, axes=(uneven, *space))
    with pytest.raises(InputError, match="frames are between 0.09 and 0.81 apart"):
        run(tmp_path, ROLLOUT, training=dataclasses.replace(TRAINING, schema=schema))


def test_outputs_that_a_rollout_cannot_continue_are_refused():
    axis = Axis("time", "s", "time", np.arange(3.0), (0.0, 2.0))
    fields = (
        Field("heat", "K", "heat", "state", ("time", "x")),
        Field("total", "J", "total", "output", ("x",)),
    )
    with pytest.raises(InputError, match="total is an output without frames"):
        forecast_of(ROLLOUT, fields, (axis,))
    assert forecast_of(HORIZON, fields, (axis,)) == Forecast(2, "horizon", 1, 1.0)
    assert forecast_of(ROLLOUT, fields[1:], (axis,)) is None


def test_outputs_over_time_are_refused_by_training(tmp_path):
    fields = tuple(dataclasses.replace(f, role="output") for f in TRAINING.schema.fields)
    schema = dataclasses.replace(TRAINING.schema, fields=fields)
    with pytest.raises(InputError, match=r"activator is an output with axes \(time"):
        run(tmp_path, ROLLOUT, training=dataclasses.replace(TRAINING, schema=schema))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 8, 8), r"expected numbers of shape \(samples, frames=2, x, y\)"),
        ((3, 1, 8, 8), "frames=2"),
        ((3, 3, 8, 8), "frames=2"),
        ((3, 2, 8), "frames=2"),
        ((2, 2, 8, 8), "as many samples of each, at the same places"),
        ((3, 2, 8, 9), "as many samples of each, at the same places"),
    ],
)
def test_frames_that_do_not_fit_are_refused_by_a_surrogate(rollout, shape, words):
    with pytest.raises(InputError, match=words):
        rollout.predict({"activator": np.zeros(shape), "inhibitor": np.zeros((3, 2, 8, 8))})


def test_numbers_of_steps_that_do_not_fit_are_refused_by_a_surrogate(rollout, horizon):
    given = first_frames(VALIDATION, 2)
    with pytest.raises(InputError, match="steps=0 must be at least 1"):
        rollout.predict(given, steps=0)
    with pytest.raises(InputError, match="steps=3: this model predicts 4 frames at once"):
        horizon.predict(given, steps=3)
    assert horizon.predict(given, steps=4)["activator"].shape[1] == 4
