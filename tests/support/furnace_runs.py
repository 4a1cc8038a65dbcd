"""A few runs of a batch furnace, a model that has learned nothing of them, and its trust."""

from functools import cache

import numpy as np

from mno.core.forecast import TaskConfig
from mno.data.parts import seen
from mno.data.reading import Schema, Split
from mno.evaluation.trust import calibrate
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from mno.training.problem import describe

QUICK = {"rays": 16, "steps_per_frame": 1, "cells_per_point": 8.0}
RESOLUTION = 8


@cache
def furnace():
    return make_scenario("batch_furnace", RESOLUTION, QUICK)


@cache
def runs(name, seed, count=4, part="readings"):
    """Return the readings of some runs, or another part, as a split of a dataset."""
    scenario = furnace()
    drawn = [scenario.sample(np.random.default_rng([seed, n])) for n in range(count)]
    solved = [{**given, **scenario.solve(given)} for given in drawn]
    fields = {f.name: np.stack([run[f.name] for run in solved]) for f in scenario.fields}
    parameters = scenario.parameters.model_dump()
    schema = Schema(
        "batch_furnace", scenario.fields, scenario.axes, (), parameters, resolution=RESOLUTION
    )
    return seen(Split(name, schema, fields, np.arange(count)), part)


@cache
def trusted(part="readings"):
    train, validation = runs("train", 0, part=part), runs("validation", 1, part=part)
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    description = describe(train, model, TaskConfig(part=part, scheme="horizon"))
    surrogate = Surrogate(description, description.build())
    return surrogate, calibrate(surrogate, train, validation, TrustConfig(level=0.6), "0" * 64, 4)
