"""What scenarios have in common whose states change in time."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Parameter

from mno.core.fields import Axis
from mno.scenarios.base import Check, Fields, Scenario

Frames = Annotated[
    int,
    Parameter(
        ge=2, le=1001, description="Frames, the initial state included, at equal distances in time."
    ),
]

INITIAL = Check(
    "initial", "largest change of the initial state in the first frame", 0.0, of_given=True
)


class TimeDependent(Scenario):
    """A scenario of states at frames that lie at equal distances in time, from 0 on.

    Its parameters have a `duration`, the time of the last frame, and a number of `frames`. The
    first of its checks, `initial`, is measured here.
    """

    _time_units = "1"

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Time from 0, and the axes of space."""
        duration, frames = self.parameters.duration, self.parameters.frames
        times = np.linspace(0.0, duration, frames)
        return (Axis("time", self._time_units, "time", times, (0.0, duration)), *self._space)

    @property
    def _interval(self) -> float:
        return self.parameters.duration / (self.parameters.frames - 1)

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure the change of the first frame, and what else the scenario does, in float64.

        Where any value is infinite or NaN, all is NaN.
        """
        given = {name: array.astype(np.float64) for name, array in inputs.items()}
        frames = {name: array.astype(np.float64) for name, array in outputs.items()}
        if not all(np.isfinite(array).all() for array in (*given.values(), *frames.values())):
            return {check.name: math.nan for check in self.checks}
        # Of its own states alone: one that parameters add follows from these.
        states = [field.name for field in type(self).fields if field.role == "state"]
        change = max(np.max(np.abs(frames[name][0] - given[name])) for name in states)
        found = {"initial": change, **self._measure(given, frames)}
        return {name: float(value) for name, value in found.items()}

    @abstractmethod
    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        """Measure the checks but `initial` on what was drawn and all frames, finite, float64."""
