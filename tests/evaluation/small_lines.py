"""Small surrogates of real scenarios, trained for a moment, and the splits they were trained on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.evaluation.evaluator import mean_fields
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train

MODEL = ModelConfig(width=12, layers=2, d_state=2)
CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=1e-2, threads=1)


def solved_split(
    name: str, scenario: str, samples: int, seed: int, resolution: int, **parameters: Any
) -> Split:
    """Solve samples of a scenario, as a dataset would hold them."""
    source = make_scenario(scenario, resolution, parameters)
    rng = np.random.default_rng(seed)
    made = [{**given, **solved} for given, solved in source.make(range(samples), lambda _: rng)]
    schema = Schema(
        scenario,
        source.fields,
        source.axes,
        source.symmetries,
        source.Parameters(**parameters).model_dump(),
        resolution=resolution,
    )
    fields = {field.name: np.stack([one[field.name] for one in made]) for field in source.fields}
    return Split(name, schema, fields, np.arange(samples))


class Line:
    """A trained surrogate, its test split, and the mean fields of its training split."""

    def __init__(self, training: Split, validation: Split, test: Split, **others: Any) -> None:
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
def line(scenario: str, resolution: int = 16, history: int = 1, scheme: str = "rollout") -> Line:
    """Solve and train; once for each set of arguments in a test run."""
    parameters = PARAMETERS.get(scenario, {})
    splits = [
        solved_split(name, scenario, count, seed, resolution, **parameters)
        for seed, (name, count) in enumerate({"train": 48, "validation": 8, "test": 10}.items())
    ]
    model = POINTS if scenario.endswith("_ring") else MODEL
    task = TaskConfig.model_validate({"history": history, "scheme": scheme})
    return Line(*splits, model=model, task=task)


PARAMETERS: dict[str, dict[str, Any]] = {
    "diffusion_reaction": {"frames": 7, "duration": 1.5},
    "burgers": {"frames": 6, "duration": 0.5, "viscosity_low": 0.01, "viscosity_high": 0.04},
    "navier_stokes": {"frames": 6, "duration": 5.0},
    "shallow_water": {"frames": 6},
    "furnace": {"frames": 6},
    "furnace_ring": {"frames": 6},
}
POINTS = ModelConfig(width=12, layers=1, d_state=2, path="bidirectional")
