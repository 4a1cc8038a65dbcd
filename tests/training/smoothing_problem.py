"""A small real problem: smooth a random field, `u − 0.01 Δu = f` on the periodic unit square."""

import numpy as np
import runner

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig

POINTS = 8
MODEL = ModelConfig(width=8, layers=1, d_state=2)
CONFIG = runner.CONFIG.model_copy(update={"epochs": 6})
CENTRES = (np.arange(POINTS) + 0.5) / POINTS
SCHEMA = Schema(
    scenario="smoothing",
    fields=(
        Field("source", "K", "source", "input", ("x", "y")),
        Field("temperature", "K", "temperature", "output", ("x", "y")),
    ),
    axes=tuple(Axis(name, "m", f"{name} coordinate", CENTRES, (0.0, 1.0)) for name in "xy"),
)


def make_split(name, samples, seed):
    source = 5 + np.random.default_rng(seed).standard_normal((samples, POINTS, POINTS))
    k = 2 * np.pi * np.fft.fftfreq(POINTS, 1 / POINTS)
    symbol = 1 + 0.01 * (k[:, None] ** 2 + k[None, :] ** 2)
    temperature = np.fft.ifft2(np.fft.fft2(source) / symbol).real
    fields = {"source": source.astype(np.float32), "temperature": temperature.astype(np.float32)}
    return Split(name, SCHEMA, fields, np.arange(samples))


TRAINING, VALIDATION, run = runner.runner(make_split, 14, MODEL, config=CONFIG, quiet=False)
