"""Rounds of a dataset: which samples are solved when, and how those of later rounds are chosen.

Choices are kept in the work folder, a file for each round. They follow from the plan alone, so a
lost file is made again, the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import zarr
from threadpoolctl import threadpool_limits

from mno.core.errors import InputError
from mno.data.committee import judge, spread_out
from mno.data.config import GenerateConfig
from mno.data.plan import Choice, DatasetPlan
from mno.scenarios.base import Scenario

_COMMITTEE = (2, 0)  # of the streams, with the round behind it
_VALUES = 4096
"""Values of a field that the committee is given at most."""


def rounds(plan: DatasetPlan, work: Path, store: Path) -> Iterator[tuple[DatasetPlan, range]]:
    """Yield which shards to make next, with the plan that says how; all of them at last.

    What was yielded must have been made when the next is asked for: later samples are chosen by
    what is known of earlier ones.

    Args:
        plan: Of the dataset.
        work: Folder that keeps the choices.
        store: The unfinished store with the shards.

    Raises:
        InputError: The samples are not drawn, so that none can be chosen.
    """
    starts = plan.round_starts
    if len(starts) > 1 and not issubclass(plan.scenario, Scenario):
        raise InputError(
            f"generate.strategy=active needs a scenario that is solved; {plan.scenario.name} has "
            "samples that are there already; set generate.strategy=random"
        )
    size = plan.config.shard_size
    for number, start in enumerate(starts):
        end = starts[number + 1] if starts[number + 1 :] else plan.config.samples
        if number:
            choices = _choices(plan, number, start, end, work, store)
            plan = replace(plan, chosen={**plan.chosen, **choices})
        yield plan, range(start // size, -(-end // size))


def chosen_numbers(plan: DatasetPlan) -> dict[str, np.ndarray]:
    """Return for each sample its `round` (0: drawn at random) and `score` (NaN there)."""
    numbers = np.zeros(plan.config.samples, np.int64)
    scores = np.full(plan.config.samples, np.nan)
    for sample, choice in plan.chosen.items():
        numbers[sample], scores[sample] = choice.round, choice.score
    return {"round": numbers, "score": scores}


def _choices(
    plan: DatasetPlan, number: int, start: int, end: int, work: Path, store: Path
) -> dict[int, Choice]:
    """Return the choices of a round, kept or made now, by sample."""
    path = work / "choices" / f"{number}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["plan"] == plan.digest:
            return {int(k): Choice(**v) for k, v in content["samples"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # not made yet, or torn: made again
    made = _choose(plan, number, start, end, store)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    samples = {str(sample): asdict(choice) for sample, choice in made.items()}
    beside.write_text(json.dumps({"plan": plan.digest, "samples": samples}), encoding="utf-8")
    os.replace(beside, path)
    return made


def _choose(plan: DatasetPlan, number: int, start: int, end: int, store: Path) -> dict[int, Choice]:
    if not isinstance(plan.config, GenerateConfig):
        raise TypeError("only a dataset with splits is made in rounds")
    config = plan.config.active
    scenario = plan.build()
    if not isinstance(scenario, Scenario):
        raise TypeError(f"{plan.scenario.name} draws no samples")
    first = (number - 1) * config.pool
    candidates = range(first, first + config.pool)
    seed = np.random.SeedSequence(plan.config.seed, spawn_key=(*_COMMITTEE, number))
    # One thread, so that sums do not depend on the machine's cores.
    with threadpool_limits(limits=1):
        drawn = (scenario.sample(plan.candidate(candidate)) for candidate in candidates)
        pool = np.stack([_flat(given) for given in drawn])
        rows = np.flatnonzero(plan.splits()[:start] == "train")
        inputs, solutions = _solved(scenario, rows, store)
        judged = judge(inputs, solutions, pool, config, np.random.default_rng(seed))
        chosen = spread_out(judged, end - start)
    return {
        start + place: Choice(number, first + int(row), float(judged.scores[row]))
        for place, row in enumerate(chosen)
    }


def _solved(scenario: Scenario, rows: np.ndarray, store: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and solutions of training samples, each flattened; no other split is read."""
    group = zarr.open_group(store, mode="r", zarr_format=3)
    roles = {field.name: field.role for field in scenario.fields}
    inputs, solutions = [], []
    for row in rows:
        values = {name: np.asarray(group[name][row]) for name in roles}  # pyright: ignore
        given = {
            name: array[0] if roles[name] == "state" else array
            for name, array in values.items()
            if roles[name] != "output"
        }
        inputs.append(_flat(given))
        solutions.append(
            _flat({n: a for n, a in values.items() if roles[n] in ("output", "state")})
        )
    return np.stack(inputs), np.stack(solutions)


def _flat(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return fields one after the other, in the order of their names, large ones thinned out."""
    parts = [np.ravel(fields[name]) for name in sorted(fields)]
    return np.concatenate([part[:: -(-part.size // _VALUES)] for part in parts])
