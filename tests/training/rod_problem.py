"""A rod that is heated from outside and loses heat at a rate of its own: forcing and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.fields import Axis, Field
from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.history import History

POINTS, FRAMES = 8, 6
MODEL = ModelConfig(width=8, layers=1, d_state=2)
CONFIG = TrainConfig(epochs=4, batch_size=4, learning_rate=1e-2, threads=1)
FIELDS = (
    Field("power", "W", "power", "input", ("time", "x")),
    Field("loss", "s-1", "loss", "input", ()),
    Field("temperature", "K", "temperature", "state", ("time", "x")),
)


def schema() -> Schema:
    centres = (np.arange(POINTS) + 0.5) / POINTS
    time = Axis("time", "s", "time", np.arange(FRAMES) * 0.5, (0.0, 0.5 * (FRAMES - 1)))
    return Schema("rod", FIELDS, (time, Axis("x", "m", "x", centres, (0.0, 1.0))))


def make_split(name: str, samples: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    power = rng.random((samples, FRAMES, 1)) * (1 + rng.random((samples, 1, POINTS)))
    loss = rng.uniform(0.1, 0.5, samples)
    frames = [rng.random((samples, POINTS))]
    for k in range(FRAMES - 1):
        padded = np.pad(frames[-1], ((0, 0), (1, 1)), mode="edge")
        spread = 0.2 * np.diff(padded, 2, axis=1)
        frames.append(frames[-1] + spread + power[:, k] - loss[:, None] * frames[-1])
    fields = {"power": power, "loss": loss, "temperature": np.stack(frames, axis=1)}
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, schema(), arrays, np.arange(samples))


TRAINING = make_split("train", 12, seed=1)
VALIDATION = make_split("validation", 5, seed=2)


def run(
    work: Path, task: TaskConfig, *, config: TrainConfig = CONFIG, **others
) -> tuple[Surrogate, History]:
    """Train the small model on the rod."""
    arguments = {"training": TRAINING, "validation": VALIDATION, "model": MODEL, "seed": 0}
    return train(**(arguments | others), config=config, work=work, task=task, quiet=True)
