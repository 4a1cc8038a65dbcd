"""The scenario `diffusion_reaction` on a coarse grid: from the first frame to the next ten."""

from __future__ import annotations

from typing import Any

import numpy as np

from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.scenarios.base import make_scenario

SCENARIO = "diffusion_reaction"
POINTS = 16
PARAMETERS: dict[str, Any] = {"frames": 11, "duration": 2.5}
TASK = TaskConfig(history=1, scheme="rollout")
SAMPLES = {"train": 1000, "validation": 16, "test": 50}


def make() -> dict[str, Split]:
    """Draw and solve the samples of each split, the same every time."""
    scenario = make_scenario(SCENARIO, POINTS, PARAMETERS)
    schema = Schema(
        SCENARIO,
        scenario.fields,
        scenario.axes,
        scenario.symmetries,
        scenario.Parameters.model_validate(PARAMETERS).model_dump(),
    )
    seeds = np.random.SeedSequence(2).spawn(len(SAMPLES))
    splits = {}
    for (split, samples), seed in zip(SAMPLES.items(), seeds, strict=True):
        rng = np.random.default_rng(seed)
        solved = [scenario.solve(scenario.sample(rng)) for _ in range(samples)]
        fields = {name: np.stack([one[name] for one in solved]) for name in solved[0]}
        splits[split] = Split(split, schema, fields, np.arange(samples))
    return splits
