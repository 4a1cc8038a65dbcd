"""Trials of a surrogate's robustness: it is asked, and its errors stand beside those of guesses.

A trial yields a curve of errors by level, as `reports/robustness.json` holds it, or is `Absent`.
Here are those whose inputs are changed: noise, and sensors that are missing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mno.core.absent import Absent
from mno.data.reading import Split
from mno.evaluation.evaluator import kept_frames
from mno.evaluation.intervals import mean_interval
from mno.evaluation.metrics import measured, relative_l2
from mno.evaluation.solver import stream
from mno.evaluation.statistics import Statistics
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

Arrays: TypeAlias = Mapping[str, np.ndarray]
Result: TypeAlias = dict[str, Any]
Errors: TypeAlias = dict[str, np.ndarray]
"""The relative L2 of each sample, shape `(samples,)`, by who predicted it: `model`, and the guesses
`mean_field` (of the training split) and `persistence` (the last given frame of states is kept)."""


class Trial:
    """Asks a surrogate about samples; the guess to compare with is the training `mean_fields`."""

    def __init__(self, surrogate: Surrogate, train_mean: Arrays, batch_size: int) -> None:
        self.surrogate = surrogate
        self.description = surrogate.description
        self.batch_size = batch_size
        self.train_mean = {name: mean[None] for name, mean in train_mean.items()}
        forecast = self.description.forecast
        self.history = forecast.history if forecast else 0  # frames that are given

    def predict(self, given: Arrays, truth: Arrays) -> dict[str, np.ndarray]:
        """Return what the surrogate answers, as many frames of states as the truth has."""
        states, steps = self.description.states, None
        if states and self.description.any_steps:
            steps = truth[states[0]].shape[1]
        return self.surrogate.predict(given, self.batch_size, steps)

    def errors(self, given: Arrays, truth: Arrays, means: Arrays | None = None) -> Errors:
        """Return the errors of the surrogate and of the guesses, of fields `(samples, *dims)`.

        The mean field is `(1, *dims)` at the truth's points and times; that of the training split,
        if it fits, where not given.
        """
        found = {"model": errors_of(self.predict(given, truth), truth)}
        means = self.description.truth(self.train_mean) if means is None else means
        if any(means[name].shape[1:] != field.shape[1:] for name, field in truth.items()):
            return found
        expected = {n: np.broadcast_to(means[n], field.shape) for n, field in truth.items()}
        found["mean_field"], states = errors_of(expected, truth), self.description.states
        if states:
            kept = kept_frames(states, given, expected, truth)
            found["persistence"] = errors_of({**expected, **kept}, truth)
        return found


def errors_of(predicted: Arrays, truth: Arrays) -> np.ndarray:
    """Return the relative L2 of each sample that has a known truth, the mean over its fields."""
    statistics = {n: Statistics.of(np.asarray(predicted[n]), truth[n]) for n in truth}
    return relative_l2(statistics)[measured(statistics)]


def curve(levels: Mapping[Any, Errors | Absent], seed: int, **facts: Any) -> Result | Absent:
    """Put errors by level, or why there are none, into a curve, with facts about the whole of it.

    It has `level`; `relative_l2`, by who predicted, with lists `mean`, `low` and `high` along the
    levels; the number of `samples`; and by level what is `absent`. A guess that is not there at
    every level is left out. If no level has errors, what is returned is why.
    """
    found = {level: errors for level, errors in levels.items() if not isinstance(errors, Absent)}
    absent = {str(level): why for level, why in levels.items() if isinstance(why, Absent)}
    if not found:
        return next(iter(absent.values()))
    first, *others = found.values()
    return {
        "samples": max(len(errors["model"]) for errors in found.values()),
        "level": list(found),
        "relative_l2": {
            who: along([errors[who] for errors in found.values()], seed)
            for who in first
            if all(who in errors for errors in others)
        },
        **({"absent": absent} if absent else {}),
        **facts,
    }


def along(errors: list[Any], seed: int) -> dict[str, list[float | None]]:
    """Return mean and ends of the interval of each of some arrays of errors."""
    means, lows, highs = zip(*(mean_interval(values, seed) for values in errors), strict=True)
    return {"mean": list(means), "low": list(lows), "high": list(highs)}


def under_noise(
    trial: Trial, samples: Split, levels: Sequence[float], seed: int
) -> Result | Absent:
    """Return the errors by level of white normal noise on all that the model is given.

    A level is in standard deviations of each input over the training split, on its scale: noise on
    a logarithm multiplies. Coordinates of points are known. Each sample has one draw, that levels
    only scale, so that curves are smooth. Level 0 is the model on the data as they are. Keeping the
    last frame suffers from the noise, too.
    """
    description = trial.description
    given, truth = description.given(samples.fields), description.truth(samples.fields)
    draws = {name: np.empty_like(given[name]) for name in description.inputs}
    deviations = dict(description.normaliser.std)
    for name in draws:
        known = given[name][np.isfinite(given[name])]
        if deviations[name] == 1.0 and (not known.size or np.ptp(known) == 0.0):
            deviations[name] = 0.0  # of a constant one, where a normaliser says 1
    for row, number in enumerate(samples.indices):
        rng = stream(seed, "noise", int(number))
        for name, values in draws.items():
            values[row] = deviations[name] * rng.standard_normal(values.shape[1:])
    errors: dict[float, Errors | Absent] = {}
    for level in (0.0, *sorted(set(levels))):
        noise = {n: np.float32(level) * draw for n, draw in draws.items()} if level else {}
        moved = description.normaliser.moved
        noisy = {n: moved(n, x, noise[n]) if n in noise else x for n, x in given.items()}
        errors[level] = trial.errors(noisy, truth)
    return curve(errors, seed)


def without_sensors(
    trial: Trial, samples: Split, shares: Sequence[float], seed: int
) -> Result | Absent:
    """Return the errors by share of places without a measurement, at random and in one block.

    No input has a value at such a place, at any time; numbers that hold for a whole sample stay,
    and so do coordinates. An input that may have gaps is given NaN there, `told`; in the others the
    training data's mean stands in, on the scale of the input, `filled`. Share 0 is the model on the
    data as they are. Larger random shares hold the smaller ones.
    """
    description = trial.description
    if not description.fields:
        return Absent("robustness.no_places")
    given, truth = description.given(samples.fields), description.truth(samples.fields)
    told = [name for name in description.fields if name in description.gaps]
    filled = [name for name in description.fields if name not in told]
    stand_in = {name: np.full_like(given[name], math.nan) for name in told}
    for name in filled:
        stand_in[name] = description.normaliser.decode(name, np.zeros_like(given[name]), given)
    found: Result = {"told": told, "filled": filled}
    for kind, use in (("random", "missing"), ("block", "block")):
        errors: dict[float, Errors | Absent] = {}
        for share in (0.0, *sorted(set(shares))):
            changed = dict(given)
            if share:
                holes = [
                    _holes(description, given, row, stream(seed, use, int(number)), share, kind)
                    for row, number in enumerate(samples.indices)
                ]
                for name in description.fields:
                    rows = zip(holes, stand_in[name], given[name], strict=True)
                    changed[name] = np.stack([np.where(there, x, y) for there, x, y in rows])
            errors[share] = trial.errors(changed, truth)
        found[kind] = curve(errors, seed)
    return found


def _holes(
    description: Description,
    given: Arrays,
    row: int,
    rng: np.random.Generator,
    share: float,
    kind: str,
) -> np.ndarray:
    """Return which places of a sample are missing, of the shape of space.

    They are any, or, as a `block`, a box of a grid or the points that are nearest to one of them.
    """
    holes = np.zeros(given[description.fields[0]].shape[-len(description.space) :], bool)
    if kind == "random":
        holes.flat[rng.permutation(holes.size)[: round(share * holes.size)]] = True
        return holes
    draws = rng.random(holes.ndim)
    if description.coordinates:
        points = np.stack([given[name][row] for name in description.coordinates], axis=-1)
        middle = points[int(draws[0] * len(points))]
        order = np.argsort(np.square(points - middle).sum(axis=-1), kind="stable")
        holes[order[: round(share * len(points))]] = True
        return holes
    sides = [min(n, math.ceil(n * share ** (1 / holes.ndim))) for n in holes.shape]
    starts = [int(at * (n - m + 1)) for at, n, m in zip(draws, holes.shape, sides, strict=True)]
    holes[tuple(slice(a, a + m) for a, m in zip(starts, sides, strict=True))] = True
    return holes
