"""Forecasts of states: which of their frames are given, and how the later ones are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field as Parameter

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.observing import Sensor
from mno.core.readings import Part

Scheme = Literal["horizon", "rollout"]


class TaskConfig(Config):
    """What is given and what is predicted of states, fields over time; others it leaves alone."""

    part: Part = "fields"
    """Of scenarios that have both: whether fields in space are given and predicted, or the readings
    of zones, pieces and thermocouples, which is far cheaper, or both"""
    kind: Literal["forecast", "observe"] = "forecast"
    """Whether fields over time are continued (forecast), or told as they are now, from what sensors
    have read of some of them so far (observe: time is then an axis)"""
    sensors: dict[str, Sensor] = {}
    """What an observer reads: by field, the faults of its sensors; as the plant's file says if it
    is empty"""
    hidden: list[str] = []
    """Inputs that an observer is not given, and has to tell; those of the plant's file come with
    its sensors"""
    history: int = Parameter(default=1, ge=1, le=1000)
    """Frames of a state that are given: the first of each sample"""
    skip: int = Parameter(default=0, ge=0, le=1000)
    """First frames of each sample that are left out where a model is validated and evaluated, so
    that models that are given more frames and fewer predict the same ones (rollouts)"""
    scheme: Scheme = "rollout"
    """How the others are predicted: all of them at once (horizon), or the next one, again and
    again, from the last frames given or predicted before (rollout)"""
    time: Literal["frames", "axis"] = "frames"
    """What time is to a model: frames are numbers of a point, as many as it was trained with
    (frames), or follow each other along an axis, any number of them at any distances, and the model
    remembers those before (axis)"""
    predict: Literal["state", "change"] = "state"
    """What a forecast answers of a state: its later frames, or how they differ from the last frame
    given or predicted before, so that it only has to learn what happens"""

    @property
    def observes(self) -> bool:
        """Whether fields are told as they are now."""
        return self.kind == "observe"

    @property
    def along_time(self) -> bool:
        """Whether time is an axis of the model."""
        return self.time == "axis" or self.observes


@dataclass(frozen=True)
class Forecast:
    """How an operator continues states."""

    history: int  # frames of each state that it is given
    scheme: Scheme
    """`horizon`, all later frames at once, or `rollout`, the next one again and again."""
    steps: int
    """Frames predicted after them: always (horizon), or where no other number is asked for."""
    interval: float  # time between two frames, in the unit of the dataset's time axis; the mean
    along_time: bool = False
    """Whether time is an axis of the operator, so that it remembers the frames before."""
    intervals: tuple[float, ...] = ()
    """Where they differ, the time to each frame from the one before, relative to their mean."""
    skip: int = 0  # first frames of a sample of its dataset that are trained on alone
    observes: bool = False
    """Whether the frames told are those given, as of an observer, and not the later ones."""

    @property
    def rolls_out(self) -> bool:
        """Whether each frame is predicted from those before, given or predicted."""
        return self.scheme == "rollout"

    @property
    def frames_at_once(self) -> int:
        """Frames that the operator predicts when it is asked once."""
        return 1 if self.rolls_out else self.steps


def forecast_of(task: TaskConfig, fields: Sequence[Field], axes: Sequence[Axis]) -> Forecast | None:
    """Return how the states among all fields are to be continued; none where there are none.

    Raises:
        InputError: No frame is left to predict, the frames do not follow each other at equal
            distances where they have to, or a rollout is wanted of fields that no state continues,
            or outputs that are no states of a model along time.
    """
    if not (task.observes or any(field.role == "state" for field in fields)):
        return None
    own = [field.name for field in fields if field.role == "times"]
    if own and not task.along_time:
        raise InputError(
            f"task.time=frames, but each sample's frames have times of their own ({own[0]}), at "
            "unequal distances: set task.time=axis"
        )
    ((times, units),) = ((axis.points, axis.units) for axis in axes if axis.name == "time")
    if task.skip and (task.observes or task.scheme != "rollout"):
        raise InputError(
            f"task.skip={task.skip} is for models that predict any number of frames; set "
            f"{'' if task.observes else 'task.scheme=rollout, or '}task.skip=0"
        )
    if task.observes:
        if units not in ("s", "1"):
            raise InputError(
                f"the dataset's times are in {units}, and what observes follows readings in "
                "seconds; import with axes: {time: {units: s}}"
            )
        interval, intervals = _intervals(times, along_time=True)
        return Forecast(
            0, "horizon", len(times), interval, along_time=True, intervals=intervals, observes=True
        )
    if task.skip + task.history >= len(times):
        skipped = f" with task.skip={task.skip}" if task.skip else ""
        raise InputError(
            f"task.history={task.history}{skipped} leaves none of the {len(times)} frames to "
            f"predict; choose {len(times) - 1} or less in all"
        )
    along_time = task.along_time
    steady = [field.name for field in fields if field.role == "output"]
    if steady and (along_time or task.scheme == "rollout"):
        setting, other = ("time=axis", "time=frames") if along_time else ("scheme=rollout", "")
        raise InputError(
            f"task.{setting} continues states, but {', '.join(steady)} is an output without "
            f"frames to go on from; set task.{other or 'scheme=horizon'}"
        )
    interval, intervals = _intervals(times, along_time=along_time)
    if task.skip and intervals and not own:
        raise InputError(
            f"task.skip={task.skip} needs frames at equal distances, and those of the dataset are "
            "not; set task.skip=0"
        )
    steps = len(times) - task.skip - task.history
    return Forecast(task.history, task.scheme, steps, interval, along_time, intervals, task.skip)


def check_ascending(times: np.ndarray, what: str) -> None:
    """Refuse times, `(samples, frames)`, that do not ascend in each sample."""
    if not (steps := np.diff(times, axis=1) > 0).all():
        sample, frame = (int(i[0]) for i in (~steps).nonzero())
        raise InputError(
            f"{what} of sample {sample} do not ascend: frame {frame + 1} is not later than "
            f"frame {frame}; give the frames in their order"
        )


def _intervals(times: np.ndarray, *, along_time: bool) -> tuple[float, tuple[float, ...]]:
    """Return the mean distance of frames, and all of them relative to it where they differ."""
    if len(times) < 2:
        raise InputError(
            f"the samples have {len(times)} frame over time, and an observer is told of readings "
            "one after the other; generate the dataset with two frames or more"
        )
    try:
        return _interval(times), ()
    except InputError:
        if not along_time or not (np.diff(times) > 0).all():
            raise
    interval = float(times[-1] - times[0]) / (len(times) - 1)
    return interval, (1.0, *(np.diff(times) / interval).tolist())


def _interval(times: np.ndarray) -> float:
    """Return the distance of frames; files often have times that were rounded to float32."""
    intervals = np.diff(times)
    if np.allclose(intervals, intervals[0], rtol=1e-6, atol=0.0):
        return float(intervals[0])
    mean = float(times[-1] - times[0]) / len(intervals)
    rounding = float(np.finfo(np.float32).eps * np.abs(times).max())
    if 2 * rounding < abs(mean) and np.allclose(intervals, mean, rtol=1e-6, atol=2 * rounding):
        return mean
    raise InputError(
        f"the frames are between {intervals.min():g} and {intervals.max():g} apart; expected "
        "equal distances: generate the dataset with a time axis of equal steps, or set "
        "task.time=axis"
    )
