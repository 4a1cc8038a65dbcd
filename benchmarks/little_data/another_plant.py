"""A model of one furnace, trained further on few solves of another, against a new one.

The furnace of which there is a model is `plants/car_bottom.yaml`, with `SOURCE` solves. The others
are made from that file by `OTHERS`. Solves that are paid for are those of the other furnace alone;
a fifth of them choose the learning rate and the epoch, for all ways of training alike, and all have
as many steps. What is measured are the readings of runs that no training has seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.little_data.cells import Cell, Kept, dataset, errors_of, paid_for, trained
from mno.core.absent import Absent
from mno.core.files import replacing_folder
from mno.core.forecast import TaskConfig
from mno.data.reading import Split
from mno.evaluation.simple_peers import errors_of_peer, fit_peer
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.problem import describe

QUESTION = "plant"
ROOT = Path(__file__).parents[2]
FIBRE = {
    "density": 160.0,
    "conductivity": [[300.0, 0.05], [700.0, 0.12], [1100.0, 0.24], [1600.0, 0.4]],
    "heat_capacity": [[300.0, 800.0], [1100.0, 1130.0]],
    "emissivity": 0.85,
}
_SOFT = [{"material": "fibre", "thickness": 0.15}, {"material": "insulation", "thickness": 0.1}]
OTHERS: dict[str, dict[str, Any]] = {
    "relined": {
        "lining": {"walls": _SOFT, "roof": _SOFT},
        "materials": {"fibre": FIBRE},
    },
    "larger": {
        "chamber": {"width": 2.6, "height": 2.4, "length": 3.6},
        "lining": {"walls": [{"material": "fireclay", "thickness": 0.15},
                             {"material": "insulation", "thickness": 0.2}]},
        "zones": [{"name": "front", "end": 1.8, "power": 9.0e5},
                  {"name": "rear", "end": 3.6, "power": 9.0e5}],
        "thermocouples": {"roof_front": [1.3, 2.46, 0.9], "roof_rear": [1.3, 2.46, 2.7],
                          "wall": [-0.06, 1.2, 1.8], "hearth": [1.3, -0.08, 3.4]},
        "pieces": {"width": [0.4, 0.65], "height": [0.4, 0.65], "length": [1.6, 2.8]},
    },
    "three_zones": {
        "chamber": {"length": 4.2},
        "zones": [{"name": name, "end": end, "power": 6.0e5}
                  for name, end in (("front", 1.4), ("middle", 2.8), ("rear", 4.2))],
        "thermocouples": {"roof_front": [1.0, 2.06, 0.7], "roof_middle": [1.0, 2.06, 2.1],
                          "roof_rear": [1.0, 2.06, 3.5], "wall": [-0.06, 1.0, 1.4],
                          "wall_rear": [-0.06, 1.0, 2.8], "hearth": [1.0, -0.08, 4.05]},
        "pieces": {"count": [1, 4], "width": [0.25, 0.35], "length": [1.8, 3.3]},
    },
}  # fmt: skip
"""What each furnace has otherwise, by section."""
PARAMETERS = {"cells_per_point": 2.0}
GENERATE = {"resolution": 8, "shard_size": 20, "seed": 0}
SOURCE, TEST = 2000, 200
SOLVES = (25, 50, 100, 200, 400)
SEEDS = (0, 1, 2)
ARMS = ("new", "trained further", "as it is")
PEERS = ("ridge", "gaussian_process")
TASK = TaskConfig(part="readings", history=1, scheme="horizon")
MODEL = ModelConfig(
    backbone="plain", mixer=["softmax"], width=48, layers=2, d_state=2, expand=1, walls="free"
)
STEPS, BATCH = 2000, 8
RATES = (1e-2, 3e-3, 1e-3)
TRAIN: dict[str, Any] = {
    "batch_size": BATCH, "optimizer": "muon", "beta2": 0.95, "weight_decay": 1e-4,
    "warmup_fraction": 0.05, "patience": 100_000, "threads": 1,
}  # fmt: skip


def cells() -> Iterator[Cell]:
    """All cells; seeds last, so that a part is a small study."""
    for seed in SEEDS:
        for problem in OTHERS:
            yield Cell(QUESTION, problem, 0, "as it is", seed)
            for solves in SOLVES:
                for arm in (*ARMS[:2], *(PEERS if solves in SOLVES else ())):
                    yield Cell(QUESTION, problem, solves, arm, seed)


def made_with(cell: Cell) -> dict[str, Any]:
    """Return all that a cell depends on, but code."""
    return {
        "plant": OTHERS[cell.problem], "parameters": PARAMETERS, "generate": GENERATE,
        "source": SOURCE, "test": TEST, "pool": max(SOLVES), "model": MODEL.model_dump(mode="json"),
        "task": TASK.model_dump(mode="json"), "train": TRAIN, "rates": RATES, "steps": STEPS,
    }  # fmt: skip


def make(cell: Cell, work: Path) -> Kept:
    """Train, measure and keep a cell."""
    splits = _solved(work, cell.problem)
    test, found = splits["test"], dict[str, Any]()
    if cell.arm == "as it is":
        found["errors"] = errors_of(_model_of_source(work, cell.seed), test)
    else:
        few = paid_for(splits["train"], cell.solves, cell.seed)
        if cell.arm in PEERS:
            description = describe(few[0], MODEL, TASK)
            peer = fit_peer(cell.arm, *few, description)
            assert not isinstance(peer, Absent)
            errors = errors_of_peer(peer, test, description)
            found = {"seconds": round(peer.seconds, 2), "errors": errors.round(5).tolist()}
        else:
            initial = None if cell.arm == "new" else _model_of_source(work, cell.seed)
            found = best(few, cell.seed, initial, test)
    cell.write(made_with(cell), found)
    return found


def best(
    splits: tuple[Split, Split], seed: int, initial: Surrogate | None, test: Split,
    steps: int = STEPS,
) -> Kept:  # fmt: skip
    """Train by each rate; return what the one of least validation error has on the test split."""
    tried = []
    for rate in RATES:
        config = config_of(steps, len(splits[0]), rate)
        surrogate, error, seconds = trained(splits, MODEL, config, TASK, seed, initial)
        tried.append((error, rate, surrogate, seconds))
    error, rate, surrogate, _ = min(tried, key=lambda one: one[0])
    return {
        "rate": rate, "validation_error": round(error, 5), "errors": errors_of(surrogate, test),
        "seconds": round(sum(one[3] for one in tried), 1),
    }  # fmt: skip


def config_of(steps: int, samples: int, rate: float) -> TrainConfig:
    """Return the configuration of a training of so many steps."""
    epochs = max(1, round(steps / -(-samples // BATCH)))
    return TrainConfig.model_validate({**TRAIN, "epochs": epochs, "learning_rate": rate})


@cache
def _model_of_source(work: Path, seed: int) -> Surrogate:
    kept = work / f"source-{seed}"
    if not kept.exists():
        splits = _solved(work, "car_bottom")
        pair = (splits["train"], splits["validation"])
        config = config_of(5 * STEPS, len(splits["train"]), RATES[0])
        with replacing_folder(kept) as fresh:
            trained(pair, MODEL, config, TASK, seed)[0].save(fresh)
    return Surrogate.load(kept)


def write_plant(folder: Path, name: str) -> None:
    """Write the file of a furnace into the `plants` of a folder."""
    yaml = YAML(typ="safe")
    content = yaml.load(ROOT / "plants" / "car_bottom.yaml")
    for section, values in OTHERS.get(name, {}).items():
        content[section] = {**content[section], **values} if isinstance(values, dict) else values
    (folder / "plants").mkdir(parents=True, exist_ok=True)
    with (folder / "plants" / f"{name}.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


@cache
def _solved(work: Path, plant: str) -> dict[str, Split]:
    """Solve runs of a furnace: of another one a pool to draw from, and runs to measure on."""
    folder = work / plant
    write_plant(folder, plant)
    count = SOURCE if plant == "car_bottom" else max(SOLVES) + TEST + 1
    held = (SOURCE // 10, SOURCE // 20) if plant == "car_bottom" else (1, TEST)
    shares = {"validation": held[0] / count, "test": held[1] / count}
    split = {"train": 1 - sum(shares.values()), **shares}
    config = {**GENERATE, "samples": count, "split": split}
    parameters = {**PARAMETERS, "plant": plant}
    return dataset(folder, "batch_furnace", parameters, config, TASK, folder)
