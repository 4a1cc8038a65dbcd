"""Trials over time: other frame rates than the trained one, and the growth of errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.data.reading import Schema, Split
from mno.evaluation.intervals import median_interval
from mno.evaluation.metrics import measured, relative_l2
from mno.evaluation.solver import solved_closer, solved_longer
from mno.evaluation.statistics import Statistics
from mno.evaluation.trial import (
    Errors,
    Result,
    Trial,
    along,
    curve,
    errors_of,
)

Arrays = Mapping[str, np.ndarray]


def at_frame_rates(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int
) -> Result | Absent:
    """Return the errors where frames come at half and at double the trained rate.

    A model continues states in steps of its own and cannot be told of others, so its user has to
    interpolate in time, and that is what is measured:

    `half`: of what the model is given, every second frame is known. Between them states are
    interpolated linearly, and of a forcing the mean of both intervals stands for either.
    `double`: an answer is wanted twice as often. The model is given every second frame, a forcing
    as its mean over both intervals; between the frames that it predicts, and the last one given, it
    is interpolated linearly. The truth is solved anew.

    Levels are the rate of frames over that of the training data.
    """
    if not trial.description.states:
        return Absent("robustness.no_states")
    return {
        "half": _half(trial, samples, seed),
        "double": _double(trial, schema, count, seed),
    }


def _half(trial: Trial, samples: Split, seed: int) -> Result | Absent:
    description = trial.description
    history, states, forcings = _timed(trial)
    if history == 1 and not forcings:
        return Absent("robustness.one_frame")
    first = (history - 1) % 2  # frame to begin with, so that the last one given is an even one
    if first and not description.rolls_out:
        return Absent("robustness.fixed_frames")
    if samples.fields[states[0]].shape[1] <= history + first:
        return Absent("robustness.no_frame_left")
    slow = dict(samples.fields)
    slow |= {name: _even_frames_known(slow[name]) for name in states}
    slow |= {name: _pairs_alike(slow[name]) for name in forcings}

    def later(fields: Arrays) -> dict[str, np.ndarray]:
        timed = (*states, *forcings)
        return {n: x[:, first:] if n in timed else x for n, x in fields.items()}

    truth = description.truth(later(samples.fields))
    means = description.truth(later(trial.train_mean))
    given = {1.0: later(samples.fields), 0.5: later(slow)}
    return curve(
        {rate: trial.errors(description.given(x), truth, means) for rate, x in given.items()}, seed
    )


def _double(trial: Trial, schema: Schema, count: int, seed: int) -> Result | Absent:
    samples = solved_closer(schema, count, seed, times=2)
    if isinstance(samples, Absent):
        return samples
    description = trial.description
    history, states, forcings = _timed(trial)
    slow = dict(samples.fields)
    slow |= {name: slow[name][:, ::2] for name in states}
    slow |= {name: _pairs_alike(slow[name])[:, ::2] for name in forcings}
    given, truth = description.given(slow), description.truth(slow)
    finer = {n: x[:, 2 * history - 1 :] if n in states else x for n, x in samples.fields.items()}
    finer = {name: finer[name] for name in truth}

    def between(frames: Arrays, before: Arrays) -> dict[str, np.ndarray]:
        joined = {n: np.concatenate([before[n][:, -1:], frames[n]], axis=1) for n in states}
        return {**frames, **{n: _twice_as_often(joined[n]) for n in states}}

    expected = description.truth(trial.train_mean)
    means = between(expected, {n: trial.train_mean[n][:, :history] for n in states})
    means = {n: np.broadcast_to(mean, finer[n].shape) for n, mean in means.items()}
    kept = {n: np.broadcast_to(given[n][:, -1:], finer[n].shape) for n in states}
    answer = between(trial.predict(given, truth), given)
    doubled: Errors = {
        "model": errors_of(answer, finer),
        "mean_field": errors_of(means, finer),
        "persistence": errors_of({**means, **kept}, finer),
    }
    return curve({1.0: trial.errors(given, truth), 2.0: doubled}, seed)


def _timed(trial: Trial) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Return frames given, and the names of states and forcings."""
    description = trial.description
    history = description.forecast.history if description.forecast else 0
    return history, description.states, description.forcings


def _even_frames_known(frames: np.ndarray) -> np.ndarray:
    """Return frames whose odd ones lie halfway between their neighbours; a last odd one stays."""
    slow = frames.copy()
    odd = slice(1, frames.shape[1] - 1, 2)
    after = frames[:, 2::2]
    slow[:, odd] = (frames[:, 0:-1:2][:, : after.shape[1]] + after) / 2
    return slow


def _pairs_alike(frames: np.ndarray) -> np.ndarray:
    """Return frames 2k and 2k + 1 as the mean of both; a last one without a partner stays."""
    alike, last = frames.copy(), frames.shape[1] // 2 * 2
    alike[:, 0:last:2] = alike[:, 1:last:2] = (frames[:, 0:last:2] + frames[:, 1:last:2]) / 2
    return alike


def _twice_as_often(frames: np.ndarray) -> np.ndarray:
    """Return all frames but the first, each after its middle with the one before."""
    middles = (frames[:, :-1] + frames[:, 1:]) / 2
    pairs = np.stack([middles, frames[:, 1:]], axis=2)
    return pairs.reshape(len(frames), -1, *frames.shape[2:])


def over_time(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int, threshold: float
) -> Result | Absent:
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
        return Absent("robustness.no_states")
    beyond: Result | Absent = (
        Absent("robustness.forced") if description.forcings else Absent("robustness.fixed_frames")
    )
    if description.rolls_out and not description.forcings:
        longer = solved_longer(schema, count, seed, times=2)
        beyond = longer if isinstance(longer, Absent) else _grown(trial, longer, seed, threshold)
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
