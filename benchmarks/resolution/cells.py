"""One training and its errors is a cell of the study, kept as one JSON file.

A model that scans is measured twice, with its steps scaled by the spacing of the grid and without:
on the grid of training the scale is 1, so that one training serves both.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.resolution import Task, in_space, in_time
from benchmarks.resolution.models import MODELS, build, has_steps
from benchmarks.resolution.training import Normalised, Settings, mean_error, train
from mno.nn.build import count_parameters

RESULTS = Path(__file__).parents[1] / "results" / "resolution"
SEEDS = (0, 1, 2)
SAMPLES = {"train": 2000, "validation": 32, "test": 128}
SETTINGS = Settings(steps=1000, batch_size=8, learning_rate=6e-3)
TASKS: dict[str, Callable[..., Task]] = {
    "space": in_space.make,
    "walls": in_space.make,  # the same samples; the models know more
    "time": in_time.make,
}

Cell = dict[str, Any]


def names() -> list[tuple[str, str, int]]:
    """List all cells as task, model and seed; seeds last, so that a part is a small study."""
    return [(task, name, seed) for seed in SEEDS for task in MODELS for name in MODELS[task]]


def read(task: str, name: str, seed: int) -> Cell | None:
    """Return a cell, or `None` where it is missing or was made with other settings."""
    try:
        cell = json.loads(_path(task, name, seed).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return cell if cell["made_with"] == _made_with(task, name) else None


def make(task: str, name: str, seed: int) -> Cell:
    """Train, measure and keep a cell."""
    samples, options = _samples(task), MODELS[task][name]
    torch.manual_seed(seed)
    model = build(options)
    start = time.perf_counter()
    trained = train(model, samples, SETTINGS, seed)
    seconds = time.perf_counter() - start
    errors = {"scaled": _errors(trained, samples)}
    if has_steps(options):
        unscaled = build(options, scaled=False)
        unscaled.load_state_dict(model.state_dict())
        errors["not scaled"] = _errors(Normalised(unscaled, samples), samples)
    cell = {
        "task": task,
        "model": name,
        "seed": seed,
        "made_with": _made_with(task, name),
        "parameters": count_parameters(model),
        "training_seconds": round(seconds, 1),
        "errors": errors,
    }
    path = _path(task, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return cell


def _errors(trained: Normalised, samples: Task) -> dict[str, dict[str, float]]:
    splits = {"validation": samples.validation, "test": samples.test}
    return {
        split: {grid: mean_error(trained, kind) for grid, kind in kinds.items()}
        for split, kinds in splits.items()
    }


@cache
def _samples(task: str) -> Task:
    return TASKS[task](**SAMPLES)


def _made_with(task: str, name: str) -> dict[str, Any]:
    made_with = {
        "model": MODELS[task][name],
        "training": SETTINGS.model_dump(),
        "samples": SAMPLES,
    }
    return json.loads(json.dumps(made_with))  # as it is read back: tuples are lists


def _path(task: str, name: str, seed: int) -> Path:
    return RESULTS / f"{task}-{name.replace(', ', '-').replace(' ', '-').lower()}-{seed}.json"
