"""Models that trust is tried on: a small one of Darcy flow that is trained, others that are not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.evaluation.trust import calibrated_trust
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.config import TrustConfig
from mno.surrogate.trust.trust import Trust
from mno.training.config import TrainConfig
from mno.training.fit import train
from tests.support.untrained import untrained

SPLITS = {"train": 150, "validation": 150, "test": 200}


@cache
def solved(name: str, samples: int, scenario: str, resolution: int, **parameters) -> Split:
    """Return solved samples, which differ from split to split."""
    solver = make_scenario(scenario, resolution, parameters)
    rows = []
    for number in range(samples):
        drawn = solver.sample(np.random.default_rng([list(SPLITS).index(name), number]))
        rows.append({**drawn, **solver.solve(drawn)})
    fields = {field.name: np.stack([row[field.name] for row in rows]) for field in solver.fields}
    given = type(solver).Parameters(**parameters).model_dump()
    schema = Schema(
        scenario, solver.fields, solver.axes, solver.symmetries, given, resolution=resolution
    )
    return Split(name, schema, fields, np.arange(samples))


def darcy_splits() -> list[Split]:
    return [solved(name, samples, "darcy", 8) for name, samples in SPLITS.items()]


@cache
def darcy_model(work: Path) -> Surrogate:
    training, validation, _ = darcy_splits()
    surrogate, _ = train(
        training=training,
        validation=validation,
        model=ModelConfig(width=8, layers=1, d_state=2),
        config=TrainConfig(epochs=6, batch_size=8, learning_rate=1e-2, threads=1),
        seed=0,
        work=work,
        quiet=True,
    )
    return surrogate


def trust_of(surrogate: Surrogate, splits: list[Split], **config) -> Trust:
    return calibrated_trust(surrogate, *splits, TrustConfig(**config), "0" * 64, 64)


def reactions() -> tuple[Surrogate, list[Split]]:
    splits = [solved(name, 12, "diffusion_reaction", 8, frames=4, duration=0.75) for name in SPLITS]
    return untrained(splits[0].schema, splits[0].fields), splits


def imported(samples: int = 20, gaps: bool = True) -> tuple[Surrogate, list[Split]]:
    """Return measured temperatures with holes, as `mno import` would bring them in."""
    axes = tuple(Axis(name, "m", name, (np.arange(6) + 0.5) / 6, (0.0, 1.0)) for name in ("x", "y"))
    schema = Schema(
        "plant",
        (
            Field("load", "W", "load", "input", ("x", "y"), gaps=gaps),
            Field("speed", "m s-1", "speed", "input", ()),
            Field("temperature", "K", "temperature", "output", ("x", "y"), gaps=gaps),
        ),
        axes,
        sources=({"file": "plant.npz", "sha256": "0" * 64},),
    )
    splits = []
    for number, name in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        load = rng.random((samples, 6, 6)).astype(np.float32)
        fields = {
            "load": load,
            "speed": rng.random(samples).astype(np.float32),
            "temperature": 300 + np.cumsum(load, axis=1),
        }
        if gaps:
            for field in ("load", "temperature"):
                fields[field] = np.where(rng.random(load.shape) < 0.2, np.nan, fields[field])
            fields["temperature"][0] = np.nan
        splits.append(Split(name, schema, fields, np.arange(samples)))
    return untrained(schema, splits[0].fields), splits


def rings() -> tuple[Surrogate, list[Split]]:
    splits = [solved(name, 12, "darcy_ring", 8) for name in SPLITS]
    return untrained(splits[0].schema, splits[0].fields), splits
