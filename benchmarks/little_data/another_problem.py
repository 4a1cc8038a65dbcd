"""A model of several problems at once, trained further on few solves of another, against a new one.

All problems are from fields on the same grid to fields on it: states are given at their first frame
and predicted at their last, a number of a sample is a field that is the same everywhere. A dataset
of several problems holds all their fields by name, and those that a sample does not have are
missing. A model of it gives what follows all weights that have the same place in the new one:
mixers, networks of tokens and of points, and what takes a field of the same name; the others are
fresh. One such model serves all seeds, which draw the solves; a fifth of these choose the rate and
the epoch, for both ways alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.little_data.cells import Cell, Kept, dataset, errors_of, paid_for, trained
from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.files import replacing_folder
from mno.core.forecast import TaskConfig
from mno.data.reading import Schema, Split
from mno.evaluation.simple_peers import errors_of_peer, fit_peer
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.problem import describe

QUESTION = "problem"
PROBLEMS: dict[str, dict[str, Any]] = {
    "darcy": {"scenario": "darcy", "walls": "zero"},
    "diffusion_reaction": {"scenario": "diffusion_reaction"},
    "navier_stokes": {
        "scenario": "navier_stokes", "walls": "periodic", "parameters": {"viscosity_low": 3e-4},
    },
    "shallow_water": {"scenario": "shallow_water"},
    "darcy_smooth": {
        "scenario": "darcy", "walls": "zero", "parameters": {"sampling": "lognormal"},
    },
}  # fmt: skip
UNION = ("darcy", "diffusion_reaction", "navier_stokes", "shallow_water")
TARGETS = ("darcy", "diffusion_reaction", "navier_stokes", "darcy_smooth")
"""What is trained further on; one that is in the union is left out of it."""
GENERATE = {"resolution": 32, "shard_size": 50, "seed": 0}
SOURCE, TEST = 1000, 200
SOLVES = (25, 50, 100)
SEEDS = (0, 1, 2)
NEW, FURTHER, PEER = "new", "trained further", "gaussian_process"
ARMS = (NEW, FURTHER, PEER)
TASK = TaskConfig(history=1, scheme="horizon")
MODEL: dict[str, Any] = {
    "backbone": "latent", "mixer": "own", "width": 64, "layers": 4, "patch": 4, "d_state": 2,
}  # fmt: skip
STEPS, BATCH = 2000, 8
RATES = (3e-3, 1e-3)
LONGER = 6  # times the steps, for the union
TRAIN: dict[str, Any] = {
    "batch_size": BATCH, "optimizer": "muon", "beta2": 0.95, "warmup_fraction": 0.05,
    "patience": 100_000, "augment": True, "threads": 1,
}  # fmt: skip


def cells() -> Iterator[Cell]:
    """All cells; seeds last, so that a part is a small study."""
    for seed in SEEDS:
        for problem in TARGETS:
            for solves in SOLVES:
                for arm in ARMS:
                    yield Cell(QUESTION, problem, solves, arm, seed)


def made_with(cell: Cell) -> dict[str, Any]:
    """Return all that a cell depends on, but code."""
    union = {name: PROBLEMS[name] for name in _union_for(cell.problem)}
    learned = {"union": union, "source": SOURCE, "longer": LONGER}
    return {
        "target": PROBLEMS[cell.problem], "generate": GENERATE, "test": TEST, "pool": max(SOLVES),
        "model": MODEL, "task": TASK.model_dump(mode="json"), "train": TRAIN, "rates": RATES,
        "steps": STEPS, **(learned if cell.arm == FURTHER else {}),
    }  # fmt: skip


def make(cell: Cell, work: Path) -> Kept:
    """Train, measure and keep a cell."""
    solved = _solved(work, cell.problem, max(SOLVES))
    few, test = paid_for(solved["train"], cell.solves, cell.seed), solved["test"]
    walls = PROBLEMS[cell.problem].get("walls", "free")
    model = ModelConfig.model_validate({**MODEL, "walls": walls})
    if cell.arm == PEER:
        description = describe(few[0], model, TASK)
        peer = fit_peer(PEER, *few, description)
        assert not isinstance(peer, Absent)
        errors = errors_of_peer(peer, test, description).round(5).tolist()
        found: Kept = {"seconds": round(peer.seconds, 2), "errors": errors}
    else:
        initial, taught = None, 0
        if cell.arm == FURTHER:
            description = describe(few[0], model, TASK)
            torch.manual_seed(cell.seed)
            fresh = Surrogate(description, description.build())
            source = _model_of_union(work, _union_for(cell.problem))
            initial, taught = given_on(source, fresh)
        tried = []
        for rate in RATES:
            config = _config(STEPS, len(few[0]), rate)
            tried.append((*trained(few, model, config, TASK, cell.seed, initial), rate))
        surrogate, error, _, rate = min(tried, key=lambda one: one[1])
        found = {
            "rate": rate, "validation_error": round(error, 5), "given_on": taught,
            "errors": errors_of(surrogate, test), "seconds": round(sum(t[2] for t in tried), 1),
        }  # fmt: skip
    cell.write(made_with(cell), found)
    return found


def given_on(source: Surrogate, fresh: Surrogate) -> tuple[Surrogate, int]:
    """Put the weights of a model into one of other fields where they mean the same there.

    Returns the latter, and how many of its numbers it was given.
    """
    theirs = dict(source.operator.named_parameters())
    inward = next(iter(theirs))  # takes the fields
    had, has = _channels(source), _channels(fresh)
    taught = 0
    with torch.no_grad():
        for name, ours in fresh.operator.named_parameters():
            weight = theirs.get(name)
            if name == inward and weight is not None:
                for channel in has.keys() & had.keys():
                    ours[:, has[channel]] = weight[:, had[channel]]
                    taught += ours[:, 0].numel()
            elif weight is not None and ours.shape == weight.shape:
                ours.copy_(weight)
                taught += ours.numel()
    return fresh, taught


def _channels(surrogate: Surrogate) -> dict[str, int]:
    """Return where each input, and each axis, stands among the numbers of a point."""
    operator: Any = surrogate.operator
    channels, start = dict[str, int](), 0
    for name, size in zip(operator.inputs, operator.input_sizes, strict=True):
        channels[name], start = start, start + size
    return channels | {f"axis {n}": start + n for n in range(operator.dims)}


def _union_for(target: str) -> tuple[str, ...]:
    return tuple(name for name in UNION if name != target)


@cache
def _model_of_union(work: Path, names: tuple[str, ...]) -> Surrogate:
    kept = work / f"union-{'-'.join(names)}"
    if not kept.exists():
        of = [_solved(work, name, SOURCE) for name in names]
        learned, chooses = (joined([s[part] for s in of], part) for part in ("train", "test"))
        config = _config(LONGER * STEPS, len(learned), RATES[0], augment=False)
        model = ModelConfig.model_validate(MODEL)
        with replacing_folder(kept) as fresh:
            trained((learned, chooses), model, config, TASK, seed=0)[0].save(fresh)
    return Surrogate.load(kept)


def _config(steps: int, samples: int, rate: float, **more: Any) -> TrainConfig:
    epochs = max(1, round(steps / -(-samples // BATCH)))
    return TrainConfig.model_validate({**TRAIN, "epochs": epochs, "learning_rate": rate, **more})


def joined(splits: Sequence[Split], name: str) -> Split:
    """Return one split of several problems, with what they all have by name.

    An `InputError` says that two have a field of one name in two units.
    """
    units = {f"{f.name} [{f.units}]" for split in splits for f in split.schema.fields}
    names = [unit.partition(" [")[0] for unit in units]
    if twice := sorted(unit for unit in units if names.count(unit.partition(" [")[0]) > 1):
        raise InputError(f"{' and '.join(twice)} are one name in two units; rename one, or convert")
    fields = {f.name: replace(f, gaps=True) for split in splits for f in split.schema.fields}
    schema = replace(
        splits[0].schema, scenario="union", fields=tuple(fields.values()), symmetries=(),
        walls="free",
    )  # fmt: skip
    shape = next(iter(splits[0].fields.values())).shape[1:]
    nothing = [np.full((len(split), *shape), np.nan, np.float32) for split in splits]
    pairs = list(zip(splits, nothing, strict=True))
    together = {n: np.concatenate([s.fields.get(n, none) for s, none in pairs]) for n in fields}
    return Split(name, schema, together, np.arange(sum(map(len, splits))))


@cache
def _solved(work: Path, problem: str, most: int) -> dict[str, Split]:
    """Solve samples to learn from, or a pool of them, and others to measure on, as on top."""
    held = TEST if most == max(SOLVES) else SOURCE // 20
    count = most + 1 + held
    shares = {"validation": 1 / count, "test": held / count}
    config = {
        **GENERATE, "samples": count, "split": {"train": 1 - sum(shares.values()), **shares},
        "seed": int(most == SOURCE),
    }  # fmt: skip
    of = PROBLEMS[problem]
    given = of.get("parameters", {})
    whole = dataset(work / f"{problem}-{most}", of["scenario"], given, config, TASK)
    return {name: on_the_grid(split) for name, split in whole.items()}


def on_the_grid(split: Split) -> Split:
    """Return a split whose fields all are on the grid alone, with states at both ends of time."""
    schema, fields, values = split.schema, list[Field](), dict[str, np.ndarray]()
    shape = tuple(len(axis.points) for axis in schema.space)
    dims = tuple(axis.name for axis in schema.space)
    for field in schema.fields:
        array = split.fields[field.name]
        if field.role == "state":
            last = f"{field.name} at the end"
            fields += [replace(field, role="input", dims=dims)]
            fields += [replace(field, name=last, role="output", dims=dims)]
            values |= {field.name: array[:, 0], last: array[:, -1]}
        elif field.is_scalar:
            fields += [replace(field, dims=dims)]
            everywhere = array.reshape(-1, *(1,) * len(shape))
            values[field.name] = np.broadcast_to(everywhere, (len(array), *shape)).copy()
        else:
            fields += [field]
            values[field.name] = array
    inputs = [f for f in fields if f.role == "input"]
    outputs = [f for f in fields if f.role != "input"]
    flat: Schema = replace(schema, fields=(*inputs, *outputs), axes=schema.space)
    ordered = {f.name: values[f.name] for f in flat.fields}
    return Split(split.name, flat, ordered, split.indices)
