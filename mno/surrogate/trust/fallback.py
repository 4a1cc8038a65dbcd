"""The scenario's own solver, which answers where a prediction is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mno.core.errors import InputError, MnoError, first_line
from mno.scenarios.base import Scenario, StartsFromGuess, make_scenario
from mno.surrogate.description import Description
from mno.surrogate.trust.trust import Assessment, Trust

Arrays = Mapping[str, np.ndarray]

_COMPARED = 10  # samples that are also solved from zero, to know what the predictions have saved


@dataclass
class Tally:
    """What the solver has done so far.

    Attributes:
        solved: Samples it answered.
        failures: How many it could not solve, by reason.
        iterations: From the predictions, of each sample that was also solved from zero.
        iterations_from_zero: Of the same samples.
    """

    solved: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    iterations: list[int] = field(default_factory=list)
    iterations_from_zero: list[int] = field(default_factory=list)


class Fallback:
    """A solver that takes the place of a model; see `fallback_to`.

    Args:
        scenario: Solves at the grid of the inputs.
        description: Of the model.
        steps: Frames of states that are predicted; none without states.
        above: Bound on the relative L2 error from which on the solver answers, too, as a fraction.
    """

    def __init__(
        self, scenario: Scenario, description: Description, steps: int | None, above: float | None
    ) -> None:
        self._scenario, self._description = scenario, description
        self._steps, self._above = steps, above
        self._frames = next((len(a.points) for a in scenario.axes if a.name == "time"), 0)
        self.tally = Tally()

    def wanted(self, assessment: Assessment) -> np.ndarray:
        """Return which samples the solver is to answer, shape `(samples,)`, boolean."""
        wanted = assessment.unlike_training
        return wanted if self._above is None else wanted | (assessment.relative_bound > self._above)

    def answer(self, given: Arrays, predicted: Arrays) -> dict[str, np.ndarray] | None:
        """Solve one sample, starting from its prediction where the solver iterates.

        Args:
            given: What the model was given, one sample's arrays by name.
            predicted: What it predicted.

        Returns:
            The same fields as predicted; none where the solver cannot solve it, as the tally says.
        """
        inputs = {name: self._as_drawn(name, values) for name, values in given.items()}
        try:
            solved = self._solve(inputs, predicted)
        except MnoError as error:
            reason = first_line(error)
            self.tally.failures[reason] = self.tally.failures.get(reason, 0) + 1
            return None
        self.tally.solved += 1
        whole = {name: solved[name][None] for name in predicted}
        later = self._description.truth(whole)
        states = self._description.states
        return {n: later[n][0][: self._steps] if n in states else later[n][0] for n in predicted}

    def _as_drawn(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return an input as the scenario draws it: of states the first frame, forcings whole."""
        if name in self._description.states:
            return values[0]
        if name in self._description.forcings:
            beyond = [values[-1:]] * max(0, self._frames - len(values))
            return np.concatenate([values, *beyond])[: self._frames]
        return values

    def _solve(self, inputs: Arrays, guess: Arrays) -> dict[str, np.ndarray]:
        scenario, tally = self._scenario, self.tally
        if not isinstance(scenario, StartsFromGuess):
            return scenario.solve(inputs)
        solved, iterations = scenario.solve_from(inputs, guess)
        if len(tally.iterations) < _COMPARED:
            _, from_zero = scenario.solve_from(inputs, None)
            tally.iterations.append(iterations)
            tally.iterations_from_zero.append(from_zero)
        return solved


def fallback_to(
    trust: Trust,
    description: Description,
    shape: tuple[int, ...],
    steps: int | None,
    above: float | None = None,
) -> Fallback:
    """Return the solver that a model's dataset was made with, at the grid of some inputs.

    Args:
        trust: Of the model; it knows the scenario and its parameters.
        description: Of the model.
        shape: Grid of the inputs, or number of their points.
        steps: Frames of states to predict; those of the description if not given.
        above: Bound on the relative L2 error from which on the solver answers, too, as a fraction.

    Raises:
        InputError: There is no solver, or it does not solve on that grid or for so many frames.
    """
    if trust.no_solver is not None or trust.resolution is None:
        why = trust.no_solver or "the dataset does not record what it was solved at"
        raise InputError(f"--fallback solver: {why}; leave the option out")
    resolution = trust.resolution
    if shape != trust.shape:  # of unordered points there are as many as in a square
        resolution = math.isqrt(shape[0]) if description.coordinates else shape[0]
    try:
        scenario = make_scenario(trust.scenario, resolution, trust.parameters)
        scenario.compile()
    except MnoError as error:
        raise InputError(
            f"--fallback solver: the solver cannot solve on {shape}: {first_line(error)}"
        ) from None
    solved = tuple(len(axis.points) for axis in scenario.axes if axis.name != "time")
    if solved != shape:
        raise InputError(
            f"--fallback solver: the solver of {trust.scenario} works on {solved}, but the inputs "
            f"have {shape}; give it such inputs, or leave the option out"
        )
    forecast = description.forecast
    if forecast is None:
        return Fallback(scenario, description, None, above)
    wanted = steps or forecast.steps
    frames = next(len(axis.points) for axis in scenario.axes if axis.name == "time")
    if wanted > frames - forecast.history:
        raise InputError(
            f"--fallback solver: the solver gives {frames - forecast.history} frames after the "
            f"first {forecast.history}, but {wanted} are to be predicted; ask for fewer --steps"
        )
    return Fallback(scenario, description, wanted, above)
