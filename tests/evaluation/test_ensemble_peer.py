"""The ensemble filter through the solver: it tells what it is not given far better than a guess."""

import numpy as np

from mno.core.absent import Absent
from mno.core.forecast import TaskConfig
from mno.core.observing import Sensor
from mno.data.parts import seen
from mno.data.reading import Schema, Split
from mno.evaluation.config import IntervalConfig
from mno.evaluation.kalman_peer import make_ensemble_filter
from mno.evaluation.tools import measure_tools
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.training.problem import describe
from tests.support.furnace_runs import SENSORS, runs

HIDDEN = ("wear", "lining_temperature")
MODEL = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
READ = {"velocity": Sensor(noise=0.02, every=2)}


def rms(wrong):
    return float(np.sqrt(np.nanmean(wrong**2)))


def burgers(name, seed, count):
    scenario = make_scenario("burgers", 32, {"frames": 4, "sampling": "sines"})
    drawn = [scenario.sample(np.random.default_rng([seed, n])) for n in range(count)]
    solved = [{**given, **scenario.solve(given)} for given in drawn]
    fields = {f.name: np.stack([run[f.name] for run in solved]) for f in scenario.fields}
    parameters = scenario.parameters.model_dump()
    schema = Schema("burgers", scenario.fields, scenario.axes, (), parameters, resolution=32)
    return seen(Split(name, schema, fields, np.arange(count)), "fields", sensors=READ)


def test_of_a_furnace_it_tells_the_core_and_what_is_hidden():
    training, test = (
        runs(name, seed, count, observed=True, hidden=HIDDEN)
        for seed, (name, count) in enumerate((("train", 60), ("test", 3)))
    )
    task = TaskConfig(kind="observe", part="readings", sensors=SENSORS, hidden=list(HIDDEN))
    description = describe(training, MODEL, task)
    peer = make_ensemble_filter(training, description)
    assert peer.settings == {"members": 60}
    told = peer.predict(description.given(test.fields))
    for name, share in (("core_temperature", 0.1), ("wear", 0.7)):
        truth, guess = test.fields[name], training.fields[name].mean(axis=0)
        assert np.array_equal(np.isnan(told[name]), np.isnan(truth))
        last = slice(truth.shape[1] // 2, None)
        assert rms((told[name] - truth)[:, last]) < share * rms((guess - truth)[:, last])


def test_where_nothing_is_hidden_it_finds_where_a_run_begins():
    training, test = burgers("train", 0, 40), burgers("test", 1, 3)
    description = describe(training, MODEL, TaskConfig(kind="observe", sensors=READ))
    found, = measure_tools(
        ["ensemble_filter"], training, training, test, description, IntervalConfig(resamples=100),
        model=lambda given: {"velocity": np.zeros_like(given["velocity_read"])},
    )  # fmt: skip
    truth = test.fields["velocity"]
    assert found["samples"] == 3
    assert found["rmse"]["velocity"] < 0.5 * found["model"]["velocity"]
    assert np.isclose(found["model"]["velocity"], rms(truth))
    assert np.isclose(found["model_error"], 1.0) and found["error"] < 0.5


def test_without_a_solver_there_is_none():
    training = runs("train", 0, observed=True)
    description = describe(
        training, MODEL, TaskConfig(kind="observe", part="readings", sensors=SENSORS)
    )
    foreign = training.schema.__class__(**{**vars(training.schema), "sources": ("log.csv",)})
    absent = make_ensemble_filter(
        Split("train", foreign, training.fields, training.indices), description
    )
    assert isinstance(absent, Absent)
