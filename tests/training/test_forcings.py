"""Training on inputs over time and on numbers per sample: who sees what, and when."""

import dataclasses

import numpy as np
import pytest
import torch
from rod_problem import FRAMES, MODEL, TRAINING, VALIDATION, run, schema
from runner import CONFIG, encoded

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import TaskConfig
from mno.surrogate.equation import known_fields
from mno.training.batches import Windows
from mno.training.objective import predict_batch

HORIZON = TaskConfig(history=2, scheme="horizon")
ROLLOUT = TaskConfig(history=2, scheme="rollout")


@pytest.fixture(scope="module", params=[HORIZON, ROLLOUT], ids=lambda task: task.scheme)
def surrogate(request, tmp_path_factory):
    return run(tmp_path_factory.mktemp("rod"), request.param)[0]


@pytest.fixture(scope="module")
def rollout(tmp_path_factory):
    return run(tmp_path_factory.mktemp("rod"), ROLLOUT)[0]


def given(frames=FRAMES - 1):
    fields = VALIDATION.fields
    return {
        "power": fields["power"][:, :frames],
        "loss": fields["loss"],
        "temperature": fields["temperature"][:, :2],
    }


def test_a_rollout_learns_what_drives_the_state(tmp_path):
    config = CONFIG.model_copy(update={"epochs": 60})
    history = run(tmp_path, ROLLOUT, config=config)[1]
    blind = dataclasses.replace(schema(), fields=schema().fields[2:])
    without = [
        dataclasses.replace(s, schema=blind, fields={"temperature": s.fields["temperature"]})
        for s in (TRAINING, VALIDATION)
    ]
    other = run(tmp_path / "blind", ROLLOUT, config=config, training=without[0],
                validation=without[1])[1]  # fmt: skip
    assert history.best.validation_relative_l2 < 0.1
    assert history.best.validation_relative_l2 < other.best.validation_relative_l2 / 2


def test_predictions_depend_on_the_number_of_their_sample_alone(surrogate):
    inputs = given()
    before = surrogate.predict(inputs)["temperature"]
    assert before.shape == (5, FRAMES - 2, 8)
    inputs["loss"] = inputs["loss"].copy()
    inputs["loss"][3] += 0.1
    after = surrogate.predict(inputs)["temperature"]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [False, False, False, True, False]


@pytest.mark.parametrize("frame", range(FRAMES - 1))
def test_a_rollout_sees_a_forcing_when_it_acts_and_not_before(rollout, frame):
    inputs = given()
    before = rollout.predict(inputs)["temperature"]
    inputs["power"] = inputs["power"].copy()
    inputs["power"][:, frame] += 1.0
    after = rollout.predict(inputs)["temperature"]
    changed = [not np.array_equal(before[:, k], after[:, k]) for k in range(FRAMES - 2)]
    # It acts on the frame after it; two frames are seen, so the first acts on what follows both.
    first = max(frame - 1, 0)
    assert changed == [k >= first for k in range(FRAMES - 2)]


def test_a_rollout_of_two_steps_is_one_step_asked_twice(rollout):
    inputs = given()
    whole = rollout.predict(inputs, steps=2)["temperature"]
    one = rollout.predict(inputs, steps=1)["temperature"]
    np.testing.assert_array_equal(whole[:, :1], one)
    later = {
        "power": inputs["power"][:, 1:],
        "loss": inputs["loss"],
        "temperature": np.concatenate([inputs["temperature"][:, 1:], one], axis=1),
    }
    np.testing.assert_allclose(
        whole[:, 1:], rollout.predict(later, steps=1)["temperature"], rtol=1e-4, atol=1e-5
    )


def test_surplus_frames_of_a_forcing_are_not_looked_at(surrogate):
    few, more = surrogate.predict(given()), surrogate.predict(given(FRAMES))
    np.testing.assert_array_equal(few["temperature"], more["temperature"])


def test_windows_cut_forcing_and_state_at_the_same_frames():
    windows = Windows(("power", "temperature"), 3, lambda epoch: np.array([2, 0, 1] * 4))
    fields = {name: torch.from_numpy(field) for name, field in TRAINING.fields.items()}
    cut = windows(fields, torch.tensor([0, 1, 2]), 0)
    # The next state follows from the state and the power of the frame before.
    state, power, loss = cut["temperature"], cut["power"], fields["loss"][:3, None]
    for k in range(2):
        spread = 0.2 * torch.diff(torch.nn.functional.pad(state[:, k], (1, 1), "replicate"), 2)
        expected = state[:, k] + spread + power[:, k] - loss * state[:, k]
        torch.testing.assert_close(state[:, k + 1], expected)


@pytest.mark.parametrize("task", [HORIZON, ROLLOUT], ids=lambda task: task.scheme)
def test_a_residual_is_given_the_forcing_of_each_interval(tmp_path, task):
    surrogate = run(tmp_path, task, epochs=1)[0]
    description = surrogate.description
    fields = encoded(description, VALIDATION)
    seen = description.batch(description.given(fields))
    prediction = predict_batch(surrogate.operator, description, fields, seen, FRAMES - 2)
    known = known_fields(description, prediction.given, prediction.fields)
    assert known["power"].shape == known["temperature"].shape
    torch.testing.assert_close(known["power"][:, :-1], fields["power"][:, 1:-1])
    torch.testing.assert_close(known["loss"], fields["loss"])


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("power", np.zeros((5, 4, 8)), r"shape \(samples, frames=5 or more, x\)"),
        ("power", np.zeros((5, 8)), r"shape \(samples, frames=5 or more, x\)"),
        ("loss", np.zeros((5, 1)), r"shape \(samples,\)"),
        ("loss", np.float32(1.0), r"shape \(samples,\)"),
        ("loss", np.zeros(4), "as many samples of each"),
        ("power", np.zeros((5, 5, 9)), "at the same places"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(surrogate, name, array, words):
    with pytest.raises(InputError, match=words):
        surrogate.predict(given() | {name: array})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            (Field("power", "W", "power", "input", ("time", "x")),
             Field("loss", "K", "loss", "output", ("x",))),
            r"power is an input with axes \(time, x\)",
        ),
        (
            (Field("power", "W", "power", "input", ("time",)),
             Field("temperature", "K", "temperature", "state", ("time", "x"))),
            r"power is an input with axes \(time\)",
        ),
        (
            (Field("loss", "K", "loss", "output", ()),
             Field("temperature", "K", "temperature", "state", ("time", "x"))),
            r"loss is an output with axes \(\)",
        ),
        (
            (Field("loss", "K", "loss", "input", ()),
             Field("temperature", "K", "temperature", "output", ("x",))),
            "all inputs of rod are one number per sample",
        ),
    ],
)  # fmt: skip
def test_fields_that_no_operator_takes_are_refused(tmp_path, fields, words):
    split = dataclasses.replace(TRAINING, schema=dataclasses.replace(schema(), fields=fields))
    with pytest.raises(InputError, match=words):
        run(tmp_path, ROLLOUT, training=split)


def test_a_horizon_sees_all_frames_of_a_forcing_but_the_last(tmp_path):
    description = run(tmp_path, HORIZON, model=MODEL)[0].description
    assert (description.scalars, description.forcings) == (("loss",), ("power",))
    assert description.build().inputs == {"power": FRAMES - 1, "temperature": 2}
