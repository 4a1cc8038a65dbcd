"""Solved runs as datasets, untrained models of them, and readings as a sensor log has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.data.reading import read_schema, read_split
from mno.imports.mapping import SensorRules
from mno.imports.readings import Readings, read_readings
from mno.scenarios.base import scenario_class
from mno.surrogate.surrogate import Surrogate
from tests.support.untrained import untrained as untrained_on

HEADER = "time,sensor,x,y,quantity,value,unit,uncertainty"


def write_log(path: Path, rows: Iterable[Iterable[object]], header: str = HEADER) -> Path:
    """Write rows as a table of readings."""
    lines = (",".join("" if cell is None else str(cell) for cell in row) for row in rows)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def readings_of(folder: Path, rows: Iterable[Iterable[object]], header: str = HEADER) -> Readings:
    """Return rows as readings, through a file."""
    return read_readings(write_log(folder / "sensors.csv", rows, header), SensorRules())


def dataset(folder: Path, scenario: str, resolution: int, parameters: Mapping[str, Any]) -> Path:
    """Solve four samples and release them."""
    cls = scenario_class(scenario)
    split = SplitConfig(train=0.5, validation=0.25, test=0.25)
    config = GenerateConfig(samples=4, resolution=resolution, shard_size=2, seed=0, split=split)
    plan = DatasetPlan(cls, cls.Parameters(**parameters), config, code="")
    generate(plan, folder / "work", folder / "data", ExecutionConfig())
    return folder / "data"


def untrained(store: Path, history: int = 1, split: str = "train") -> Surrogate:
    """Return a model of a dataset that has learned nothing but the scales of its fields."""
    schema, fields = read_schema(store), read_split(store, split).fields
    extents = tuple(float(np.ptp(fields[c.name])) for c in schema.coordinates)
    return untrained_on(schema, fields, history, extent=extents or schema.extent)
