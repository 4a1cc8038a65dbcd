"""Which cells there are, and the samples of each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy import cells as one
from benchmarks.accuracy import in_time, public_darcy, published_darcy
from benchmarks.accuracy.cells import Cell
from benchmarks.accuracy.recipes import Recipe
from mno.data.reading import Split
from mno.nn.config import ModelConfig

PARTS = ("public", "published", "options")
SEEDS = (0, 1, 2)
SAMPLES = (100, 1000)
DARCY = "public Darcy"
PUBLISHED_DARCY = "Darcy by the published protocol"
IN_TIME = "diffusion-reaction"

BEST: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": 3e-3,
    "warmup_fraction": 0.05,
    "loss": "h1",
    "augment": True,
    "ema_decay": 0.999,
    "threads": 1,
}
"""What was best on the last 100 of the training samples."""
PLAIN: dict[str, Any] = {"width": 64, "layers": 5, "dropout": 0.02, "walls": "zero"}
FOURIER: dict[str, Any] = {"backbone": "fno", "modes": 8}
EXAMPLE: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 1e-2,
    "weight_decay": 1e-4,
    "warmup_fraction": 0.0,
    "loss": "h1",
    "threads": 1,
}
"""As the package's example trains its FNO."""


def _best(**model: Any) -> Recipe:
    return Recipe(ModelConfig(**model), BEST, steps=10_000, mirrored=True)


_LATENT = ModelConfig(
    backbone="latent", mixer="own", layers=4, width=64, d_state=2, heads=4, expand=1, patch=1,
    dropout=0.02, walls="zero",
)  # fmt: skip
_MUON = BEST | {"optimizer": "muon", "beta2": 0.95, "warmup_fraction": 0.1}
PUBLIC = {
    "mamba": _best(**PLAIN, d_state=8),
    "latent": Recipe(_LATENT, _MUON, steps=10_000, mirrored=True),
    "softmax": _best(**PLAIN, mixer="softmax"),
    "FNO": _best(**FOURIER, width=48, dropout=0.02, walls="zero"),
    "FNO, as its package's example": Recipe(
        ModelConfig(**FOURIER, width=24), EXAMPLE, steps=60 * 16
    ),
}
"""The recipes that are compared on the public data; that of the package's example is published."""

DRAWN, MANY = "latent, of 10,000 drawn alike", 10_000
OF_MANY = Recipe(_LATENT, _MUON | {"batch_size": 8}, steps=15_000, mirrored=True)
"""No recipe of the public data, but what ten times as many samples would bring."""


def _at_equal_cost(steps: int, optimizer: str = "muon", rate: float = 3e-3, **model: Any) -> Recipe:
    given = {"layers": 4, "heads": 4, "expand": 1, "walls": "zero", **model}
    training = {
        "batch_size": 4, "optimizer": optimizer, "learning_rate": rate, "beta2": 0.95,
        "warmup_fraction": 0.1, "augment": True, "threads": 1,
    }  # fmt: skip
    return Recipe(ModelConfig(**given), training, steps)


PUBLISHED = {
    "latent": _at_equal_cost(25_000, backbone="latent", mixer="own", d_state=2, width=96, layers=6,
                             patch=5),
    "U-Net": _at_equal_cost(23_250, rate=1e-3, backbone="unet", width=24, levels=4),
    "FNO": _at_equal_cost(8_250, optimizer="adamw", backbone="fno", width=32, modes=12,
                          padding=0.25),
    "Galerkin": _at_equal_cost(9_500, backbone="galerkin", mixer="own", width=48, modes=12,
                               spectral_width=24, padding=0.25),
    "Transolver": _at_equal_cost(7_000, backbone="transolver", mixer="own", width=64, slices=32),
}  # fmt: skip
"""Each with as many steps as one thread of an AMD EPYC makes in 3,300 s (at 131, 142, 395, 350 and
472 ms), by the optimiser and the rate that were best on Darcy in the trials of the study
`at_equal_cost`."""

SMALL: dict[str, Any] = {"width": 32, "layers": 3, "d_state": 4}
TRAINING: dict[str, Any] = {"batch_size": 16, "learning_rate": 4e-3, "threads": 1}
STEPS = 1000
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augment": {"augment": True},
    "residual 0.01": {"residual_weight": 0.01},
    "noise 0.1": {"input_noise": 0.1},
    "mask 0.05": {"input_mask": 0.05},
    "EMA 0.99": {"ema_decay": 0.99},
}
"""One option at a time; their strengths were fixed before anything was measured."""
OF_ROLLOUTS: dict[str, dict[str, Any]] = {"unroll 3": {"unroll": 3}}
GONE = "unroll 3, pushforward"
"""An option that harmed and was taken out; what it did is kept."""


def cells() -> list[tuple[Cell, Recipe]]:
    """List all cells in the order in which they are made."""
    public = [
        (Cell("public", DARCY, 1000, name, seed), recipe)
        for name, recipe in PUBLIC.items()
        for seed in SEEDS
    ]
    public.append((Cell("public", DARCY, MANY, DRAWN, 0), OF_MANY))
    published = [
        (Cell("published", PUBLISHED_DARCY, 1000, name, seed), recipe)
        for seed in SEEDS
        for name, recipe in PUBLISHED.items()
    ]
    options = [
        (Cell("options", problem, samples, name, seed), recipe)
        for seed in SEEDS
        for problem, recipes in option_recipes().items()
        for samples in SAMPLES
        for name, recipe in recipes.items()
    ]
    return public + published + options


def option_recipes() -> dict[str, dict[str, Recipe]]:
    """Return the recipes of each problem on which options are measured, by name."""
    walled, free = ModelConfig(**SMALL, walls="zero"), ModelConfig(**SMALL)
    return {
        DARCY: {name: Recipe(walled, TRAINING | option, STEPS) for name, option in OPTIONS.items()},
        IN_TIME: {
            name: Recipe(free, TRAINING | option, STEPS, task=in_time.TASK)
            for name, option in (OPTIONS | OF_ROLLOUTS).items()
        },
    }


def kept() -> list[dict[str, Any]]:
    """Return the cells that are there."""
    found = [one.read(cell, recipe) for cell, recipe in cells()]
    gone = [Cell("options", IN_TIME, samples, GONE, seed) for samples in SAMPLES for seed in SEEDS]
    read = [json.loads(cell.path.read_text(encoding="utf-8")) for cell in gone]
    return [cell for cell in (*found, *read) if cell is not None]


def make(cell: Cell, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Make a cell, in a process of its own."""
    return one.make(cell, recipe, splits(cell, folder))


def splits(cell: Cell, folder: Path) -> dict[str, Split]:
    """Return the splits of a cell.

    Where all public samples are learned, those held out are among them, and choose the last epochs.
    """
    if cell.problem == IN_TIME:
        made = _in_time()
        return made | {"train": public_darcy.part(made["train"], 0, cell.samples, "train")}
    given = _published() if cell.problem == PUBLISHED_DARCY else _public(folder)
    train = given["train"]
    held_out = public_darcy.part(train, -public_darcy.HELD_OUT, len(train), "validation")
    if cell.samples > len(train):
        train = public_darcy.drawn(cell.samples)
    learned = public_darcy.part(train, 0, cell.samples, "train")
    return {"train": learned, "validation": held_out, "test": given["test"]}


@cache
def _public(folder: Path) -> dict[str, Split]:
    return public_darcy.read(folder)


@cache
def _published() -> dict[str, Split]:
    return published_darcy.read()


@cache
def _in_time() -> dict[str, Split]:
    return in_time.make()
