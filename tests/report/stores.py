"""Datasets of any values, released as generation would."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.config import Config
from mno.core.fields import Axis, Field
from mno.data.config import GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.store import create_store, seal, write_values
from mno.scenarios.base import Scenario


class NoParameters(Config):
    pass


def axis(name: str, points: int, length: float = 1.0) -> Axis:
    places = np.linspace(0, length, points) if name == "time" else (np.arange(points) + 0.5)
    scaled = places if name == "time" else places * length / points
    return Axis(name, "s" if name == "time" else "m", name, scaled, (0.0, length))


def plan_of(
    given_fields: tuple[Field, ...],
    given_axes: tuple[Axis, ...],
    samples: int,
    shard_size: int,
    starts: np.ndarray | None = None,
) -> DatasetPlan:
    class Given(Scenario):
        name = "given"
        title = "Values that somebody gives"
        Parameters = NoParameters
        fields = given_fields
        checks = ()

        def __init__(self, parameters: Config, resolution: int) -> None:
            self.resolution = resolution

        @property
        def axes(self):
            return given_axes

        def coordinates(self):
            return {} if starts is None else {"start": starts}

        def sample(self, rng):
            raise NotImplementedError

        def solve(self, inputs):
            raise NotImplementedError

        def check(self, inputs, outputs):
            raise NotImplementedError

    split = SplitConfig(train=0.5, validation=0.25, test=0.25)
    config = GenerateConfig(
        samples=samples, resolution=8, shard_size=shard_size, seed=0, split=split
    )
    return DatasetPlan(Given, NoParameters(), config, code="")


def release(
    path: Path,
    fields: dict[Field, np.ndarray],
    axes: tuple[Axis, ...],
    shard_size: int = 4,
    starts: np.ndarray | None = None,
) -> Path:
    """Write values of shape `(samples, *dims)` as a released dataset."""
    samples = len(next(iter(fields.values())))
    plan = plan_of(tuple(fields), axes, samples, shard_size, starts)
    create_store(path, plan)
    for shard in range(plan.num_shards):
        rows = plan.samples_of(shard)
        for field, values in fields.items():
            part = values[rows.start : rows.stop].astype(np.float32)
            write_values(path, field.name, rows.start, part)
    seal(path, {})
    return path
