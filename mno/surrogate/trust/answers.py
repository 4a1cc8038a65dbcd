"""What is written beside each prediction: bounds, residual and flag; and the solver's answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.scenarios.base import StartsFromGuess, make_scenario, other_plant
from mno.scenarios.part import part_of
from mno.surrogate.description import Description
from mno.surrogate.trust.bounds import MEASURES, as_told
from mno.surrogate.trust.trust import Assessment, Trust

Arrays = Mapping[str, np.ndarray]


class Fallback:
    """The solver that a model's dataset was made with, in place of the model where that is asked.

    It answers what is unlike the training data, and from a bound on the relative L2 error on that
    is `above` this fraction; it counts what it has done. `shape` is the grid of the inputs or the
    number of their points; `steps` are the frames of states to predict, those of the description if
    not given. An `InputError` says that there is no solver, or none on that grid or for so long.
    """

    def __init__(
        self,
        trust: Trust,
        description: Description,
        shape: tuple[int, ...],
        steps: int | None,
        above: float | None = None,
    ) -> None:
        if trust.no_solver is not None or trust.resolution is None:
            why = trust.no_solver or "the dataset does not record what it was solved at"
            raise InputError(f"--fallback solver: {why}; leave the option out")
        resolution = trust.resolution
        if shape != trust.shape:  # of unordered points there are as many as in a square
            resolution = math.isqrt(shape[0]) if description.coordinates else shape[0]
        try:
            made = make_scenario(trust.scenario, resolution, trust.parameters)
            other = other_plant(made, trust.parameters, trust.plant)
            scenario = part_of(made, description.part)
            scenario.compile()
        except MnoError as error:
            raise InputError(
                f"--fallback solver: the solver cannot solve on {shape}: {first_line(error)}"
            ) from None
        if other:
            raise InputError(f"--fallback solver: {other}")
        sizes = {axis.name: len(axis.points) for axis in scenario.axes}
        self._frames = sizes.pop("time", 0)
        if tuple(sizes.values()) != shape:
            raise InputError(
                f"--fallback solver: the solver of {trust.scenario} works on "
                f"{tuple(sizes.values())}, but the inputs have {shape}; give it such inputs, or "
                "leave the option out"
            )
        forecast = description.forecast
        self._steps = (steps or forecast.steps) if forecast else None
        if forecast and (steps or forecast.steps) > self._frames - forecast.history:
            raise InputError(
                f"--fallback solver: the solver gives {self._frames - forecast.history} frames "
                f"after the first {forecast.history}, but {self._steps} are to be predicted; ask "
                "for fewer --steps"
            )
        self._scenario, self._description, self._above = scenario, description, above
        self.solved = 0
        self.failures: Counter[str] = Counter()  # samples that it could not solve, by reason

    def wanted(self, assessment: Assessment) -> np.ndarray:
        """Return which samples the solver is to answer, shape `(samples,)`, boolean."""
        wanted = assessment.unlike_training
        return wanted if self._above is None else wanted | (assessment.relative_bound > self._above)

    def answer(self, given: Arrays, predicted: Arrays) -> dict[str, np.ndarray] | None:
        """Solve one sample, from its prediction if the solver iterates; none if it cannot."""
        inputs, scenario = {n: self._as_drawn(n, v) for n, v in given.items()}, self._scenario
        try:
            if isinstance(scenario, StartsFromGuess):
                solved, _ = scenario.solve_from(inputs, predicted)
            else:
                solved = scenario.solve(inputs)
        except MnoError as error:
            self.failures[first_line(error)] += 1
            return None
        self.solved += 1
        states, forecast = self._description.states, self._description.forecast
        first = forecast.history if forecast else 0
        found = {n: solved[n][..., : field.shape[-1]] for n, field in predicted.items()}
        return {n: a[first:][: self._steps] if n in states else a for n, a in found.items()}

    def _as_drawn(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return an input as the scenario draws it: of states the first frame, forcings whole."""
        if name in self._description.states:
            return values[0]
        if name in self._description.forcings:
            beyond = [values[-1:]] * max(0, self._frames - len(values))
            return np.concatenate([values, *beyond])[: self._frames]
        return values


_FLAG = np.int8


class Answers:
    """Completes predictions batch by batch, and adds up what was found; see `summary`.

    With a fallback, the solver answers what is flagged.
    """

    def __init__(
        self, trust: Trust, description: Description, fallback: Fallback | None = None
    ) -> None:
        self._trust, self._description, self._fallback = trust, description, fallback
        self._flagged: Counter[str] = Counter()
        self._bounds: list[np.ndarray] = []
        self._by_field: dict[str, list[np.ndarray]] = {}
        self._residuals: list[np.ndarray] = []
        self._shape: tuple[int, ...] = trust.shape

    @property
    def attributes(self) -> dict[str, dict[str, Any]]:
        """Units and meaning of the arrays beside the predicted fields, by name."""
        trust, outputs = self._trust, self._description.outputs
        comment = (
            f"holds for {100 * trust.level:g} % of predictions of inputs like the training data; "
            "inf where there is none, NaN where the solver answered"
        )
        bounds = {}
        for name, measures in trust.bounds.items():
            for kind in measures:
                units = outputs[name] if MEASURES[kind].physical else "1"
                said = f"bound on the {MEASURES[kind].words} of {name}"
                about = {"units": units, "long_name": said, "comment": comment}
                bounds[f"{name}_{kind}_bound"] = about
        residual = "norm of the residual in the equation, relative to its source or size"
        features = [name.replace(" ", "_") for name in trust.likeness.names]
        return {
            **bounds,
            "equation_residual": {"units": "1", "long_name": residual},
            "training_distance": {
                "units": "1",
                "long_name": "distance of the input from the training data",
                "comment": f"flagged beyond {trust.likeness.threshold}",
            },
            "unlike_training": _flags("whether the input is unlike the training data", "no", "yes"),
            "most_unusual": _flags("the input's most unusual feature", *features),
            "answered_by": _flags("what the fields are from", "model", "solver"),
        }

    def complete(
        self, given: Arrays, predicted: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Judge a batch of predictions, and let the solver take the place of some.

        Returned are the fields to keep, and the arrays beside them, `(samples, *frames)` by name.
        """
        trust, description = self._trust, self._description
        found = trust.assess(description, given, predicted)
        solved, fields = self._solved(found, given, predicted)
        residual = trust.assess(description, given, fields).residual if solved.any() else None
        residual = found.residual if residual is None else residual
        beside: dict[str, np.ndarray] = {
            "training_distance": found.distance,
            "unlike_training": found.unlike_training.astype(_FLAG),
            "most_unusual": found.most_unusual.astype(np.int16),
        }
        for name, bound in as_told(found.bounds, description.timed).items():
            beside[name] = np.where(solved if bound.ndim == 1 else solved[:, None], np.nan, bound)
        if trust.no_residual is None:
            unknown = np.full(len(found.distance), np.nan)
            beside["equation_residual"] = unknown if isinstance(residual, Absent) else residual
        if self._fallback:
            beside["answered_by"] = solved.astype(_FLAG)

        names = trust.likeness.names
        self._flagged.update(names[k] for k in found.most_unusual[found.unlike_training])
        self._bounds.append(found.relative_bound)
        for name, bounds in found.bounds.items():
            self._by_field.setdefault(name, []).append(bounds["relative_l2"][:, 0])
        if not isinstance(found.residual, Absent):
            self._residuals.append(found.residual)
        some = given[next(iter(description.fields))]
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
        `typical_relative_bounds` (by field; the median, none where there is no bound),
        `typical_residual` (the median; none without residuals), `notes`, and with a solver
        `solved` and `not_solved` (samples by reason).
        """
        bounds = np.concatenate(self._bounds) if self._bounds else np.empty(0)
        residuals = np.concatenate(self._residuals) if self._residuals else np.empty(0)
        typical = {n: _finite_median(np.concatenate(parts)) for n, parts in self._by_field.items()}
        summary: dict[str, Any] = {
            "unlike_training": sum(self._flagged.values()),
            "most_unusual": dict(self._flagged.most_common()),
            "level": self._trust.level,
            "typical_relative_bounds": typical,
            "typical_residual": _finite_median(residuals),
            "notes": self._notes(bounds),
        }
        if fallback := self._fallback:
            summary |= {"solved": fallback.solved, "not_solved": dict(fallback.failures)}
        return summary

    def _notes(self, bounds: np.ndarray) -> list[str]:
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
            notes.append("inputs unlike the training data are not flagged: no sample tells them")
        return notes + ([trust.no_residual] if trust.no_residual else [])


def _finite_median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _flags(long_name: str, *meanings: str) -> dict[str, Any]:
    numbers = list(range(len(meanings)))
    flags = {"flag_values": numbers, "flag_meanings": " ".join(meanings)}
    return {"units": "1", "long_name": long_name, **flags}
