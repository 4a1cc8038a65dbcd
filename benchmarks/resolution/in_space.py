"""Darcy flow: one permeability, one pressure, seen at the points of several grids.

The permeability is a function, a sum of cosines cut at zero, whose weights do not depend on any
grid; each grid takes its values at the grid's points. The pressure is solved for once, on `FINE` x
`FINE` cells with the permeability at those, and each grid takes its values at the grid's points. So
both sides of a sample are one function, seen at 256, 1,024 or 4,096 points, and no grid has a truth
of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from benchmarks.resolution import Sampled, Task
from mno.core.grid import Grid
from mno.scenarios.base import Scenario, make_scenario

FINE = 192
SIZES = (16, 32, 64)
"""Points along an axis: those of training, twice and four times as many."""


def make(train: int, validation: int, test: int) -> Task:
    """Draw and solve that many samples of each kind."""
    seeds = np.random.SeedSequence(0).spawn(3)
    make_one = partial(_make, scenarios={n: make_scenario("darcy", n, {}) for n in (*SIZES, FINE)})
    make_one(seeds[0], 1)  # compiles

    kinds = [make_one(seed, n) for seed, n in zip(seeds, (train, validation, test), strict=True)]
    first, *others = kinds
    named = (_by_name(kind) for kind in others)
    return Task(first[0], *named, symmetric=True)


def at_points(fine: np.ndarray, size: int) -> np.ndarray:
    """Interpolate cell values on a fine grid linearly to the cell centres of a coarser one."""
    ratio = len(fine) // size
    first, second = (ratio - 1) // 2, ratio // 2  # the same cell, or the two around the centre
    rows = (fine[first::ratio] + fine[second::ratio]) / 2
    return (rows[:, first::ratio] + rows[:, second::ratio]) / 2


def _make(
    seed: np.random.SeedSequence, samples: int, *, scenarios: dict[int, Scenario]
) -> list[Sampled]:
    def one(seed: np.random.SeedSequence) -> list[np.ndarray]:
        drawn = {n: s.sample(np.random.default_rng(seed)) for n, s in scenarios.items()}
        fine = scenarios[FINE].solve(drawn[FINE])["pressure"]
        return [np.stack([drawn[n]["permeability"], at_points(fine, n)]) for n in SIZES]

    with ThreadPoolExecutor() as threads:
        made = list(threads.map(one, seed.spawn(samples)))
    grids = (Grid((n, n), (1 / n,) * 2, (1 / SIZES[0],) * 2) for n in SIZES)
    stacked = (torch.from_numpy(np.stack(fields, axis=1)) for fields in zip(*made, strict=True))
    return [Sampled(grid, *both) for grid, both in zip(grids, stacked, strict=True)]


def _by_name(kind: list[Sampled]) -> dict[str, list[Sampled]]:
    return {f"{n} x {n}": [sampled] for n, sampled in zip(SIZES, kind, strict=True)}
