"""A field on unordered points that differ from sample to sample: `u = a sin(pi x) sin(pi y)`."""

import numpy as np
from runner import runner

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig

POINTS = 40
MODEL = ModelConfig(width=8, layers=1, d_state=2, path="bidirectional")
AXES = ("point",)
FIELDS = (
    Field("x", "m", "x", "coordinate", AXES),
    Field("y", "m", "y", "coordinate", AXES),
    Field("load", "N", "load", "input", AXES),
    Field("deflection", "m", "deflection", "output", AXES),
)


def schema(points=POINTS):
    axis = Axis("point", "1", "point", np.arange(points, dtype=float), (0.0, float(points)))
    return Schema("plate", FIELDS, (axis,))


def make_split(name, samples, seed, points=POINTS):
    rng = np.random.default_rng(seed)
    x, y = rng.random((2, samples, points)) * np.array([2.0, 1.0])[:, None, None]
    load = rng.uniform(1.0, 2.0, (samples, 1)) * np.ones_like(x)
    deflection = load * np.sin(np.pi * x / 2) * np.sin(np.pi * y)
    fields = {"x": x, "y": y, "load": load, "deflection": deflection}
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, schema(points), arrays, np.arange(samples))


TRAINING, VALIDATION, run = runner(make_split, 12, MODEL)
