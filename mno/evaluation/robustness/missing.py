"""Missing sensors: inputs that are not measured at some places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mno.data.reading import Split
from mno.evaluation.robustness.curve import Result, curve
from mno.evaluation.robustness.reasons import NO_PLACES
from mno.evaluation.robustness.streams import stream
from mno.evaluation.robustness.trial import Trial
from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]
Pick = Callable[[float, int], np.ndarray]
"""Returns which places of a sample are missing, shape `(*places,)`, by share and row."""


def without_sensors(
    trial: Trial, samples: Split, shares: Sequence[float], seed: int
) -> Result | str:
    """Return the errors by share of places without a measurement, at random and in one block.

    No input has a value at such a place, at any time; numbers that hold for a whole sample stay,
    and so do coordinates. An input that may have gaps is given NaN there, `told`; in the others the
    training data's mean stands in, `filled`. Share 0 is the model on the data as they are. Larger
    random shares hold the smaller ones.
    """
    description = trial.description
    if not description.fields:
        return NO_PLACES
    given = description.given(samples.fields)
    truth = description.truth(samples.fields)
    picks = {
        "random": _at_random(description, given, samples.indices, seed),
        "block": _in_a_block(description, given, samples.indices, seed),
    }
    facts = {
        "told": [name for name in description.fields if name in description.gaps],
        "filled": [name for name in description.fields if name not in description.gaps],
    }
    return facts | {
        kind: curve(
            {
                share: trial.errors(_without(description, given, pick, share), truth)
                for share in (0.0, *sorted(set(shares)))
            },
            seed,
        )
        for kind, pick in picks.items()
    }


def _without(
    description: Description, given: Arrays, pick: Pick, share: float
) -> dict[str, np.ndarray]:
    if not share:
        return dict(given)
    changed = dict(given)
    for name in description.fields:
        mean = np.float32(description.normaliser.mean[name])
        hole = np.float32(math.nan) if name in description.gaps else mean
        rows = [np.where(pick(share, row), hole, x) for row, x in enumerate(given[name])]
        changed[name] = np.stack(rows)
    return changed


def _places(description: Description, given: Arrays) -> tuple[int, ...]:
    return given[description.fields[0]].shape[-len(description.space) :]


def _at_random(description: Description, given: Arrays, numbers: np.ndarray, seed: int) -> Pick:
    shape = _places(description, given)
    total = math.prod(shape)
    orders = [stream(seed, "missing", int(n)).permutation(total) for n in numbers]

    def pick(share: float, row: int) -> np.ndarray:
        missing = np.zeros(total, bool)
        missing[orders[row][: round(share * total)]] = True
        return missing.reshape(shape)

    return pick


def _in_a_block(description: Description, given: Arrays, numbers: np.ndarray, seed: int) -> Pick:
    """Return a box of a grid, or the points that are nearest to one of them."""
    shape = _places(description, given)
    draws = [stream(seed, "block", int(n)).random(len(shape)) for n in numbers]

    def box(share: float, row: int) -> np.ndarray:
        missing = np.zeros(shape, bool)
        sides = [min(n, math.ceil(n * share ** (1 / len(shape)))) for n in shape]
        starts = [int(at * (n - m + 1)) for at, n, m in zip(draws[row], shape, sides, strict=True)]
        missing[tuple(slice(a, a + m) for a, m in zip(starts, sides, strict=True))] = True
        return missing

    def nearest(share: float, row: int) -> np.ndarray:
        points = np.stack([given[name][row] for name in description.coordinates], axis=-1)
        middle = points[int(draws[row][0] * len(points))]
        order = np.argsort(np.square(points - middle).sum(axis=-1), kind="stable")
        missing = np.zeros(len(points), bool)
        missing[order[: round(share * len(points))]] = True
        return missing

    return nearest if description.coordinates else box
