"""A small surrogate, untrained but real, and splits of smooth random fields."""

from dataclasses import replace

import numpy as np
import pytest

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from tests.evaluation.made import COST, decision_of, figures_of, results_of
from tests.support.untrained import untrained

SIZE = 8


@pytest.fixture(scope="session")
def schema():
    points = (np.arange(SIZE) + 0.5) / SIZE
    return Schema(
        scenario="heat",
        fields=(
            Field("conductivity", "W m-1 K-1", "conductivity", "input", ("x", "y")),
            Field("temperature", "K", "temperature", "output", ("x", "y")),
        ),
        axes=(Axis("x", "m", "x", points, (0.0, 1.0)), Axis("y", "m", "y", points, (0.0, 1.0))),
    )


@pytest.fixture(scope="session")
def make_split(schema):
    def make(name, samples, seed=0, size=SIZE):
        rng = np.random.default_rng(seed)
        conductivity = rng.uniform(1, 2, (samples, size, size)).astype(np.float32)
        temperature = (300 + 10 * np.cumsum(conductivity, axis=1) / size).astype(np.float32)
        fields = {"conductivity": conductivity, "temperature": temperature}
        points = (np.arange(size) + 0.5) / size
        axes = tuple(replace(axis, points=points) for axis in schema.axes)
        return Split(name, replace(schema, axes=axes), fields, np.arange(samples) * 3 + 7)

    return make


@pytest.fixture
def surrogate(make_split):
    split = make_split("train", 5)
    return untrained(split.schema, split.fields, nudged=True)


@pytest.fixture(scope="session")
def evaluation(make_split):
    training = make_split("train", 5)
    surrogate = untrained(training.schema, training.fields, nudged=True)
    train, test = make_split("train", 5, seed=1), make_split("test", 7, seed=2)
    return evaluate(surrogate, test, mean_fields(train), EvaluateConfig(batch_size=3))


@pytest.fixture(scope="session")
def history():
    errors = {1: 0.5, 2: 0.2, 3: 0.1, 4: 0.15}
    epochs = [
        {"epoch": k, "train_relative_l2": 0.8 * error, "validation_relative_l2": error}
        for k, error in errors.items()
    ]
    return {"best_epoch": 3, "epochs": epochs}


@pytest.fixture(scope="session")
def results(evaluation, schema, history):
    return results_of(
        evaluation,
        schema,
        history,
        cost=COST,
        decision=decision_of(evaluation.metrics()),
        dataset={
            "scenario": "heat",
            "samples": 12,
            "splits": {"train": 5, "test": 7},
            "fields": {"temperature": {"min": 300.0, "max": 320.0, "mean": 310.0, "std": 4.0}},
            "checks": {"energy": {"description": "energy balance", "tolerance": 1e-6, "max": 2e-6}},
        },
        model={"width": 4, "scale_delta": True},
        settings={"learning_rate": 3e-3},
        lineage={"dataset md5": "0123abcd.dir"},
    )


@pytest.fixture(scope="session")
def figures(results):
    return figures_of(results)
