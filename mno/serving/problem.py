"""What a model's problems are drawn and solved by: a scenario, in a process of its own.

Its functions run there (`describe`, `draw`, `solve`), one call at a time and each within a time
limit; so nothing that takes long to import is imported here.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from pydantic.fields import FieldInfo

from mno.core.config import PARAMS_FILE
from mno.core.errors import InputError, MnoError, first_line
from mno.core.fields import Axis
from mno.core.readings import Part
from mno.core.workers import LostError, Worker
from mno.scenarios.base import Scenario, make_scenario, other_plant, scenario_class
from mno.scenarios.part import part_of
from mno.serving.protocol import RefusedError

_REACH = 3.0  # a parameter is moved to a third and to three times of what the data have
_TO_START = 120.0  # s; importing and compiling take some, once

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Problem:
    """A scenario as the model's dataset was solved by it."""

    name: str
    resolution: int
    parameters: Mapping[str, Any]
    history: int  # first frames of states that the model is given; none without states
    part: Part = "fields"  # of a dataset with fields and readings
    plant: Mapping[str, Any] = field(default_factory=dict)  # as the dataset was made with it

    def moved(self, changes: Mapping[str, Any]) -> Self:
        """Return the same with other parameters."""
        return replace(self, parameters={**self.parameters, **changes})

    @property
    def scenario(self) -> Scenario:
        """The scenario; an `InputError` where it does not take the parameters."""
        made = make_scenario(self.name, self.resolution, self.parameters)
        if other := other_plant(made, self.parameters, self.plant):
            raise InputError(str(other))
        return part_of(made, self.part)


def describe(problem: Problem) -> dict[str, Any]:
    """Return `title`, `labels` of fields, `axes`, and the `parameters` that may be moved."""
    scenario = problem.scenario
    return {
        "title": scenario.title, "labels": {f.name: f.long_name for f in scenario.fields},
        "axes": about(scenario.axes), "parameters": movable(problem),
    }  # fmt: skip


def about(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return `name`, `units`, `extent` and `labels` of axes."""
    return [
        {"name": a.name, "units": a.units, "extent": list(a.extent), "labels": list(a.labels)}
        for a in axes
    ]


def draw(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """Draw a sample; return all its fields that a model is given, states with a frame axis."""
    scenario = problem.scenario
    drawn = scenario.sample(np.random.default_rng(seed))
    if problem.history > 1:  # the first frames are those of a solution
        return {**drawn, **scenario.solve(drawn)}
    states = [field.name for field in scenario.fields if field.role == "state"]
    return {name: a[None] if name in states else a for name, a in drawn.items()}


def solve(problem: Problem, drawn: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
    """Solve for what was drawn; return the seconds, and outputs and states at all frames."""
    scenario = problem.scenario
    scenario.compile()
    start = time.perf_counter()
    solved = scenario.solve(drawn)
    return time.perf_counter() - start, dict(solved)


def movable(problem: Problem) -> list[dict[str, Any]]:
    """Return the parameters that change samples, but not what fields they have and where.

    A number of frames or a duration is not among them: the model would predict other frames. Each
    has `name`, `value`, `least`, `most`, `whole` (only whole numbers will do) and `description`.
    """
    scenario, found = problem.scenario, []
    for key, info in scenario_class(problem.name).Parameters.model_fields.items():
        value = problem.parameters.get(key, info.default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        whole = isinstance(value, int)
        least, most = _range(value, info, whole)
        others = [end for end in (most, least) if end != value]
        if any(_stays(scenario, problem.moved({key: end})) for end in others):
            ends = {"name": key, "value": value, "least": least, "most": most, "whole": whole}
            found.append({**ends, "description": info.description})
    return found


def _range(value: float, info: FieldInfo, whole: bool) -> tuple[float, float]:
    """Return how far a slider goes: around the value, within what the scenario takes."""
    size = abs(value) or 1.0
    least, most = (value / _REACH, value * _REACH) if value > 0 else (value - size, value + size)
    for limit in info.metadata:
        near = size / 1000.0  # an end that does not belong to the range is not reached
        least = max(least, getattr(limit, "ge", least), getattr(limit, "gt", -math.inf) + near)
        most = min(most, getattr(limit, "le", most), getattr(limit, "lt", math.inf) - near)
    return (float(np.ceil(least)), float(np.floor(most))) if whole else (least, most)


def _stays(scenario: Scenario, moved: Problem) -> bool:
    """Whether a scenario of other parameters has the same fields at the same places and times."""
    try:
        other = moved.scenario
    except MnoError:
        return False
    return other.fields == scenario.fields and all(
        a.name == b.name and np.array_equal(a.points, b.points)
        for a, b in zip(scenario.axes, other.axes, strict=True)
    )


class Solver:
    """The process in which a scenario draws and solves.

    A call may take so many seconds; the first of a process may take longer.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._worker, self._lock = limit, Worker(niceness=10), asyncio.Lock()

    async def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Return what a function of this module answers.

        A `RefusedError` says that others are before, and take too long; an `InputError` that the
        scenario cannot be used so; another `MnoError` that it failed, or took too long.
        """
        try:
            await asyncio.wait_for(self._lock.acquire(), self._limit)
        except TimeoutError:
            why = "the solver is at work for others; try again in a moment"
            raise RefusedError(503, why) from None
        limit = self._limit if self._worker.is_running else self._limit + _TO_START
        answer = self._worker.submit(function, *arguments)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), limit)
        except TimeoutError:
            raise MnoError(f"the solver took longer than {limit:g} s and was ended") from None
        except LostError:
            raise MnoError("the solver's process ended; try again") from None
        except MnoError as error:
            line = first_line(error).removeprefix(f"{PARAMS_FILE}: ")
            raise (InputError if isinstance(error, InputError) else MnoError)(line) from None
        except Exception as error:  # whatever a scenario may do
            raise MnoError(f"the solver failed: {first_line(error)}") from None
        finally:
            whole = answer.done() and not answer.cancelled()
            if not whole or isinstance(answer.exception(), LostError):
                self.close()  # also where whoever asked has gone: half an answer is of no use
            self._lock.release()

    def close(self) -> None:
        """End the process, if there is one."""
        self._worker.end()
