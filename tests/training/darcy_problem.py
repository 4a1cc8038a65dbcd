"""A few solved samples of Darcy flow, as a dataset would give them."""

from functools import cache

import numpy as np

from mno.data.reading import Schema, Split
from mno.scenarios.base import make_scenario
from mno.scenarios.darcy import Darcy


@cache
def darcy(resolution):
    scenario = make_scenario("darcy", resolution, {})
    assert isinstance(scenario, Darcy)
    return scenario


def make_darcy_split(name, samples, seed, resolution=8):
    scenario = darcy(resolution)
    rng = np.random.default_rng(seed)
    inputs = [scenario.sample(rng) for _ in range(samples)]
    solved = [{**fields, **scenario.solve(fields)} for fields in inputs]
    return Split(
        name=name,
        schema=Schema("darcy", scenario.fields, scenario.axes, scenario.symmetries),
        fields={field: np.stack([one[field] for one in solved]) for field in solved[0]},
        indices=np.arange(samples),
    )
