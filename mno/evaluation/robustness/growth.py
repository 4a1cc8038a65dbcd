"""The growth of errors over time, and the time until they are too large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.data.reading import Schema, Split
from mno.evaluation.overall import measured, relative_l2
from mno.evaluation.robustness.curve import Result, along
from mno.evaluation.robustness.intervals import median_interval
from mno.evaluation.robustness.longer import solved_longer
from mno.evaluation.robustness.reasons import FIXED_FRAMES, FORCED, NO_STATES
from mno.evaluation.robustness.trial import Trial
from mno.evaluation.statistics import Statistics

Arrays = Mapping[str, np.ndarray]


def over_time(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int, threshold: float
) -> Result | str:
    """Return how errors grow, `within` the trained duration and `beyond` it.

    Beyond it the solver goes on to twice the duration, where the model rolls out and no forcing
    would have to be invented. Either has the `time` of each predicted frame, the relative L2 of
    each frame as a curve does, and `usable`: by who predicted, the time from the last given frame
    to the first whose error is above the threshold, as median over samples with its interval. It is
    none where half of the samples do not get there; `reached` is the share that does. An error that
    is not a number is above.
    """
    description = trial.description
    if not description.states:
        return NO_STATES
    beyond: Result | str = FORCED if description.forcings else FIXED_FRAMES
    if description.rolls_out and not description.forcings:
        longer = solved_longer(schema, count, seed, times=2)
        beyond = longer if isinstance(longer, str) else _grown(trial, longer, seed, threshold)
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    return {
        "threshold": threshold,
        "unit": time.units,
        "trained_until": float(time.points[-1]),
        "within": _grown(trial, samples, seed, threshold),
        "beyond": beyond,
    }


def _grown(trial: Trial, samples: Split, seed: int, threshold: float) -> Result:
    description = trial.description
    states = description.states
    given, whole = description.given(samples.fields), description.truth(samples.fields)
    answer, truth = trial.predict(given, whole), {n: whole[n] for n in states}
    expected = {n: description.truth(trial.train_mean)[n] for n in states}
    ways = {"model": answer}
    if all(expected[n].shape[1] == truth[n].shape[1] for n in states):
        ways["mean_field"] = expected
    ways["persistence"] = trial.kept(given, expected, truth)
    (time,) = (axis for axis in samples.schema.axes if axis.name == "time")
    steps = truth[states[0]].shape[1]
    times, last = time.points[-steps:], float(time.points[-steps - 1])
    errors = {who: _by_frame(frames, truth) for who, frames in ways.items()}
    return {
        "samples": len(samples),
        "time": times.tolist(),
        "relative_l2": {
            who: along([frame[known] for frame, known in zip(e, k, strict=True)], seed)
            for who, (e, k) in errors.items()
        },
        "usable": {
            who: _usable(e, k, times - last, threshold, seed) for who, (e, k) in errors.items()
        },
    }


def _by_frame(predicted: Arrays, truth: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative L2 of each frame and sample, and whether it has a known truth."""
    errors, known = [], []
    for k in range(next(iter(truth.values())).shape[1]):
        statistics = {}
        for name, frames in truth.items():
            there = np.broadcast_to(predicted[name], frames.shape)[:, k]
            statistics[name] = Statistics.of(there, frames[:, k])
        errors.append(relative_l2(statistics))
        known.append(measured(statistics))
    return np.array(errors), np.array(known)


def _usable(
    errors: np.ndarray, known: np.ndarray, times: np.ndarray, threshold: float, seed: int
) -> dict[str, Any]:
    """Return the time until the threshold, over the samples; shapes `(frames, samples)`."""
    above = known & ~(errors <= threshold)
    reached = above.any(axis=0)
    first = np.where(reached, times[np.argmax(above, axis=0)], math.inf)
    median, low, high = (_or_none(value) for value in median_interval(first, seed))
    return {"median": median, "low": low, "high": high, "reached": float(np.mean(reached))}


def _or_none(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
