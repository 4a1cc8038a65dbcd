"""A rod that is heated from outside and loses heat at a rate of its own: forcing and number."""

import numpy as np
from runner import runner

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig

POINTS, FRAMES = 8, 6
MODEL = ModelConfig(width=8, layers=1, d_state=2)
FIELDS = (
    Field("power", "W", "power", "input", ("time", "x")),
    Field("loss", "s-1", "loss", "input", ()),
    Field("temperature", "K", "temperature", "state", ("time", "x")),
)


def schema():
    centres = (np.arange(POINTS) + 0.5) / POINTS
    time = Axis("time", "s", "time", np.arange(FRAMES) * 0.5, (0.0, 0.5 * (FRAMES - 1)))
    return Schema("rod", FIELDS, (time, Axis("x", "m", "x", centres, (0.0, 1.0))))


def make_split(name, samples, seed):
    rng = np.random.default_rng(seed)
    power = rng.random((samples, FRAMES, 1)) * (1 + rng.random((samples, 1, POINTS)))
    loss = rng.uniform(0.1, 0.5, samples)
    frames = [rng.random((samples, POINTS))]
    for k in range(FRAMES - 1):
        spread = 0.2 * np.diff(np.pad(frames[-1], ((0, 0), (1, 1)), mode="edge"), 2, axis=1)
        frames.append(frames[-1] + spread + power[:, k] - loss[:, None] * frames[-1])
    fields = {"power": power, "loss": loss, "temperature": np.stack(frames, axis=1)}
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, schema(), arrays, np.arange(samples))


TRAINING, VALIDATION, run = runner(make_split, 12, MODEL)
