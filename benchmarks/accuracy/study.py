"""Which cells there are, and the samples of each."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy import public_darcy
from benchmarks.accuracy.cells import Cell
from benchmarks.accuracy.recipes import Recipe
from mno.data.reading import Split
from mno.nn.config import ModelConfig

PARTS = ("public", "options")
SEEDS = (0, 1, 2)
SAMPLES = (100, 1000)
DARCY = "public Darcy"

PUBLIC: dict[str, Recipe] = {}
"""The best that was found for each model, on the last 100 of the training samples."""

SMALL: dict[str, Any] = {"width": 32, "layers": 3, "d_state": 4}
TRAINING: dict[str, Any] = {"batch_size": 16, "learning_rate": 4e-3, "threads": 1}
STEPS = 1500
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augment": {"augment": True},
    "residual 0.01": {"residual_weight": 0.01},
    "noise 0.1": {"input_noise": 0.1},
    "mask 0.05": {"input_mask": 0.05},
    "EMA 0.99": {"ema_decay": 0.99},
}
"""One option at a time; their strengths were fixed before anything was measured."""


def cells() -> list[tuple[Cell, Recipe]]:
    """List all cells; seeds last, so that a part is a small study."""
    public = [
        (Cell("public", DARCY, 1000, name, seed), recipe)
        for seed in SEEDS
        for name, recipe in PUBLIC.items()
    ]
    options = [
        (
            Cell("options", problem, samples, name, seed),
            Recipe(ModelConfig(**SMALL), TRAINING | option, STEPS),
        )
        for seed in SEEDS
        for problem in (DARCY,)
        for samples in SAMPLES
        for name, option in OPTIONS.items()
    ]
    return public + options


def splits(cell: Cell, folder: Path) -> dict[str, Split]:
    """Return the splits of a cell.

    Where all samples are learned, those held out are among them, and choose the last epochs.
    """
    train = _public(folder)["train"]
    held_out = public_darcy.part(train, -public_darcy.HELD_OUT, len(train), "validation")
    learned = public_darcy.part(train, 0, cell.samples, "train")
    return {"train": learned, "validation": held_out, "test": _public(folder)["test"]}


@cache
def _public(folder: Path) -> dict[str, Split]:
    return public_darcy.read(folder)
