"""What is written beside each prediction: bounds, residual and flag; and the solver's answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.scenarios.base import Scenario, StartsFromGuess, make_scenario
from mno.surrogate.description import Description
from mno.surrogate.predictions import Variable
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.trust import Assessment, Trust

Arrays = Mapping[str, np.ndarray]

_COMPARED = 10  # samples that are also solved from zero, to know what the predictions have saved


class Fallback:
    """A solver that takes the place of a model, and counts what it has done; see `fallback_to`."""

    def __init__(
        self, scenario: Scenario, description: Description, steps: int | None, above: float | None
    ) -> None:
        self._scenario, self._description = scenario, description
        self._steps, self._above = steps, above
        self._frames = next((len(a.points) for a in scenario.axes if a.name == "time"), 0)
        self.solved = 0
        self.failures: Counter[str] = Counter()  # samples that it could not solve, by reason
        self.iterations: list[tuple[int, int]] = []  # from predictions, and of the same from zero

    def wanted(self, assessment: Assessment) -> np.ndarray:
        """Return which samples the solver is to answer, shape `(samples,)`, boolean."""
        wanted = assessment.unlike_training
        return wanted if self._above is None else wanted | (assessment.relative_bound > self._above)

    def answer(self, given: Arrays, predicted: Arrays) -> dict[str, np.ndarray] | None:
        """Solve one sample, starting from its prediction where the solver iterates.

        Returns:
            The same fields as predicted; none where the solver cannot solve it.
        """
        inputs = {name: self._as_drawn(name, values) for name, values in given.items()}
        try:
            solved = self._solve(inputs, predicted)
        except MnoError as error:
            self.failures[first_line(error)] += 1
            return None
        self.solved += 1
        later = self._description.truth({name: solved[name][None] for name in predicted})
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
        if not isinstance(self._scenario, StartsFromGuess):
            return self._scenario.solve(inputs)
        solved, iterations = self._scenario.solve_from(inputs, guess)
        if len(self.iterations) < _COMPARED:
            self.iterations.append((iterations, self._scenario.solve_from(inputs, None)[1]))
        return solved


def fallback_to(
    trust: Trust,
    description: Description,
    shape: tuple[int, ...],
    steps: int | None,
    above: float | None = None,
) -> Fallback:
    """Return the solver that a model's dataset was made with, at the grid of some inputs.

    It answers what is unlike the training data, and from a bound on the relative L2 error on that
    is `above` this fraction. `shape` is the grid of the inputs or the number of their points;
    `steps` are the frames of states to predict, those of the description if not given.

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


_FLAG = np.int8


class Answers:
    """Completes predictions batch by batch, and adds up what was found; see `summary`.

    It is what `mno.surrogate.predictions.predict_store` takes as its companion. With a fallback,
    the solver answers what is flagged.
    """

    def __init__(
        self, trust: Trust, description: Description, fallback: Fallback | None = None
    ) -> None:
        self._trust, self._description, self._fallback = trust, description, fallback
        self._flagged: Counter[str] = Counter()
        self._bounds: list[np.ndarray] = []
        self._residuals: list[np.ndarray] = []
        self._shape: tuple[int, ...] = trust.shape

    def _has_frames(self, name: str, kind: str) -> bool:
        return MEASURES[kind].by_frame and name in self._description.states

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The arrays beside the predicted fields."""
        trust = self._trust
        found = [
            Variable(
                f"{name}_{kind}_bound",
                self._description.outputs[name] if MEASURES[kind].physical else "1",
                f"bound on the {MEASURES[kind].words} of {name}",
                {
                    "comment": f"holds for {trust.level:.0%} of predictions of inputs like the "
                    "training data; inf where there is none, NaN where the solver answered"
                },
                ("time",) if self._has_frames(name, kind) else (),
            )
            for name, bounds in trust.bounds.items()
            for kind in bounds
        ]
        if trust.no_residual is None:
            words = "norm of the residual in the equation, relative to its source or size"
            found.append(Variable("equation_residual", "1", words))
        names = [name.replace(" ", "_") for name in trust.likeness.names]
        comment = {"comment": f"flagged beyond {trust.likeness.threshold}"}
        words = "distance of the input from the training data"
        found += [
            Variable("training_distance", "1", words, comment),
            _flags("unlike_training", "whether the input is unlike the training data", "no yes"),
            _flags("most_unusual", "the input's most unusual feature", " ".join(names)),
        ]
        if self._fallback:
            found.append(_flags("answered_by", "what the fields are from", "model solver"))
        return tuple(found)

    def complete(
        self, given: Arrays, predicted: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Judge a batch of predictions, and let the solver take the place of some.

        Returns:
            The fields to keep, and the arrays of `variables`, by name.
        """
        trust, description = self._trust, self._description
        found = trust.assess(description, given, predicted)
        solved, fields = self._solved(found, given, predicted)
        residual = found.residual
        if solved.any() and not isinstance(residual, Absent):
            again = trust.assess(description, given, fields).residual
            residual = residual if isinstance(again, Absent) else again
        beside: dict[str, np.ndarray] = {
            "training_distance": found.distance,
            "unlike_training": found.unlike_training.astype(_FLAG),
            "most_unusual": found.most_unusual.astype(np.int16),
        }
        for name, bounds in found.bounds.items():
            for kind, bound in bounds.items():
                values = np.where(solved[:, None], np.nan, bound)
                timed = self._has_frames(name, kind)
                beside[f"{name}_{kind}_bound"] = values if timed else values[:, 0]
        if trust.no_residual is None:
            unknown = np.full(len(found.distance), np.nan)
            beside["equation_residual"] = unknown if isinstance(residual, Absent) else residual
        if self._fallback:
            beside["answered_by"] = solved.astype(_FLAG)

        names = trust.likeness.names
        self._flagged.update(names[k] for k in found.most_unusual[found.unlike_training])
        self._bounds.append(found.relative_bound)
        if not isinstance(found.residual, Absent):
            self._residuals.append(found.residual)
        some = fields[next(iter(description.outputs))]
        self._shape = some.shape[some.ndim - len(description.space) :]
        return fields, beside

    def _solved(
        self, found: Assessment, given: Arrays, predicted: Arrays
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return which samples the solver answered, and the fields with its answers."""
        solved = np.zeros(len(found.distance), dtype=bool)
        if self._fallback is None or not (wanted := self._fallback.wanted(found)).any():
            return solved, dict(predicted)
        fields = {name: values.copy() for name, values in predicted.items()}
        for sample in np.flatnonzero(wanted):
            answer = self._fallback.answer(
                {name: values[sample] for name, values in given.items()},
                {name: values[sample] for name, values in predicted.items()},
            )
            solved[sample] = answer is not None
            for name, values in (answer or {}).items():
                fields[name][sample] = values
        return solved, fields

    def summary(self) -> dict[str, Any]:
        """Return what was found, as JSON takes it.

        `unlike_training` (samples), `most_unusual` (samples by feature), `level`,
        `typical_relative_bound` (the median; none where there is no bound),
        `typical_residual` (the median; none without residuals), `notes`, and with a solver
        `solved`, `not_solved` (samples by reason), `iterations` and `iterations_from_zero` (means
        over the samples that were solved both ways; none where the solver does not iterate from a
        guess).
        """
        bounds = np.concatenate(self._bounds) if self._bounds else np.empty(0)
        residuals = np.concatenate(self._residuals) if self._residuals else np.empty(0)
        summary: dict[str, Any] = {
            "unlike_training": sum(self._flagged.values()),
            "most_unusual": dict(self._flagged.most_common()),
            "level": self._trust.level,
            "typical_relative_bound": _finite_median(bounds),
            "typical_residual": _finite_median(residuals),
            "notes": self._notes(bounds),
        }
        if fallback := self._fallback:
            means = np.mean(fallback.iterations, axis=0).tolist() if fallback.iterations else None
            summary |= {
                "solved": fallback.solved,
                "not_solved": dict(fallback.failures),
                "iterations": means and means[0],
                "iterations_from_zero": means and means[1],
            }
        return summary

    def _notes(self, bounds: np.ndarray) -> list[str]:
        """Return what limits the figures, one line each."""
        trust, notes = self._trust, []
        if self._shape != trust.shape:
            here, there = (" x ".join(map(str, s)) for s in (self._shape, trust.shape))
            notes.append(f"bounds were calibrated on {there}; these inputs are on {here}")
        without = int((~np.isfinite(bounds)).sum())
        if without:
            reason = "the prediction is not finite, or the bound was not calibrated for it"
            if all(b.values[0] is None for f in trust.bounds.values() for b in f.values()):
                reason = "the validation split is too small, or predictions on it are not finite"
            notes.append(f"{without} of {len(bounds)} predictions have no error bound: {reason}")
        if trust.likeness.threshold is None:
            notes.append("inputs unlike the training data are not flagged: no validation sample")
        return notes + ([trust.no_residual] if trust.no_residual else [])


def _finite_median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _flags(name: str, long_name: str, meanings: str) -> Variable:
    numbers = list(range(len(meanings.split())))
    attributes = {"flag_values": numbers, "flag_meanings": meanings}
    dtype = np.dtype(_FLAG) if len(numbers) <= 2 else np.dtype(np.int16)
    return Variable(name, "1", long_name, attributes, dtype=dtype)
