"""What is written beside each prediction: bounds, residual and flag; and the solver's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.surrogate.description import Description
from mno.surrogate.predictions import Variable
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.answers import Fallback
from mno.surrogate.trust.trust import Assessment, Trust

Arrays = Mapping[str, np.ndarray]

_FLAG = np.int8


class Answers:
    """Completes predictions batch by batch, and adds up what was found; see `summary`.

    It is what `mno.surrogate.predictions.predict_store` takes as its companion.

    Args:
        trust: Of the model.
        description: Of the model.
        fallback: Solves what is flagged; none if the model is to answer all.
    """

    def __init__(
        self, trust: Trust, description: Description, fallback: Fallback | None = None
    ) -> None:
        self._trust, self._description, self._fallback = trust, description, fallback
        self._flagged: Counter[str] = Counter()
        self._samples = 0
        self._bounds: list[np.ndarray] = []
        self._residuals: list[np.ndarray] = []
        self._shape: tuple[int, ...] = trust.shape

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The arrays beside the predicted fields."""
        trust, description = self._trust, self._description
        found = []
        for name, bounds in trust.bounds.items():
            for kind in bounds:
                measure = MEASURES[kind]
                timed = measure.by_frame and name in description.states
                found.append(
                    Variable(
                        f"{name}_{kind}_bound",
                        ("time",) if timed else (),
                        np.dtype(np.float32),
                        {
                            "units": description.outputs[name] if measure.physical else "1",
                            "long_name": f"bound on the {measure.words} of {name}",
                            "comment": f"holds for {trust.level:.0%} of predictions of inputs like "
                            "the training data; inf where there is none, NaN where the solver "
                            "answered",
                        },
                    )
                )
        if trust.no_residual is None:
            words = "norm of the residual in the equation, relative to its source or size"
            number = {"units": "1", "long_name": words}
            found.append(Variable("equation_residual", (), np.dtype(np.float32), number))
        names = [name.replace(" ", "_") for name in trust.likeness.names]
        distance = {
            "units": "1",
            "long_name": "distance of the input from the training data",
            "comment": f"flagged beyond {trust.likeness.threshold}",
        }
        found += [
            Variable("training_distance", (), np.dtype(np.float32), distance),
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

        Args:
            given: What the model was given, `(samples, *dims)` by name.
            predicted: What it predicted.

        Returns:
            The fields to keep, and the arrays of `variables`, by name.
        """
        trust, description = self._trust, self._description
        found = trust.assess(description, given, predicted)
        solved, fields = self._solved(found, given, predicted)
        residual = found.residual
        if solved.any() and not isinstance(residual, str):
            again = trust.assess(description, given, fields).residual
            residual = again if not isinstance(again, str) else residual
        beside: dict[str, np.ndarray] = {
            "training_distance": found.distance,
            "unlike_training": found.unlike_training.astype(_FLAG),
            "most_unusual": found.most_unusual.astype(np.int16),
        }
        for name, bounds in found.bounds.items():
            for kind, bound in bounds.items():
                timed = MEASURES[kind].by_frame and name in description.states
                values = np.where(solved[:, None], np.nan, bound)
                beside[f"{name}_{kind}_bound"] = values if timed else values[:, 0]
        if trust.no_residual is None:
            unknown = np.full(len(found.distance), np.nan)
            beside["equation_residual"] = unknown if isinstance(residual, str) else residual
        if self._fallback:
            beside["answered_by"] = solved.astype(_FLAG)
        self._add(found, fields)
        return fields, beside

    def _solved(
        self, found: Assessment, given: Arrays, predicted: Arrays
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return which samples the solver answered, and the fields with its answers."""
        solved = np.zeros(len(found.distance), dtype=bool)
        fields = dict(predicted)
        if self._fallback is None or not (wanted := self._fallback.wanted(found)).any():
            return solved, fields
        fields = {name: values.copy() for name, values in predicted.items()}
        for sample in np.flatnonzero(wanted):
            answer = self._fallback.answer(
                {name: values[sample] for name, values in given.items()},
                {name: values[sample] for name, values in predicted.items()},
            )
            if answer is None:
                continue
            solved[sample] = True
            for name, values in answer.items():
                fields[name][sample] = values
        return solved, fields

    def _add(self, found: Assessment, fields: Arrays) -> None:
        names = self._trust.likeness.names
        self._flagged.update(names[k] for k in found.most_unusual[found.unlike_training])
        self._samples += len(found.distance)
        self._bounds.append(found.relative_bound)
        if not isinstance(found.residual, str):
            self._residuals.append(found.residual)
        some = fields[next(iter(self._description.outputs))]
        self._shape = some.shape[some.ndim - len(self._description.space) :]

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
        finite = bounds[np.isfinite(bounds)]
        residuals = np.concatenate(self._residuals) if self._residuals else np.empty(0)
        residuals = residuals[np.isfinite(residuals)]
        summary: dict[str, Any] = {
            "unlike_training": sum(self._flagged.values()),
            "most_unusual": dict(self._flagged.most_common()),
            "level": self._trust.level,
            "typical_relative_bound": float(np.median(finite)) if len(finite) else None,
            "typical_residual": float(np.median(residuals)) if len(residuals) else None,
            "notes": self._notes(bounds),
        }
        if self._fallback:
            tally = self._fallback.tally
            both = bool(tally.iterations)
            summary |= {
                "solved": tally.solved,
                "not_solved": tally.failures,
                "iterations": float(np.mean(tally.iterations)) if both else None,
                "iterations_from_zero": (
                    float(np.mean(tally.iterations_from_zero)) if both else None
                ),
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
        if trust.no_residual:
            notes.append(trust.no_residual)
        return notes


def _flags(name: str, long_name: str, meanings: str) -> Variable:
    numbers = list(range(len(meanings.split())))
    attributes = {
        "units": "1",
        "long_name": long_name,
        "flag_values": numbers,
        "flag_meanings": meanings,
    }
    dtype = np.dtype(_FLAG) if len(numbers) <= 2 else np.dtype(np.int16)
    return Variable(name, (), dtype, attributes)
