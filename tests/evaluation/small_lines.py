"""Small surrogates of real scenarios, trained for a moment, and the splits they were trained on."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mno.core.fields import Axis, Field
from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.evaluation.evaluator import mean_fields
from mno.evaluation.trust import calibrated_trust
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from mno.training.config import TrainConfig
from mno.training.fit import train
from tests.support.untrained import untrained

MODEL = ModelConfig(width=12, layers=2, d_state=2)
CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=1e-2, threads=1)


def solved_split(name, scenario, samples, seed, resolution, **parameters):
    """Solve samples of a scenario, as a dataset would hold them; a seed, or a stream of each."""
    source = make_scenario(scenario, resolution, parameters)
    rng = np.random.default_rng(0 if callable(seed) else seed)
    stream = seed if callable(seed) else lambda _: rng
    made = [{**given, **solved} for given, solved in source.make(range(samples), stream)]
    given = source.Parameters(**parameters).model_dump()
    schema = Schema(
        scenario, source.fields, source.axes, source.symmetries, given, resolution=resolution
    )
    fields = {field.name: np.stack([one[field.name] for one in made]) for field in source.fields}
    return Split(name, schema, fields, np.arange(samples))


class Line:
    """A trained surrogate, its test split, and the mean fields of its training split."""

    def __init__(self, training, validation, test, **others):
        self.test, self.mean = test, mean_fields(training)
        with TemporaryDirectory() as work:
            self.surrogate: Surrogate = train(
                training,
                validation,
                config=CONFIG,
                seed=0,
                work=Path(work),
                quiet=True,
                **{"model": MODEL, **others},
            )[0]


@cache
def line(scenario, resolution=16, history=1, scheme="rollout", time="frames"):
    """Solve and train; once for each set of arguments in a test run."""
    parameters = PARAMETERS.get(scenario, {})
    splits = [
        solved_split(name, scenario, count, seed, resolution, **parameters)
        for seed, (name, count) in enumerate({"train": 48, "validation": 8, "test": 10}.items())
    ]
    model = POINTS if scenario.endswith("_ring") else MODEL
    task = TaskConfig.model_validate({"history": history, "scheme": scheme, "time": time})
    return Line(*splits, model=model, task=task)


PARAMETERS: dict[str, dict[str, Any]] = {
    "diffusion_reaction": {"frames": 7, "duration": 1.5},
    "burgers": {"frames": 6, "duration": 0.5, "viscosity_low": 0.01, "viscosity_high": 0.04},
    "navier_stokes": {"frames": 6, "duration": 5.0},
    "shallow_water": {"frames": 6},
    "furnace": {"frames": 6},
}
POINTS = ModelConfig(width=12, layers=1, d_state=2, path="bidirectional")

SPLITS = {"train": 150, "validation": 150, "test": 200}


@cache
def solved(name, samples, scenario, resolution, **parameters):
    """Return solved samples, which differ from split to split."""
    split = list(SPLITS).index(name)

    def stream(number):
        return np.random.default_rng([split, number])

    return solved_split(name, scenario, samples, stream, resolution, **parameters)


def darcy_splits():
    return [solved(name, samples, "darcy", 8) for name, samples in SPLITS.items()]


@cache
def darcy_model(work):
    training, validation, _ = darcy_splits()
    surrogate, _ = train(
        training=training,
        validation=validation,
        model=ModelConfig(width=8, layers=1, d_state=2),
        config=TrainConfig(epochs=6, batch_size=8, learning_rate=1e-2, threads=1),
        seed=0,
        work=work,
        quiet=True,
    )
    return surrogate


def trust_of(surrogate, splits, draws=0):
    return calibrated_trust(surrogate, *splits, TrustConfig(draws=draws), "0" * 64, 64)


def reactions():
    splits = [solved(name, 12, "diffusion_reaction", 8, frames=4, duration=0.75) for name in SPLITS]
    return untrained(splits[0].schema, splits[0].fields), splits


def imported(samples=20, gaps=True):
    """Return measured temperatures with holes, as `mno import` would bring them in."""
    axes = tuple(Axis(name, "m", name, (np.arange(6) + 0.5) / 6, (0.0, 1.0)) for name in ("x", "y"))
    schema = Schema(
        "plant",
        (
            Field("load", "W", "load", "input", ("x", "y"), gaps=gaps),
            Field("speed", "m s-1", "speed", "input", ()),
            Field("temperature", "K", "temperature", "output", ("x", "y"), gaps=gaps),
        ),
        axes,
        sources=({"file": "plant.npz", "sha256": "0" * 64},),
    )
    splits = []
    for number, name in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        load = rng.random((samples, 6, 6)).astype(np.float32)
        fields = {
            "load": load,
            "speed": rng.random(samples).astype(np.float32),
            "temperature": 300 + np.cumsum(load, axis=1),
        }
        if gaps:
            for field in ("load", "temperature"):
                fields[field] = np.where(rng.random(load.shape) < 0.2, np.nan, fields[field])
            fields["temperature"][0] = np.nan
        splits.append(Split(name, schema, fields, np.arange(samples)))
    return untrained(schema, splits[0].fields), splits


def rings():
    splits = [solved(name, 12, "darcy_ring", 8) for name in SPLITS]
    return untrained(splits[0].schema, splits[0].fields), splits
