"""One training and its errors is a cell, kept as one JSON file; splits are made where missing."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.config import validate
from mno.core.files import write_text
from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.parts import open_parts
from mno.data.reading import Split
from mno.evaluation.evaluator import split_error
from mno.nn.config import ModelConfig
from mno.scenarios.base import scenario_class
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train

RESULTS = Path(__file__).parents[1] / "results" / "little_data"
HELD_OUT = 0.2
"""Share of the solves that are paid for on which choices are made; the rest is learned."""

Kept = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What is trained: a question, what of it, with how many solves, by which arm, which seed."""

    question: str
    problem: str
    solves: int
    arm: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its results are kept."""
        words = (self.question, self.problem, self.solves, self.arm, self.seed)
        return RESULTS / f"{'--'.join(str(word).replace(' ', '-') for word in words)}.json"

    def read(self, made_with: Mapping[str, Any]) -> Kept | None:
        """Return what is kept of it, or `None` where it is missing or was made otherwise."""
        if not self.path.is_file():
            return None
        kept = json.loads(self.path.read_text(encoding="utf-8"))
        return kept if kept["made_with"] == json.loads(json.dumps(made_with)) else None

    def write(self, made_with: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Keep what was found."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({**vars(self), "made_with": made_with, **found}) + "\n")


def dataset(
    folder: Path, scenario: str, parameters: Mapping[str, Any], config: Mapping[str, Any],
    task: TaskConfig, root: Path = Path(),
) -> dict[str, Split]:  # fmt: skip
    """Solve a dataset into a folder, or open what is there; its splits, in memory, by name."""
    cls = scenario_class(scenario)
    if not (folder / "data").exists():
        given = validate(cls.Parameters, dict(parameters), scenario)
        plan = make_plan(cls, given, GenerateConfig.model_validate(config), "benchmark", root)
        generate(plan, folder / "work", folder / "data", ExecutionConfig())
    splits = open_parts(folder / "data", task, "train", "validation", "test")
    return {split.name: split.take(np.arange(len(split))) for split in splits}  # pyright: ignore


def paid_for(pool: Split, solves: int, seed: int) -> tuple[Split, Split]:
    """Draw so many solves of a pool, and part them into what is learned and what chooses.

    More solves of the same seed hold all that fewer hold.
    """
    order = np.random.default_rng([seed, 27]).permutation(len(pool))[:solves]
    held_out = max(2, round(HELD_OUT * solves))
    # Spread over the draw, so that what chooses is nested, too.
    chooses = np.linspace(0, solves - 1, held_out).round().astype(int)
    learned = np.setdiff1d(np.arange(solves), chooses)
    return pool.take(order[learned]), pool.take(order[chooses])


def trained(
    splits: tuple[Split, Split], model: ModelConfig, config: TrainConfig, task: TaskConfig,
    seed: int, initial: Surrogate | None = None,
) -> tuple[Surrogate, float, float]:  # fmt: skip
    """Train; return the surrogate, its validation error and the processor seconds."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        surrogate, history = train(
            *splits, model=model, config=config, task=task, seed=seed, work=Path(work),
            initial=initial, quiet=True,
        )  # fmt: skip
    seconds = time.process_time() - begun
    return surrogate, history.best.validation_relative_l2, round(seconds, 1)


def errors_of(surrogate: Surrogate, test: Split) -> list[float]:
    """Return the relative L2 error of each test sample."""
    forecast = surrogate.description.forecast
    history = forecast.history if forecast else 0
    found = split_error(surrogate.predict, test, 64, history, history)
    return [round(float(error), 5) for error in found.per_sample()]
