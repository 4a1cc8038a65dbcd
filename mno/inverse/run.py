"""A run that is asked about in two ways: by a model, with its gradients, and by the solver."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.fields import LOG
from mno.core.readings import Layout, from_points
from mno.evaluation.solver import solver_of
from mno.inverse.solving import Solvers, solve_all
from mno.scenarios.part import PartOfScenario
from mno.sensors.inputs import RunInputs, read_whole
from mno.surrogate.surrogate import Surrogate


class Run:
    """What a model and the solver say of a run, of which some inputs take other values.

    These are named arrays as the dataset has them, in physical units. Both answer what the model
    predicts, at its points, `(samples, *dims)` by name.

    Attributes:
        told: What the model is given of the run, and when its frames are.
        inputs: The same, as the dataset has it, `(1, …)` by name.
        solver: The scenario that solves the run, or why there is none.
        solvers: Where it is solved.
    """

    def __init__(self, surrogate: Surrogate, given: RunInputs) -> None:
        self.surrogate, self.told = surrogate, given
        self.solvers = Solvers()
        self.steps, self.origin = given.steps, given.origin
        arrays, _ = surrogate.at_points(given.inputs, given.steps)
        self.given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        description = surrogate.description
        self.inputs = from_points(description.readings, arrays, description.cells)
        self.solver = self._solver()

    def asked(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the model is given where some inputs have values of their own."""
        count = len(next(iter(own.values())))
        given = {n: a.expand(count, *a.shape[1:]) for n, a in self.given.items()}
        for name, values in own.items():
            given[name] = self._at_points(name, values.float(), given[name])
        return given

    def predicted(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the model predicts, with gradients by inputs of its own, `(samples, …)`."""
        return self.surrogate.answers(self.surrogate.operator, self.asked(own), self.steps)

    def _at_points(self, name: str, values: Tensor, given: Tensor) -> Tensor:
        """Return values of an input where the model has them, of the frames that it is given."""
        if place := self.surrogate.description.readings.get(name):
            values = values.reshape(*values.shape[: given.ndim - 1], place[2] - place[1])
        if given.ndim > 1:
            values = values[:, : given.shape[1]]
        if not place:
            return values
        found = given.clone()
        found[..., place[1] : place[2]] = values
        return found

    def solved(self, own: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Tensor] | None]:
        """Return the solver's answers, of one sample each, `(1, …)`; none where it refuses."""
        layout, solver = None, self.solver
        if isinstance(solver, PartOfScenario):
            layout, solver = solver.layout, solver.whole
        runs = [self.whole | {n: np.asarray(v, np.float32) for n, v in one.items()} for one in own]
        return [
            None if found is None
            else self._later(layout.of(found, stacked=False) if layout else found)
            for found in solve_all(solver, runs, self.solvers)
        ]  # fmt: skip

    @cached_property
    def whole(self) -> dict[str, np.ndarray]:
        """What the solver is given of the run, as the dataset has it."""
        assert self.origin is not None
        return read_whole(self.origin)

    def check_scale(self, name: str, can_be_zero: bool) -> None:
        """Refuse what may be 0 or less of an input of which the model takes the logarithm."""
        if can_be_zero and self.surrogate.description.normaliser.scale(name) == LOG:
            raise InputError(
                f"{name} may be 0 or less, and the model takes its logarithm; expected loguniform, "
                "lognormal, or a range above 0"
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an input, with all its frames."""
        return self.whole[name].shape if self.origin else self.inputs[name].shape[1:]

    def places(self, name: str) -> np.ndarray:
        """Return the numbers of the places in a flat prediction, of a time, that the run has."""
        description = self.surrogate.description
        if name in description.states:
            there = torch.isfinite(self.given[name][0, -1].flatten()).numpy()
        else:
            some = self.given[description.fields[0]]
            there = np.ones(math.prod(some.shape[some.ndim - len(description.space) :]), dtype=bool)
        if name in description.readings:
            _, first, last = description.readings[name]
            there[:first] = there[last:] = False
        return np.flatnonzero(there)

    def place_named(self, name: str, place: int) -> str:
        """Return what a place is called, or where it is."""
        description = self.surrogate.description
        if name in description.readings:
            return description.places(name)[place - description.readings[name][1]]
        if self.told.points is not None:
            at = self.told.points[place]
        else:
            index = np.unravel_index(place, [len(axis.points) for axis in self.told.axes])
            at = [axis.points[i] for axis, i in zip(self.told.axes, index, strict=True)]
        pairs = zip(self.told.axes, at, strict=True)
        return ", ".join(f"{axis.name} {value:.3g}" for axis, value in pairs)

    def times(self, frames: int) -> np.ndarray:
        """Return when so many frames are, those given first."""
        forecast, start = self.surrogate.description.forecast, self.told.times
        interval = forecast.interval if forecast else 1.0
        return (start[0] if len(start) else 0.0) + interval * np.arange(frames)

    @property
    def later(self) -> np.ndarray:
        """When the predicted frames are; there are none of what has no time."""
        if (forecast := self.surrogate.description.forecast) is None:
            return np.empty(0)
        return self.times(forecast.history + (self.steps or forecast.steps))[forecast.history :]

    def _solver(self) -> Any:
        if self.origin is None:
            return Absent("solver.run_not_recorded", {"run": "the run"})
        schema, part = self.origin.schema, self.surrogate.description.part
        axes = Layout(part, schema.fields, schema.axes).axes
        return solver_of(replace(schema, axes=axes, part=part))

    def _later(self, solved: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Return what the model predicts of what was solved."""
        description = self.surrogate.description
        found = {name: torch.from_numpy(solved[name])[None] for name in description.outputs}
        if forecast := description.forecast:
            steps = self.steps or forecast.steps
            for name in description.states:
                found[name] = found[name][:, forecast.history : forecast.history + steps]
        return found
