"""How far a single prediction may be trusted: what was calibrated, and what it says of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.errors import InputError, first_line
from mno.data.reading import Schema
from mno.scenarios.residuals import residual_names, residual_of
from mno.surrogate.description import Description
from mno.surrogate.trust.bounds import (
    Scale,
    coverage_interval,
    expected_coverage,
    samples_needed,
    size,
)
from mno.surrogate.trust.out_of_distribution import OutOfDistribution, describe

Arrays = Mapping[str, np.ndarray]


class Equation:
    """A scenario's equation, into which predictions are put; see `equation_of`.

    Args:
        description: Of the model that predicts.
        parameters: The scenario's own; those that are numbers may stand in the equation.
    """

    def __init__(self, description: Description, parameters: Mapping[str, Any]) -> None:
        self._description = description
        self._schema = Schema(description.scenario, (), (), parameters=parameters)

    def residual(self, given: Arrays, predicted: Arrays) -> np.ndarray | str:
        """Return the norm of each prediction's residual, relative to the equation's source or size.

        Args:
            given: What the model was given, in physical units, `(samples, *dims)` by name.
            predicted: What it predicted of it.

        Returns:
            Shape `(samples,)`, nondimensional; NaN where the prediction is. Or, in one line, why
            the equation has no residual on this grid.
        """
        description = self._description
        whole = {**given, **predicted}
        for name in description.states:
            whole[name] = np.concatenate([given[name], predicted[name]], axis=1)
        for name in description.forcings:  # as long as the states; the last is not looked at
            frames = whole[description.states[0]].shape[1]
            whole[name] = np.concatenate([given[name], given[name][:, -1:]], axis=1)[:, :frames]
        found = equation_residual(description, self._schema, whole)
        return f"no equation residual: {found}" if isinstance(found, Absent) else found


def equation_of(
    description: Description, parameters: Mapping[str, Any], imported: bool
) -> Equation | str:
    """Return the equation of a model's scenario; or, in one line, why none can be put to use.

    Args:
        description: Of the model.
        parameters: The scenario's own, which the dataset was made with.
        imported: Whether the dataset was imported.
    """
    name = description.scenario
    if imported:
        return f"no equation residual for imported data ({name})"
    if name not in residual_names():
        return f"no equation residual: none is written for {name}"
    if description.gaps:
        return f"no equation residual: {', '.join(description.gaps)} may have missing values"
    if description.coordinates:
        return "no equation residual on unordered points"
    return Equation(description, parameters)


def equation_residual(
    description: Description, schema: Schema, fields: Arrays
) -> np.ndarray | Absent:
    """Return the norm of each sample's residual in torch, shape `(samples,)`.

    Args:
        description: Of the model; the residual over time begins with the last frame it is given.
        schema: The dataset's, whose scenario's parameters the equation has.
        fields: Whole fields in physical units, states with all frames.

    Returns:
        The residuals; or, in one line, why there are none.
    """
    if schema.scenario not in residual_names():
        return Absent("residual.none_written", {"scenario": schema.scenario})
    if description.coordinates:
        return Absent("residual.points")
    forecast = description.forecast
    first = forecast.history - 1 if forecast else 0
    timed = (*description.states, *description.forcings)
    known = {
        name: torch.from_numpy(values[:, first:] if name in timed else values).double()
        for name, values in fields.items()
    }
    numbers = {
        name: torch.tensor(float(value), dtype=torch.float64)
        for name, value in schema.parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    shape = tuple(known[description.fields[0]].shape[-len(description.extent) :])
    grid = description.grid(shape)
    if forecast:
        grid = grid.in_time(known[description.states[0]].shape[1], forecast.interval)
    try:
        with torch.inference_mode():
            return residual_of(schema.scenario)(known | numbers, grid).numpy()
    except ValueError as error:
        return Absent("residual.fails", {"error": str(error)})


class Rate(Config):
    """How many of some samples had what is counted.

    Attributes:
        count: How many.
        samples: Of how many.
        low: Lower end of the 95 % binomial interval of the rate.
        high: Upper end.
        expected: Range in which the rate lies in 95 % of all cases, where the sizes of the splits
            tell it.
    """

    count: int
    samples: int
    low: float
    high: float
    expected: tuple[float, float] | None = None

    @classmethod
    def of(cls, which: np.ndarray) -> Rate:
        """Count.

        Args:
            which: Shape `(samples,)`, boolean.
        """
        count, samples = int(which.sum()), len(which)
        low, high = coverage_interval(count, samples)
        return cls(count=count, samples=samples, low=low, high=high)

    @property
    def rate(self) -> float | None:
        """The share of the samples; none of no samples."""
        return self.count / self.samples if self.samples else None


class Pairs(Config):
    """Relative L2 errors of some test samples and the bounds on them; none where infinite.

    Attributes:
        error: Of each sample.
        bound: Likewise.
    """

    error: tuple[float | None, ...]
    bound: tuple[float | None, ...]


class Measured(Config):
    """What was found on samples that nothing was calibrated on.

    Attributes:
        coverage: Test samples whose error a bound held for: by field, by measure, of each frame;
            samples without a known truth do not count, and none is measured where there is no
            bound.
        false_alarms: Test samples that were flagged as unlike the training data.
        outside: Inputs from outside the training data that were flagged, by kind; the others are
            missed alarms.
        pairs: Errors and bounds of the first test samples, by field.
    """

    coverage: Mapping[str, Mapping[str, tuple[Rate | None, ...]]]
    false_alarms: Rate
    outside: Mapping[str, Rate]
    pairs: Mapping[str, Pairs]


def coverage(errors: np.ndarray, bounds: np.ndarray, calibrated_on: int, level: float) -> tuple[
    Rate | None, ...
]:  # fmt: skip
    """Count the samples whose error is within its bound.

    Args:
        errors: Shape `(samples, frames)`; NaN where no truth is known.
        bounds: Likewise; infinite where there is none.
        calibrated_on: Samples that the bounds were calibrated on.
        level: Of the bounds.

    Returns:
        The rate of each frame; none where no finite bound was given on a measured error.
    """
    rates = []
    for error, bound in zip(errors.T, bounds.T, strict=True):
        known = ~np.isnan(error)
        if not (known & np.isfinite(bound)).any() or calibrated_on < samples_needed(level):
            rates.append(None)
            continue
        held = Rate.of((error <= bound)[known])
        expected = expected_coverage(calibrated_on, held.samples, level)
        rates.append(held.model_copy(update={"expected": expected}))
    return tuple(rates)


def finite(values: np.ndarray) -> tuple[float | None, ...]:
    """Return numbers as JSON takes them, none for those that are infinite or not a number."""
    return tuple(float(v) if np.isfinite(v) else None for v in values)


FORMAT = 1
FILE = "trust.json"


class Bound(Config):
    """A bound on one measure of the error of one field.

    Attributes:
        scale: How the bound differs among predictions.
        values: The bound of each frame where the scale is 1, or one for all of a sample; none
            where the validation split does not give one.
        calibrated_on: Validation samples it was calibrated on; the scale was fitted to others.
    """

    scale: Scale
    values: tuple[float | None, ...]
    calibrated_on: int

    def of(self, signals: Arrays, frames: int) -> np.ndarray:
        """Return the bound on each prediction, shape `(samples, frames)`; infinite where none is.

        Args:
            signals: What is known of the predictions, by name.
            frames: How many there are; more than were calibrated have no bound.
        """
        samples = len(signals["distance"])
        values = [np.inf if value is None else value for value in self.values][:frames]
        values += [np.inf] * (frames - len(values))
        scale = self.scale.of(signals, samples)
        with np.errstate(invalid="ignore"):
            bounds = scale[:, None] * np.array(values)
        return np.where(np.isnan(bounds), np.inf, bounds)


@dataclass(frozen=True, eq=False)
class Assessment:
    """What is known of the predictions of some samples.

    Attributes:
        bounds: By field and measure, shape `(samples, frames)`, or `(samples, 1)` where there is
            one for all of a sample; infinite where there is none.
        residual: That each leaves in the equation, shape `(samples,)`; or why there is none.
        distance: Of the input from the training data, shape `(samples,)`.
        unlike_training: Whether that is too far, shape `(samples,)`, boolean.
        most_unusual: Number of the input's feature that is farthest, shape `(samples,)`.
    """

    bounds: Mapping[str, Mapping[str, np.ndarray]]
    residual: np.ndarray | str
    distance: np.ndarray
    unlike_training: np.ndarray
    most_unusual: np.ndarray

    @property
    def relative_bound(self) -> np.ndarray:
        """Bound on the relative L2 error, the largest of all fields; shape `(samples,)`."""
        return np.max([bounds["relative_l2"][:, 0] for bounds in self.bounds.values()], axis=0)


class Trust(Config):
    """What predictions of one model are judged by, calibrated on its validation split.

    Attributes:
        format: Of the file.
        model_sha256: Digest of the model that it belongs to.
        level: Share of predictions that a bound holds for.
        scenario: What the dataset was solved by.
        parameters: The scenario's own, in the dataset.
        resolution: Points along each space axis that the scenario was solved at, where it was.
        no_solver: Why there is no solver to fall back on; none if there is one.
        no_residual: Why predictions have no residual; none if they have one.
        shape: The grid of the dataset, or its number of points.
        steps: Frames that were predicted; none without states.
        bounds: By field and measure.
        likeness: What inputs were like in training.
        measured: What came of it on the test split and on inputs from outside.
    """

    format: Literal[1] = FORMAT
    model_sha256: str
    level: float
    scenario: str
    parameters: Mapping[str, Any]
    resolution: int | None
    no_solver: str | None
    no_residual: str | None
    shape: tuple[int, ...]
    steps: int | None
    bounds: Mapping[str, Mapping[str, Bound]]
    likeness: OutOfDistribution
    measured: Measured | None = None

    @classmethod
    def read(cls, path: Path) -> Trust:
        """Read what `evaluate` wrote.

        Raises:
            InputError: The file cannot be read, or is of another version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} is no error estimate of this version ({first_line(error)[:200]}); make a "
                "new one with: mno evaluate"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it, what `reports/trust.json` holds; `read` is the way back."""
        return self.model_dump(mode="json")

    def equation(self, description: Description) -> Equation | str:
        """Return the equation that predictions are put into; or why there is none."""
        if self.no_residual is not None:
            return self.no_residual
        return equation_of(description, self.parameters, imported=False)

    def assess(self, description: Description, given: Arrays, predicted: Arrays) -> Assessment:
        """Judge predictions.

        Args:
            description: Of the model that `model_sha256` names.
            given: What it was given, in physical units, `(samples, *dims)` by name.
            predicted: What it predicted of that.
        """
        features = self.features(description, given)
        distance = self.likeness.distances(features)
        equation = self.equation(description)
        residual = equation if isinstance(equation, str) else equation.residual(given, predicted)
        bounds = {}
        for name, measures in self.bounds.items():
            signals = known_signals(predicted[name], distance, residual)
            frames = predicted[name].shape[1] if name in description.states else 1
            as_calibrated = self.steps is None or frames == self.steps
            bounds[name] = {
                measure: bound.of(signals, frames)
                if len(bound.values) > 1 or as_calibrated
                else np.full((len(distance), 1), np.inf)
                for measure, bound in measures.items()
            }
            finite = np.isfinite(signals["size"])[:, None]
            bounds[name] = {m: np.where(finite, b, np.inf) for m, b in bounds[name].items()}
        return Assessment(
            bounds=bounds,
            residual=residual,
            distance=distance,
            unlike_training=self.likeness.unlike(distance),
            most_unusual=self.likeness.most_unusual(features),
        )

    def features(self, description: Description, given: Arrays) -> np.ndarray:
        """Return the features of some inputs, shape `(samples, features)`, as `likeness` names."""
        found = describe(description, given, min(self.shape))
        return np.stack([found[name] for name in self.likeness.names], axis=1)


def known_signals(
    predicted: np.ndarray, distance: np.ndarray, residual: np.ndarray | str
) -> dict[str, np.ndarray]:
    """Return what a scale may depend on: numbers known of each prediction of one field.

    Args:
        predicted: The field, shape `(samples, *dims)`.
        distance: Of the input from the training data, shape `(samples,)`.
        residual: That each prediction leaves in the equation, likewise; or why there is none.
    """
    signals = {"size": size(predicted), "distance": distance}
    return signals if isinstance(residual, str) else signals | {"residual": residual}
