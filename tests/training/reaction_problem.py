"""A few solved trajectories of diffusion and reaction, as a dataset would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.history import History

FRAMES = 6
PARAMETERS = {"frames": FRAMES, "duration": 1.5}
MODEL = ModelConfig(width=8, layers=1, d_state=2)
CONFIG = TrainConfig(epochs=4, batch_size=4, learning_rate=1e-2, threads=1)
NAMES = ("activator", "inhibitor")


def make_reaction_split(name: str, samples: int, seed: int, resolution: int = 8, **others) -> Split:
    scenario = make_scenario("diffusion_reaction", resolution, PARAMETERS | others)
    rng = np.random.default_rng(seed)
    solved = [scenario.solve(scenario.sample(rng)) for _ in range(samples)]
    return Split(
        name=name,
        schema=Schema(
            "diffusion_reaction",
            scenario.fields,
            scenario.axes,
            scenario.symmetries,
            scenario.Parameters(**(PARAMETERS | others)).model_dump(),
        ),
        fields={field: np.stack([one[field] for one in solved]) for field in solved[0]},
        indices=np.arange(samples),
    )


TRAINING = make_reaction_split("train", 10, seed=1)
VALIDATION = make_reaction_split("validation", 5, seed=2)


def first_frames(split: Split, history: int) -> dict[str, np.ndarray]:
    return {name: field[:, :history] for name, field in split.fields.items()}


def run(
    work: Path, task: TaskConfig, *, config: TrainConfig = CONFIG, **others
) -> tuple[Surrogate, History]:
    """Train the small model on the trajectories."""
    arguments = {"training": TRAINING, "validation": VALIDATION, "model": MODEL, "seed": 0}
    return train(**(arguments | others), config=config, work=work, task=task, quiet=True)
