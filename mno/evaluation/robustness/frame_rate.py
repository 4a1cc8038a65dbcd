"""Frames that follow each other more slowly, or faster, than in the training data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mno.data.reading import Schema, Split
from mno.evaluation.robustness.curve import Result, curve
from mno.evaluation.robustness.longer import solved_closer
from mno.evaluation.robustness.reasons import (
    FIXED_FRAMES,
    NO_FRAME_LEFT,
    NO_STATES,
    ONE_FRAME,
)
from mno.evaluation.robustness.trial import Errors, Trial, errors_of

Arrays = Mapping[str, np.ndarray]


def at_frame_rates(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int
) -> Result | str:
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
        return NO_STATES
    return {
        "half": _half(trial, samples, seed),
        "double": _double(trial, schema, count, seed),
    }


def _half(trial: Trial, samples: Split, seed: int) -> Result | str:
    description = trial.description
    history, states, forcings = _timed(trial)
    if history == 1 and not forcings:
        return ONE_FRAME
    first = (history - 1) % 2  # frame to begin with, so that the last one given is an even one
    if first and not description.rolls_out:
        return FIXED_FRAMES
    if samples.fields[states[0]].shape[1] <= history + first:
        return NO_FRAME_LEFT
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


def _double(trial: Trial, schema: Schema, count: int, seed: int) -> Result | str:
    samples = solved_closer(schema, count, seed, times=2)
    if isinstance(samples, str):
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
