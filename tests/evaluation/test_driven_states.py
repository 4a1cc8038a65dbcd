"""Evaluating what is driven by forcings and numbers: what is given, what is drawn, what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import figures_of, results_of

from mno.core.fields import Axis, Field
from mno.core.numbers import number
from mno.data.reading import Schema, Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate
from mno.evaluation.result import Evaluation
from mno.evaluation.scoring import mean_fields, split_error
from mno.surrogate.surrogate import Surrogate

FRAMES, POINTS = 6, 8
FIELDS = (
    Field("power", "W", "power", "input", ("time", "x")),
    Field("loss", "s-1", "rate of loss", "input", ()),
    Field("temperature", "K", "temperature", "state", ("time", "x")),
)
HISTORY = {"epochs": [], "best_epoch": None}


def make_split(samples: int, frames: int = FRAMES) -> Split:
    x = (np.arange(POINTS) + 0.5) / POINTS
    time = Axis("time", "s", "time", 0.5 * np.arange(frames), (0.0, 0.5 * (frames - 1)))
    rng = np.random.default_rng(samples)
    fields = {
        "power": rng.random((samples, frames, POINTS), np.float32),
        "loss": rng.random(samples, np.float32),
        "temperature": 1 + rng.random((samples, frames, POINTS), np.float32),
    }
    axes = (time, Axis("x", "m", "x", x, (0.0, 1.0)))
    return Split("test", Schema("rod", FIELDS, axes), fields, np.arange(samples))


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate.load(Path(__file__).parents[1] / "surrogate/formats/frames")


@pytest.fixture(scope="module", params=[FRAMES, FRAMES + 3])
def test_split(request) -> Split:
    return make_split(7, request.param)


@pytest.fixture(scope="module")
def evaluation(surrogate, test_split) -> Evaluation:
    return evaluate(surrogate, test_split, mean_fields(test_split), EvaluateConfig(batch_size=3))


def test_the_model_is_given_the_forcing_of_all_steps(surrogate, test_split, evaluation):
    fields = test_split.fields
    inputs = {
        "power": fields["power"][:, :-1],
        "loss": fields["loss"],
        "temperature": fields["temperature"][:, :2],
    }
    steps = fields["power"].shape[1] - 2
    error = surrogate.predict(inputs, steps=steps)["temperature"] - fields["temperature"][:, 2:]
    truth = fields["temperature"][:, 2:].reshape(7, -1)
    expected = np.linalg.norm(error.reshape(7, -1), axis=1) / np.linalg.norm(truth, axis=1)
    np.testing.assert_allclose(evaluation.relative_l2, expected, rtol=1e-5)


def test_the_score_by_which_models_are_compared_is_the_same(surrogate):
    split = make_split(7)
    found = split_error(surrogate.predict, split, 3, history=2, first=2).value()
    evaluated = evaluate(surrogate, split, mean_fields(split), EvaluateConfig(batch_size=4))
    assert found == pytest.approx(evaluated.relative_l2.mean(), rel=1e-6)


def test_numbers_are_said_and_forcings_are_drawn(test_split, evaluation):
    figures = figures_of(results_of(evaluation, test_split.schema, HISTORY))
    best = next(figure for figure in figures if figure.name.startswith("example_best"))
    sample = next(e for e in evaluation.examples if "best" in e.ranks)
    loss = float(test_split.fields["loss"][sample.index])
    assert f"power, rate of loss = {number(loss, 3)} s-1, temperature" in best.caption
    assert best.png.startswith(b"\x89PNG")
