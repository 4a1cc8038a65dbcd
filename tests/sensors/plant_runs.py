"""Solved runs as datasets, untrained models of them, and readings as a sensor log has them."""

import numpy as np

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.data.reading import read_schema, read_split
from mno.imports.mapping import SensorRules
from mno.imports.readings import read_readings
from mno.scenarios.base import scenario_class
from tests.support.untrained import untrained as untrained_on

HEADER = "time,sensor,x,y,quantity,value,unit,uncertainty"


def write_log(path, rows, header=HEADER):
    lines = (",".join("" if cell is None else str(cell) for cell in row) for row in rows)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def readings_of(folder, rows, header=HEADER):
    return read_readings(write_log(folder / "sensors.csv", rows, header), SensorRules())


def dataset(folder, scenario, resolution, parameters):
    cls = scenario_class(scenario)
    split = SplitConfig(train=0.5, validation=0.25, test=0.25)
    config = GenerateConfig(samples=4, resolution=resolution, shard_size=2, seed=0, split=split)
    plan = DatasetPlan(cls, cls.Parameters(**parameters), config, code="")
    generate(plan, folder / "work", folder / "data", ExecutionConfig())
    return folder / "data"


def untrained(store, history=1, split="train"):
    """Return a model of a dataset that has learned nothing but the scales of its fields."""
    schema, fields = read_schema(store), read_split(store, split).fields
    extents = tuple(float(np.ptp(fields[c.name])) for c in schema.coordinates)
    return untrained_on(schema, fields, history, extent=extents or schema.extent)
