"""A few solved trajectories of diffusion and reaction, as a dataset would give them."""

import numpy as np
from runner import runner

from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario

FRAMES = 6
PARAMETERS = {"frames": FRAMES, "duration": 1.5}
MODEL = ModelConfig(width=8, layers=1, d_state=2)
NAMES = ("activator", "inhibitor")


def make_reaction_split(name, samples, seed, resolution=8, **others):
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


TRAINING, VALIDATION, run = runner(make_reaction_split, 10, MODEL)


def first_frames(split, history):
    return {name: field[:, :history] for name, field in split.fields.items()}
