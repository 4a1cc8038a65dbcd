"""Darcy flow by the protocol of the Fourier neural operator, which the literature's tables follow.

    -div(a grad u) = 1 on the unit square, u = 0 on its wall, a = 12 or 3

with `a` by the sign of a Gaussian random field of covariance `(-Laplacian + 9)^-2`, solved on 421 x
421 cells and seen at every fifth of them, on 85 x 85 points: the first and the last half a fine
cell from a wall. 1,000 samples teach and 200 test (Li et al., arXiv:2010.08895, sections 5.2 and
A.3.2). The published files are not at hand: samples are drawn anew, by what scenario `darcy` draws
and solves with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pool import made
from mno.core.fields import Axis
from mno.core.files import replacing
from mno.data.reading import Schema, Split
from mno.scenarios.base import scenario_class
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum

FINE, EVERY = 421, 5
POINTS = -(-FINE // EVERY)
SAMPLES = {"train": 1000, "test": 200}
KEPT = Path(__file__).parents[2] / "build" / "accuracy" / "darcy_421.npz"
LOW, HIGH = 3.0, 12.0
TOLERANCE = 1e-8  # relative residual
_SHARE = 50  # of samples that are solved at a time


def read() -> dict[str, Split]:
    """Return the splits `train` and `test`; solve them, once, where they are not kept yet."""
    if not KEPT.exists():
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        count = sum(SAMPLES.values())
        parts: dict[int, dict[str, np.ndarray]] = {}
        jobs = [(start, min(start + _SHARE, count)) for start in range(0, count, _SHARE)]
        for so_far, (start, _), solved in made(solve, jobs):
            parts[start] = solved
            print(f"{so_far} solved on {FINE} x {FINE} cells", file=sys.stderr)
        names = next(iter(parts.values()))
        fields = {n: np.concatenate([parts[start][n] for start, _ in jobs]) for n in names}
        with replacing(KEPT) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **fields)
    with np.load(KEPT) as fields:
        return _splits(dict(fields))


def solve(start: int, stop: int) -> dict[str, np.ndarray]:
    """Draw and solve the samples of these numbers; what every fifth cell has, by field."""
    variances = covariance_spectrum(exponent=2.0, inverse_length=3.0, side=1.0)
    variances[0, 0] = 0.0
    field, source = cosine_field(_centres(FINE), variances), np.ones((FINE, FINE))
    permeabilities, pressures = [], []
    for number in range(start, stop):
        drawn = field.draw(np.random.default_rng([number, FINE])) >= 0.0
        permeability = np.where(drawn, HIGH, LOW)
        pressure, _, residual = solve_diffusion(permeability, source, TOLERANCE, 500)
        if not residual <= TOLERANCE:
            sys.exit(f"sample {number} was not solved: its residual is {residual:.1e}")
        permeabilities.append(permeability[::EVERY, ::EVERY])
        pressures.append(pressure[::EVERY, ::EVERY])
    found = {"permeability": permeabilities, "pressure": pressures}
    return {name: np.stack(fields).astype(np.float32) for name, fields in found.items()}


def _centres(points: int) -> np.ndarray:
    return (np.arange(points) + 0.5) / points


def _splits(fields: dict[str, np.ndarray]) -> dict[str, Split]:
    darcy = scenario_class("darcy")
    # As if the points were in the middle of cells that fill the square: they are as symmetric.
    axes = tuple(Axis(name, "1", name, _centres(POINTS), (0.0, 1.0)) for name in ("x", "y"))
    schema = Schema("darcy", darcy.fields, axes, darcy.symmetries, walls=darcy.walls)
    splits: dict[str, Any] = {}
    begun = 0
    for name, count in SAMPLES.items():
        some = {key: field[begun : begun + count] for key, field in fields.items()}
        splits[name] = Split(name, schema, some, np.arange(count))
        begun += count
    return splits
