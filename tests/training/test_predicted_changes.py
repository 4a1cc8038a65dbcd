"""Models that predict how states change from the last frame, in units of such changes."""

import dataclasses

import numpy as np
import pytest
import torch
from reaction_problem import NAMES, TRAINING, VALIDATION, first_frames, run
from rod_problem import TRAINING as ROD
from rod_problem import VALIDATION as ROD_VALIDATION
from rod_problem import run as run_rod

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.core.grid import Grid
from mno.surrogate.rollout import from_changes
from mno.surrogate.surrogate import Surrogate

TASKS = {
    scheme: TaskConfig(history=2, scheme=scheme, predict="change")
    for scheme in ("rollout", "horizon")
}


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return request.param, *run(work, TASKS[request.param], unroll=2)


def silent(description):
    """Return a surrogate whose operator answers zero."""
    operator = description.build()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.zero_()
    return Surrogate(description, operator)


def test_an_operator_that_answers_zero_predicts_persistence(trained):
    scheme, surrogate, _ = trained
    given = first_frames(VALIDATION, 2)
    steps = 7 if scheme == "rollout" else None
    predicted = silent(surrogate.description).predict(given, steps=steps)
    for name in NAMES:
        normaliser, frames = surrogate.description.normaliser, predicted[name]
        last = torch.from_numpy(given[name][:, -1:])
        kept = normaliser.decode(name, normaliser.encode(name, last)).numpy()
        assert frames.shape[1] == (steps or 4)
        assert np.array_equal(frames, np.broadcast_to(kept, frames.shape))
        np.testing.assert_allclose(kept, last, rtol=1e-5, atol=1e-6)


def test_changes_are_measured_from_the_last_frame_given(trained):
    scheme, surrogate, _ = trained
    normaliser = surrogate.description.normaliser
    for name in NAMES:
        frames = TRAINING.fields[name].astype(np.float64)
        first = frames[:, 1:-1] if scheme == "rollout" else frames[:, 1:2]
        expected = np.sqrt(np.mean((frames[:, 2:] - first) ** 2)) / normaliser.std[name]
        assert normaliser.changes[name] == pytest.approx(expected, rel=1e-5)


def test_validation_predictions_and_what_is_saved_are_states(trained, tmp_path):
    _, surrogate, history = trained
    given, truth = first_frames(VALIDATION, 2), surrogate.description.truth(VALIDATION.fields)
    predicted = surrogate.predict(given)
    errors = [
        np.linalg.norm((predicted[n] - truth[n]).reshape(5, -1), axis=1)
        / np.linalg.norm(truth[n].reshape(5, -1), axis=1)
        for n in NAMES
    ]
    assert np.mean(errors) == pytest.approx(history.best.validation_relative_l2, rel=1e-4)
    surrogate.save(tmp_path)
    assert '"format": 6' in (tmp_path / "surrogate.json").read_text()
    again = Surrogate.load(tmp_path)
    assert again.description == surrogate.description
    for name, frames in again.predict(given).items():
        assert np.array_equal(frames, predicted[name])


def test_a_model_that_predicts_otherwise_is_refused_as_a_start(trained, tmp_path):
    scheme, surrogate, _ = trained
    other = TASKS[scheme].model_copy(update={"predict": "state"})
    with pytest.raises(InputError, match=r"that model has predict=change; expected predict=state"):
        run(tmp_path, other, initial=surrogate)


def test_where_the_last_frame_is_missing_the_one_before_it_counts():
    frames = torch.tensor([[[1.0, 1.0, np.nan], [2.0, np.nan, np.nan]]])
    batch = Batch({"u": frames, "v": frames[:, 0]}, Grid((3,), (1 / 3,)))

    def operator(batch):
        ones = {"u": torch.ones(1, 2, 3), "w": torch.ones(1, 3)}
        return dataclasses.replace(batch, fields=ones)

    found = from_changes(operator, {"u": 0.5})(batch).fields
    assert found["u"].tolist() == [[[2.5, 1.5, 0.5]] * 2]
    assert found["w"].tolist() == [[1.0, 1.0, 1.0]]


def test_forced_states_with_gaps_are_trained_by_their_changes(tmp_path):
    splits = {"training": ROD, "validation": ROD_VALIDATION}
    for name, split in splits.items():
        fields = tuple(dataclasses.replace(f, gaps=f.role == "state") for f in split.schema.fields)
        values = split.fields["temperature"].copy()
        values[:, :, ::3] = np.nan
        values[0, 1:3] = np.nan
        splits[name] = dataclasses.replace(
            split,
            schema=dataclasses.replace(split.schema, fields=fields),
            fields=split.fields | {"temperature": values},
        )
    surrogate, history = run_rod(tmp_path, TaskConfig(predict="change"), epochs=2, **splits)
    changes = np.diff(splits["training"].fields["temperature"], axis=1)
    expected = np.sqrt(np.nanmean(changes**2)) / surrogate.description.normaliser.std["temperature"]
    found = surrogate.description.normaliser.changes["temperature"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(history.best.validation_relative_l2)
    given = surrogate.description.given(splits["validation"].fields)
    assert np.isfinite(surrogate.predict(given)["temperature"]).all()
