"""Bodies that cool, each read at times of its own: what is next depends on when it is read."""

import numpy as np
from runner import CONFIG, runner

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig

POINTS, FRAMES = 4, 8
MODEL = ModelConfig(width=16, layers=1, d_state=4, path="bidirectional")
POINT = ("point",)
FIELDS = (
    Field("x", "m", "x", "coordinate", POINT),
    Field("elapsed", "s", "time since the first frame", "times", ("time",)),
    Field("temperature", "K", "temperature", "state", ("time", "point")),
)


def schema(fields=FIELDS):
    time = Axis("time", "s", "time", np.arange(FRAMES) * 10.0, (0.0, 10.0 * (FRAMES - 1)))
    return Schema("bodies", fields, (time, Axis("point", "1", "", np.arange(4.0), (0.0, 4.0))))


def make_split(name, samples, seed):
    rng = np.random.default_rng(seed)
    intervals = 10.0 * rng.choice([0.1, 0.5, 2.0], (samples, FRAMES - 1), p=[0.4, 0.3, 0.3])
    elapsed = np.pad(intervals.cumsum(axis=1), ((0, 0), (1, 0)))
    first = rng.uniform(1.0, 2.0, (samples, 1, POINTS))
    fields = {
        "x": np.tile(np.linspace(0.0, 1.0, POINTS), (samples, 1)),
        "elapsed": elapsed,
        "temperature": first * np.exp(-elapsed[..., None] / 30.0),
    }
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, schema(), arrays, np.arange(samples))


def without_times(split):
    """Return the same frames of which it is not said when they are."""
    kept = tuple(field for field in FIELDS if field.role != "times")
    fields = {field.name: split.fields[field.name] for field in kept}
    return Split(split.name, schema(kept), fields, split.indices)


TRAINING, VALIDATION, run = runner(make_split, 32, MODEL, CONFIG.model_copy(update={"epochs": 14}))
