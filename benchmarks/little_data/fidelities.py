"""Many coarse solves and few fine ones, against fine ones alone, at equal seconds of solving.

What is paid for is counted in fine solves, by the processor's time of `Scenario.solve` on the
machine of `fidelities.json`; what is predicted is the fine solution. With both, half of the seconds
buys fine solves; the model that the coarse ones taught is trained further on them, or one model
learns from both at once, told which is which, as a dataset of several fidelities would have it. A
fifth of the solves of each kind choose, for all ways of training alike.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.little_data.another_plant import (
    MODEL,
    RATES,
    STEPS,
    TASK,
    TRAIN,
    best,
    config_of,
)
from benchmarks.little_data.cells import (
    RESULTS,
    Cell,
    Kept,
    dataset,
    errors_of,
    paid_for,
    trained,
)
from benchmarks.page import processor
from mno.core.absent import Absent
from mno.core.fields import Field
from mno.core.files import write_text
from mno.data.reading import Split
from mno.evaluation.simple_peers import errors_of_peer, fit_peer
from mno.scenarios.base import make_scenario
from mno.training.problem import describe

QUESTION = "fidelities"
COSTS = RESULTS / "fidelities.json"
SCENARIO = "batch_furnace"
PROBLEMS: dict[str, dict[str, dict[str, Any]]] = {
    "car_bottom": {
        "fine": {"cells_per_point": 0.28},
        "coarse": {
            "cells_per_point": 8.0, "steps_per_frame": 2, "rays": 16, "tolerance": 10.0,
        },
    },
}  # fmt: skip
"""Settings of the solver by which each problem is solved, from the table of its benchmark. With the
coarsest there, of one step in an interval, one of the first hundred runs broke its bounds."""
GENERATE = {"resolution": 8, "shard_size": 20}
PAID, POOL, TEST = (25, 50, 100), 200, 150
SEEDS = (0, 1, 2)
FINE, COARSE, BOTH, TOLD = "fine alone", "coarse alone", "coarse then fine", "both told"
PEER = "gaussian_process"
ARMS = (FINE, COARSE, BOTH, TOLD, PEER)
LONGER = 5  # times the steps, where there are many samples
TELLS = Field("fidelity", "1", "0 of a fine solve, 1 of a coarse one", "input", ())


def cells() -> Iterator[Cell]:
    """All cells; seeds last, so that a part is a small study."""
    for seed in SEEDS:
        for problem in PROBLEMS:
            for paid in PAID:
                for arm in ARMS:
                    if arm != TOLD or paid == max(PAID):
                        yield Cell(QUESTION, problem, paid, arm, seed)


def made_with(cell: Cell) -> dict[str, Any]:
    """Return all that a cell depends on, but code."""
    fine, coarse = bought(cell)
    of = PROBLEMS[cell.problem]
    return {
        "settings": of if coarse else {"fine": of["fine"]}, "generate": GENERATE,
        "pool": POOL, "test": TEST,
        "fine": fine, "coarse": coarse, "model": MODEL.model_dump(mode="json"),
        "task": TASK.model_dump(mode="json"), "train": TRAIN, "rates": RATES, "steps": STEPS,
        "longer": LONGER,
    }  # fmt: skip


def bought(cell: Cell) -> tuple[int, int]:
    """Return how many fine and coarse solves a cell learns and chooses from."""
    if cell.arm in (FINE, PEER):
        return cell.solves, 0
    fine = 0 if cell.arm == COARSE else cell.solves // 2
    return fine, round((cell.solves - fine) * costs()[cell.problem]["ratio"])


def make(cell: Cell, work: Path) -> Kept:
    """Train, measure and keep a cell."""
    fine, coarse = bought(cell)
    solved = _solved(work, cell.problem, "fine")
    test = solved["test"]
    few = paid_for(solved["train"], fine, cell.seed) if fine else None
    many = None
    if coarse:
        many = paid_for(_solved(work, cell.problem, "coarse")["train"], coarse, cell.seed)
    if cell.arm == PEER:
        assert few is not None
        description = describe(few[0], MODEL, TASK)
        peer = fit_peer(PEER, *few, description)
        assert not isinstance(peer, Absent)
        errors = errors_of_peer(peer, test, description).round(5).tolist()
        found: Kept = {"seconds": round(peer.seconds, 2), "errors": errors}
    elif cell.arm == TOLD:
        assert few is not None and many is not None
        learned = _joined(_told(few[0], 0.0), _told(many[0], 1.0))
        splits = (learned, _told(few[1], 0.0))
        found = best(splits, cell.seed, None, _told(test, 0.0), LONGER * STEPS)
    else:
        taught = many and trained(
            many, MODEL, config_of(LONGER * STEPS, len(many[0]), RATES[0]), TASK, cell.seed
        )
        if few is None:
            assert taught is not None
            found = {"seconds": taught[2], "errors": errors_of(taught[0], test)}
        else:
            found = best(few, cell.seed, taught and taught[0], test)
            found["seconds"] = round(found["seconds"] + (taught[2] if taught else 0.0), 1)
    cell.write(made_with(cell), found)
    return found


def _told(split: Split, fidelity: float) -> Split:
    """Return a split with one more input, which says how its samples were solved."""
    schema = replace(split.schema, fields=(TELLS, *split.schema.fields))
    told = np.full(len(split), fidelity, np.float32)
    return Split(split.name, schema, {TELLS.name: told, **split.fields}, split.indices)


def _joined(one: Split, other: Split) -> Split:
    fields = {name: np.concatenate([one.fields[name], other.fields[name]]) for name in one.fields}
    return Split(one.name, one.schema, fields, np.arange(len(one) + len(other)))


@cache
def _solved(work: Path, problem: str, fidelity: str) -> dict[str, Split]:
    """Solve a pool to draw from and, of fine solves, what is measured on; other runs by each."""
    most = round(max(PAID) * costs()[problem]["ratio"])
    pool, test, seed = (POOL, TEST, 0) if fidelity == "fine" else (most, 1, 1)
    count = pool + 1 + test
    shares = {"validation": 1 / count, "test": test / count}
    split = {"train": 1 - sum(shares.values()), **shares}
    config = {**GENERATE, "samples": count, "split": split, "seed": seed}
    parameters = {"plant": problem, **PROBLEMS[problem][fidelity]}
    root = Path(__file__).parents[2]
    return dataset(work / f"{problem}-{fidelity}", SCENARIO, parameters, config, TASK, root)


@cache
def costs() -> dict[str, Any]:
    """Return what solves of each kind cost, as kept, or else measured on this machine."""
    if not COSTS.is_file():
        RESULTS.mkdir(parents=True, exist_ok=True)
        found = {problem: _cost(problem, of) for problem, of in PROBLEMS.items()}
        write_text(COSTS, json.dumps({"processor": processor(), **found}, indent=1) + "\n")
    return json.loads(COSTS.read_text(encoding="utf-8"))


def _cost(problem: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    times: dict[str, float] = {}
    for fidelity, parameters in settings.items():
        given = {"plant": problem, **parameters}
        scenario = make_scenario(SCENARIO, int(GENERATE["resolution"]), given)
        scenario.compile()
        taken = []
        for number in range(21):
            run = scenario.sample(np.random.default_rng([number, 0]))
            begun = time.process_time()
            scenario.solve(run)
            taken.append(time.process_time() - begun)
        times[fidelity] = statistics.median(taken[1:])
    milliseconds = {f"{name}_ms": round(1e3 * seconds, 1) for name, seconds in times.items()}
    return {**milliseconds, "ratio": round(times["fine"] / times["coarse"], 1)}
