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
from mno.core.readings import Part

Scheme = Literal["horizon", "rollout"]


class TaskConfig(Config):
    """What is given and what is predicted of states, fields over time; others it leaves alone."""

    part: Part = Parameter(
        default="fields",
        description="Of scenarios that have both: whether fields in space are given and predicted, "
        "or the readings of zones, pieces and thermocouples, which is far cheaper, or both",
    )
    history: int = Parameter(
        default=1,
        ge=1,
        le=1000,
        description="Frames of a state that are given: the first of each sample",
    )
    scheme: Scheme = Parameter(
        default="rollout",
        description="How the others are predicted: all of them at once (horizon), or the next one, "
        "again and again, from the last frames given or predicted before (rollout)",
    )

    predict: Literal["state", "change"] = Parameter(
        default="state",
        description="What a model answers of a state: its later frames, or how they differ from "
        "the last frame given or predicted before, so that it only has to learn what happens",
    )


@dataclass(frozen=True)
class Forecast:
    """How an operator continues states."""

    history: int  # frames of each state that it is given
    scheme: Scheme
    """`horizon`, all later frames at once, or `rollout`, the next one again and again."""
    steps: int
    """Frames predicted after them: always (horizon), or where no other number is asked for."""
    interval: float  # time between two frames, in the unit of the dataset's time axis

    @property
    def frames_at_once(self) -> int:
        """Frames that the operator predicts when it is asked once."""
        return self.steps if self.scheme == "horizon" else 1


def forecast_of(task: TaskConfig, fields: Sequence[Field], axes: Sequence[Axis]) -> Forecast | None:
    """Return how the states among all fields are to be continued; none where there are none.

    Raises:
        InputError: No frame is left to predict, the frames do not follow each other at equal
            distances, or a rollout is wanted of fields that no state continues.
    """
    if not any(field.role == "state" for field in fields):
        return None
    (times,) = (axis.points for axis in axes if axis.name == "time")
    if task.history >= len(times):
        raise InputError(
            f"task.history={task.history} leaves none of the {len(times)} frames to predict; "
            f"choose {len(times) - 1} or less"
        )
    interval = _interval(times)
    steady = [field.name for field in fields if field.role == "output"]
    if steady and task.scheme == "rollout":
        raise InputError(
            f"task.scheme=rollout continues states, but {', '.join(steady)} is an output without "
            "frames to go on from; set task.scheme=horizon"
        )
    steps = len(times) - task.history
    return Forecast(task.history, task.scheme, steps, interval)


def _interval(times: np.ndarray) -> float:
    """Return the distance of frames; files often have times that were rounded to float32."""
    intervals = np.diff(times)
    if np.allclose(intervals, intervals[0], rtol=1e-6):
        return float(intervals[0])
    mean = float(times[-1] - times[0]) / len(intervals)
    rounding = float(np.finfo(np.float32).eps * np.abs(times).max())
    if 2 * rounding < abs(mean) and np.allclose(intervals, mean, rtol=1e-6, atol=2 * rounding):
        return mean
    raise InputError(
        f"the frames are between {intervals.min():g} and {intervals.max():g} apart; expected "
        "equal distances: generate the dataset with a time axis of equal steps"
    )
