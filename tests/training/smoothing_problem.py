"""A small real problem: smooth a random field, `u − 0.01 Δu = f` on the periodic unit square."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.history import History

POINTS = 8
MODEL = ModelConfig(width=8, layers=1, d_state=2)
CONFIG = TrainConfig(epochs=6, batch_size=4, learning_rate=1e-2, threads=1)


def schema() -> Schema:
    centres = (np.arange(POINTS) + 0.5) / POINTS
    axes = tuple(Axis(name, "m", f"{name} coordinate", centres, (0.0, 1.0)) for name in "xy")
    fields = (
        Field("source", "K", "source", "input", ("x", "y")),
        Field("temperature", "K", "temperature", "output", ("x", "y")),
    )
    return Schema(scenario="smoothing", fields=fields, axes=axes)


def make_split(name: str, samples: int, seed: int) -> Split:
    source = 5 + np.random.default_rng(seed).standard_normal((samples, POINTS, POINTS))
    k = 2 * np.pi * np.fft.fftfreq(POINTS, 1 / POINTS)
    symbol = 1 + 0.01 * (k[:, None] ** 2 + k[None, :] ** 2)
    temperature = np.fft.ifft2(np.fft.fft2(source) / symbol).real
    fields = {"source": source.astype(np.float32), "temperature": temperature.astype(np.float32)}
    return Split(name=name, schema=schema(), fields=fields, indices=np.arange(samples))


TRAINING = make_split("train", 14, seed=1)
VALIDATION = make_split("validation", 5, seed=2)


def run(work: Path, *, config: TrainConfig = CONFIG, **others) -> tuple[Surrogate, History]:
    """Train the small model on the small problem."""
    arguments = {"training": TRAINING, "validation": VALIDATION, "model": MODEL, "seed": 0}
    return train(**(arguments | others), config=config, work=work)


def weights_of(surrogate: Surrogate) -> dict[str, bytes]:
    """Return the weights bit by bit."""
    state = surrogate.operator.state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def train_in_child(work: Path, config: TrainConfig) -> None:
    """Train in a process of its own, which a test may kill."""
    run(work, config=config)
