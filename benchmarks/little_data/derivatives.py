"""Derivatives of the solver beside its solutions, against more solutions, at equal solves.

A sample with derivatives costs as many solves as `Scenario.solve_along` takes times what `solve`
takes, by the processor's time on the machine of `costs.json`; solves that choose (a fifth of the
samples) need none. All trainings of a problem are given as many samples, by one recipe; the weight
of derivatives, and batches and rates with and without them, were chosen on a seed that no cell has.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.little_data.cells import (
    HELD_OUT,
    RESULTS,
    Cell,
    Kept,
    dataset,
    errors_of,
    paid_for,
    trained,
)
from benchmarks.page import processor
from mno.core.files import write_text
from mno.core.forecast import TaskConfig
from mno.data.reading import Split
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.training.config import TrainConfig

QUESTION = "derivatives"
COSTS = RESULTS / "costs.json"
PROBLEMS: dict[str, dict[str, Any]] = {
    "darcy": {
        "resolution": 24, "parameters": {"sampling": "lognormal"},
        "scales": {"permeability": "log"}, "model": {"walls": "zero", "patch": 4},
    },
    "burgers": {
        "resolution": 64, "parameters": {}, "train": {"learning_rate": 8e-3},
        "scales": {}, "model": {"walls": "periodic", "patch": 2},
    },
    "darcy_ring": {
        "resolution": 24, "parameters": {},
        "scales": {"permeability": "log"}, "model": {"walls": "free", "cells": 12},
    },
    "furnace": {
        "resolution": 32, "parameters": {"frames": 11},
        "scales": {}, "model": {"walls": "free", "patch": 4},
    },
}  # fmt: skip
DIRECTIONS = {"darcy": 48, "burgers": 48, "darcy_ring": 24, "furnace": 4}
GIVEN = {"darcy_ring": 80_000}
"""Samples that a training is given, one after another, where not 40,000."""
SEEDS = (0, 1, 2)
FEW, MANY, TEST = 100, 500, 200
WITH, WITHOUT = "with derivatives", "without"
TASK = TaskConfig(history=1, scheme="horizon")
MODEL: dict[str, Any] = {
    "backbone": "latent", "mixer": ["softmax"], "width": 48, "layers": 3, "d_state": 2, "expand": 1,
}  # fmt: skip
TRAIN: dict[str, Any] = {
    "batch_size": 16, "optimizer": "muon", "learning_rate": 4e-3, "beta2": 0.95,
    "warmup_fraction": 0.1, "patience": 100_000, "augment": True, "threads": 1,
}  # fmt: skip
TRAIN_OF: dict[tuple[str, str], dict[str, Any]] = {
    ("darcy_ring", WITH): {"batch_size": 4},
    ("darcy_ring", WITHOUT): {"batch_size": 8, "learning_rate": 8e-3},
}
WEIGHT = 1.0


def cells() -> Iterator[Cell]:
    """All cells; seeds last, so that a part is a small study."""
    for seed in SEEDS:
        for problem in PROBLEMS:
            for solves, arm in ((FEW, WITH), (FEW, WITHOUT), (MANY, WITHOUT)):
                yield Cell(QUESTION, problem, solves, arm, seed)


def made_with(cell: Cell) -> dict[str, Any]:
    """Return all that a cell depends on, but code."""
    along = {"directions": DIRECTIONS[cell.problem]} if cell.arm == WITH else {}
    return {
        "problem": PROBLEMS[cell.problem], "test": TEST, "pool": MANY, "model": MODEL,
        "task": TASK.model_dump(mode="json"), "train": train_of(cell), "steps": steps_of(cell),
        "samples": samples_of(cell), "weight": WEIGHT if along else 0.0, **along,
    }  # fmt: skip


def samples_of(cell: Cell) -> int:
    """Return how many samples so many solves pay for, of which a fifth choose."""
    if cell.arm == WITHOUT:
        return cell.solves
    cost = costs()[cell.problem]["solves"]
    return round(cell.solves / ((1.0 - HELD_OUT) * cost + HELD_OUT))


def steps_of(cell: Cell) -> int:
    """Return how many steps a training has."""
    return GIVEN.get(cell.problem, 40_000) // train_of(cell)["batch_size"]


def train_of(cell: Cell) -> dict[str, Any]:
    """Return what a training is set to, but what the problem sets."""
    return TRAIN | TRAIN_OF.get((cell.problem, cell.arm), {})


def make(cell: Cell, work: Path) -> Kept:
    """Train, measure and keep a cell."""
    of, splits = PROBLEMS[cell.problem], _solved(work, cell.problem)
    few = paid_for(splits["train"], samples_of(cell), cell.seed)
    how = made_with(cell)
    epochs = max(1, round(how["steps"] / -(-len(few[0]) // how["train"]["batch_size"])))
    more = {"scales": of["scales"], "derivatives": how["weight"], "epochs": epochs}
    config = TrainConfig.model_validate({**how["train"], **of.get("train", {}), **more})
    model = ModelConfig.model_validate({**MODEL, **of["model"]})
    surrogate, error, seconds = trained(few, model, config, TASK, cell.seed)
    found = {
        "validation_error": round(error, 5), "seconds": seconds, "learned": len(few[0]),
        "errors": errors_of(surrogate, splits["test"]),
    }  # fmt: skip
    cell.write(how, found)
    return found


@cache
def _solved(work: Path, problem: str) -> dict[str, Split]:
    of, count = PROBLEMS[problem], MANY + 1 + TEST
    shares = {"validation": 1 / count, "test": TEST / count}
    split = {"train": 1 - sum(shares.values()), **shares}
    config = {
        "samples": count, "resolution": of["resolution"], "shard_size": 50, "seed": 0,
        "split": split, "derivatives": DIRECTIONS[problem],
    }  # fmt: skip
    return dataset(work / problem, problem, of["parameters"], config, TASK)


@cache
def costs() -> dict[str, Any]:
    """Return what samples with derivatives cost, as kept, or else measured on this machine."""
    if not COSTS.is_file():
        RESULTS.mkdir(parents=True, exist_ok=True)
        found = {problem: _cost(problem) for problem in PROBLEMS}
        write_text(COSTS, json.dumps({"processor": processor(), **found}, indent=1) + "\n")
    return json.loads(COSTS.read_text(encoding="utf-8"))


def _cost(problem: str) -> dict[str, float]:
    of = PROBLEMS[problem]
    scenario = make_scenario(problem, of["resolution"], of["parameters"])
    scenario.compile()
    times: dict[str, list[float]] = {"solve": [], "along": []}
    for number in range(30):
        given = scenario.sample(np.random.default_rng([number, 0]))
        others = [
            scenario.sample(np.random.default_rng([number, 1 + k]))
            for k in range(DIRECTIONS[problem])
        ]
        along = {
            n: np.stack([other[n].astype(np.float64) - given[n] for other in others]) for n in given
        }
        for name, call in (
            ("solve", lambda given=given: scenario.solve(given)),
            ("along", lambda given=given, along=along: scenario.solve_along(given, along)),
        ):
            begun = time.process_time()
            call()
            times[name].append(time.process_time() - begun)
    solve, along = (statistics.median(times[name]) for name in ("solve", "along"))
    return {"solve_ms": round(1e3 * solve, 3), "solves": round(along / solve, 2)}
