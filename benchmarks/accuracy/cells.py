"""One training and its errors is a cell of the study, kept as one JSON file."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy import public_darcy
from benchmarks.accuracy.recipes import Recipe
from mno.core.files import write_text
from mno.core.forecast import TaskConfig
from mno.data.reading import Split
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.fit import train

RESULTS = Path(__file__).parents[1] / "results" / "accuracy"
UNFINISHED = "unfinished"
"""Folder of checkpoints, by which a training that was stopped goes on, on another machine, too."""
NOISE = (0.1, 0.2, 0.4)
"""Noise in the inputs of the test, in standard deviations of the field."""
MASK = (0.02, 0.05, 0.1)
"""Share of points whose inputs are missing in the test."""


@dataclass(frozen=True)
class Cell:
    """What is trained, and on what.

    Attributes:
        part: Table that the cell belongs to.
        problem: Where its samples are from.
        samples: Number of them that are learned.
        recipe: Name of how.
        seed: Of weights, order and all that is drawn.
    """

    part: str
    problem: str
    samples: int
    recipe: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its results are kept."""
        words = (self.part, self.problem, str(self.samples), self.recipe, str(self.seed))
        kept = "".join(c for c in "-".join(words).lower() if c.isalnum() or c in " -.")
        return RESULTS / f"{kept.replace(' ', '-')}.json"


def read(cell: Cell, recipe: Recipe) -> dict[str, Any] | None:
    """Return what is kept of a cell, or `None` where it is missing or was made otherwise.

    An option of models and tasks that came later is at its default, which leaves them as they were.
    """
    try:
        kept = json.loads(cell.path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    made_with, now = kept["made_with"], recipe.made_with()
    for section, config in (("model", ModelConfig()), ("task", TaskConfig())):
        if section in made_with:
            made_with[section] = {**config.model_dump(mode="json"), **made_with[section]}
    return kept if made_with == now else None


def make(cell: Cell, recipe: Recipe, splits: dict[str, Split]) -> dict[str, Any]:
    """Train, or go on, measure on the test split and keep the result."""
    work = cell.path.parent / UNFINISHED / cell.path.stem
    work.mkdir(parents=True, exist_ok=True)
    clock = _Clock(work / "seconds")
    surrogate, history = train(
        recipe.prepared(splits["train"]),
        splits["validation"],
        model=recipe.model,
        config=recipe.config(cell.samples),
        task=recipe.task,
        seed=cell.seed,
        work=work,
        observers=[clock],
        quiet=True,
    )
    kept = {
        **asdict(cell),
        "made_with": recipe.made_with(),
        "parameters": surrogate.num_parameters,
        "epochs": len(history),
        "training_seconds": round(clock.seconds, 1),
        "threads": torch.get_num_threads(),
        "train_error": round(history.best.train_relative_l2, 5),
        "validation_error": round(history.best.validation_relative_l2, 5),
        "errors": errors_of(surrogate, splits["test"]),
    }
    if recipe.mirrored:
        answer = public_darcy.averaged(surrogate, splits["test"])
        kept["errors"]["averaged"] = relative_errors(answer, splits["test"])
    write_text(cell.path, json.dumps(kept) + "\n")
    shutil.rmtree(work)
    return kept


class _Clock:
    """Processor seconds that a training has taken, with those before it was stopped."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.process_time()
        self.before = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.process_time() - self.start

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        write_text(self.path, f"{self.seconds:.1f}\n")


def errors_of(surrogate: Surrogate, test: Split) -> dict[str, list[float]]:
    """Return the relative L2 error of each sample, with inputs as they are and corrupted.

    The noise and the missing points are the same for every model.
    """
    normaliser, forecast = surrogate.description.normaliser, surrogate.description.forecast
    given = {name: test.fields[name] for name in surrogate.description.inputs}
    if forecast is not None:
        given = {name: frames[:, : forecast.history] for name, frames in given.items()}
    errors = {"clean": _errors(surrogate, given, test)}
    rng = np.random.default_rng(0)
    draws = {name: rng.standard_normal(field.shape) for name, field in given.items()}
    shape = next(iter(given.values())).shape
    missing = rng.random((*shape[:1], *(1 for _ in shape[1:-2]), *shape[-2:]))
    for level in NOISE:
        noisy = {k: (x + level * normaliser.std[k] * draws[k]) for k, x in given.items()}
        errors[f"noise {level}"] = _errors(surrogate, noisy, test)
    for share in MASK:
        masked = {k: np.where(missing < share, normaliser.mean[k], x) for k, x in given.items()}
        errors[f"missing {share}"] = _errors(surrogate, masked, test)
    return errors


def _errors(surrogate: Surrogate, given: dict[str, np.ndarray], test: Split) -> list[float]:
    given = {name: x.astype(np.float32) for name, x in given.items()}
    return relative_errors(surrogate.predict(given), test)


def relative_errors(predicted: dict[str, np.ndarray], test: Split) -> list[float]:
    """Return the relative L2 error of each sample, averaged over the fields."""
    each = []
    for name, field in predicted.items():
        truth = test.fields[name][:, -field.shape[1] :] if field.ndim > 3 else test.fields[name]
        norms = [np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in (field - truth, truth)]
        each.append(norms[0] / norms[1])
    return [round(float(error), 5) for error in np.mean(each, axis=0)]
