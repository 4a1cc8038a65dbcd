"""How far a single prediction may be trusted: what was calibrated, and what it says of one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.errors import InputError, first_line
from mno.scenarios.residuals import residual_names
from mno.surrogate.description import Description
from mno.surrogate.equation import residual_left
from mno.surrogate.trust.bounds import (
    Scale,
    coverage_interval,
    expected_coverage,
    samples_needed,
    size,
)
from mno.surrogate.trust.features import Features, Tensors, describe
from mno.surrogate.trust.out_of_distribution import OutOfDistribution, of_several_tests

Arrays = Mapping[str, np.ndarray]
Equation = Callable[[Arrays, Arrays], np.ndarray | Absent]
"""Returns the norm of each prediction's residual, relative to the equation's source or size, of
what a model was given and what it predicted of it, `(samples, *dims)` by name in physical units:
`(samples,)`, nondimensional, NaN where the prediction is. Absent where the grid has none."""


def equation_of(
    description: Description, parameters: Mapping[str, Any], imported: bool
) -> Equation | Absent:
    """Return the equation of a model's scenario, into which predictions are put.

    The parameters are the scenario's own, which the dataset was made with, unless it was imported;
    those that are numbers may stand in the equation.
    """
    name = description.scenario
    if imported:
        return Absent("trust.imported", {"scenario": name})
    if name not in residual_names():
        return Absent("trust.none_written", {"scenario": name})
    if description.gaps:
        return Absent("trust.gaps", {"names": ", ".join(description.gaps)})
    if description.coordinates:
        return Absent("trust.points")

    def residual(given: Arrays, predicted: Arrays) -> np.ndarray | Absent:
        found = equation_residual(description, parameters, given, predicted)
        return Absent("trust.fails", {"reason": found}) if isinstance(found, Absent) else found

    return residual


def equation_residual(
    description: Description, parameters: Mapping[str, Any], given: Arrays, predicted: Arrays
) -> np.ndarray | Absent:
    """Return the norm of each sample's residual as torch has it, shape `(samples,)`.

    The parameters in the equation are those of the dataset; fields are in physical units.
    """
    if description.scenario not in residual_names():
        return Absent("residual.none_written", {"scenario": description.scenario})
    if description.coordinates:
        return Absent("residual.points")
    known, answered = (
        {name: torch.from_numpy(values).double() for name, values in fields.items()}
        for fields in (given, predicted)
    )
    try:
        with torch.inference_mode():
            return residual_left(description, parameters, known, answered).numpy()
    except ValueError as error:
        return Absent("residual.fails", {"error": str(error)})


class Rate(Config):
    """How many of some samples had what is counted, and the 95 % binomial interval of the rate.

    `expected` is the range in which this rate, and all others that were counted with it, lie in 95
    % of all cases, where the sizes of the splits tell it.
    """

    count: int
    samples: int
    low: float
    high: float
    expected: tuple[float, float] | None = None

    @classmethod
    def of(cls, which: np.ndarray) -> Rate:
        """Count the samples, `(samples,)`, that are true."""
        count, samples = int(which.sum()), len(which)
        low, high = coverage_interval(count, samples)
        return cls(count=count, samples=samples, low=low, high=high)

    @property
    def rate(self) -> float | None:
        """The share of the samples; none of no samples."""
        return self.count / self.samples if self.samples else None


class Pairs(Config):
    """Relative L2 errors of some test samples and the bounds on them; none where infinite."""

    error: tuple[float | None, ...]
    bound: tuple[float | None, ...]


class Measured(Config):
    """What was found on samples that nothing was calibrated on.

    Coverage is of test samples whose error a bound held for: by field, by measure, of each frame;
    samples without a known truth do not count, and none is measured where there is no bound.
    """

    split: str = "test"  # or `solved`, samples that were drawn and solved anew
    coverage: Mapping[str, Mapping[str, tuple[Rate | None, ...]]]
    false_alarms: Rate  # test samples that were flagged as unlike the training data
    outside: Mapping[str, Rate]  # flagged inputs from outside it, by kind; others are missed alarms
    pairs: Mapping[str, Pairs]  # of the first test samples, by field


def coverage(
    errors: np.ndarray, bounds: np.ndarray, calibrated_on: int, level: float, together: int = 1
) -> tuple[Rate | None, ...]:
    """Count, for each frame, the samples whose error is within its bound, `(samples, frames)` each.

    So many rates are looked at `together`: among many, the least is low by chance (Bonferroni).
    An error is NaN where no truth is known, a bound infinite where there is none. There is no rate
    where no finite bound was given on a measured error.
    """
    rates = []
    for error, bound in zip(errors.T, bounds.T, strict=True):
        known = ~np.isnan(error)
        if not (known & np.isfinite(bound)).any() or calibrated_on < samples_needed(level):
            rates.append(None)
            continue
        held = Rate.of((error <= bound)[known])
        confidence = 1.0 - 0.05 / together
        expected = expected_coverage(calibrated_on, held.samples, level, confidence)
        rates.append(held.model_copy(update={"expected": expected}))
    return tuple(rates)


def finite(values: np.ndarray) -> tuple[float | None, ...]:
    """Return numbers as JSON takes them, none for those that are infinite or not a number."""
    return tuple(float(v) if np.isfinite(v) else None for v in values)


FILE = "trust.json"


class Bound(Config):
    """A bound on one measure of the error of one field.

    Values are of each frame where the scale is 1, or one for all of a sample; none where the
    validation split does not give one. Scale and calibration are of different samples.
    """

    scale: Scale
    values: tuple[float | None, ...]
    calibrated_on: int
    over_run: tuple[float | None, ...] | None = None
    """Of an observer, what errors are within at all frames of a run together."""

    def of(self, signals: Tensors, frames: int) -> Tensor:
        """Return the bound on each prediction, shape `(samples, frames)`; infinite where none is.

        Signals are what is known of the predictions. Frames beyond those calibrated have no bound.
        """
        values = [math.inf if value is None else value for value in self.values][:frames]
        values += [math.inf] * (frames - len(values))
        bounds = self.scale.of(signals)[:, None] * torch.tensor(values, dtype=torch.float64)
        return torch.where(bounds.isnan(), math.inf, bounds)


@dataclass(frozen=True, eq=False)
class Assessment:
    """What is known of the predictions of some samples, shape `(samples,)` where nothing is said.

    Bounds are by field and measure `(samples, frames)`, or `(samples, 1)` where there is one for
    all of a sample; infinite where there is none.
    """

    bounds: Mapping[str, Mapping[str, np.ndarray]]
    residual: np.ndarray | Absent  # that each leaves in the equation
    distance: np.ndarray  # of the input from the training data
    unlike_training: np.ndarray  # whether that is too far
    most_unusual: np.ndarray  # number of the input's feature that is farthest

    @property
    def relative_bound(self) -> np.ndarray:
        """Bound on the relative L2 error, the largest of all fields; shape `(samples,)`."""
        return np.max([bounds["relative_l2"][:, 0] for bounds in self.bounds.values()], axis=0)


class Trust(Config):
    """What predictions of one model are judged by, calibrated on its validation split."""

    format: Literal[1] = 1
    model_sha256: str  # of the model that it belongs to
    level: float  # share of predictions that a bound holds for
    scenario: str  # what the dataset was solved by
    parameters: Mapping[str, Any]  # the scenario's own, in the dataset
    plant: Mapping[str, Any] = Field(default_factory=dict)  # what its file said then
    resolution: int | None  # points along each space axis that the scenario was solved at
    no_solver: str | None  # why there is none to fall back on
    no_residual: str | None  # why predictions have none
    shape: tuple[int, ...]  # the grid of the dataset, or its number of points
    steps: int | None  # frames that were predicted; none without states
    bounds: Mapping[str, Mapping[str, Bound]]  # by field and measure
    likeness: OutOfDistribution  # what inputs were like in training
    misfit: Mapping[str, float | None] = Field(default_factory=dict)
    """Of an observer, by what it reads: how far readings are from what it tells in a run like those
    of its training, at most, all frames together."""
    measured: Measured | None = None  # on the test split and on inputs from outside

    @classmethod
    def read(cls, path: Path) -> Trust:
        """Read what `evaluate` wrote; an `InputError` if this version cannot."""
        try:
            content = json.loads(path.read_bytes())
            content["likeness"] = of_several_tests(content["likeness"])
            return cls.model_validate_json(json.dumps(content))
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no error estimate of this version ({first_line(error)[:200]}); make a "
                "new one with: mno evaluate"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it, what `reports/trust.json` holds; `read` is the way back."""
        return self.model_dump(mode="json")

    def equation(self, description: Description) -> Equation | Absent:
        """Return the equation that predictions are put into."""
        if self.no_residual is not None:
            return Absent("trust.recorded", {"error": self.no_residual})
        return equation_of(description, self.parameters, imported=False)

    def assess(self, description: Description, given: Arrays, predicted: Arrays) -> Assessment:
        """Judge what the model predicted of what it was given, in physical units, by name."""
        features = self.features(description, given)
        distance = self.likeness.distance(features)
        equation = self.equation(description)
        residual = equation if isinstance(equation, Absent) else equation(given, predicted)
        tensors = {name: torch.as_tensor(values) for name, values in predicted.items()}
        found = self.bounds_of(description, tensors, distance, residual)
        bounds = {
            name: {measure: bound.numpy() for measure, bound in measures.items()}
            for name, measures in found.items()
        }
        far, unusual = distance.numpy(), self.likeness.most_unusual(features)
        return Assessment(bounds, residual, far, self.likeness.unlike(far), unusual)

    def bounds_of(
        self, description: Description, predicted: Tensors, distance: Tensor, residual: Any
    ) -> dict[str, dict[str, Tensor]]:
        """Return bounds by field and measure, as `Assessment` has them, by operations of torch.

        The distance is that of inputs from the training data, the residual what predictions leave
        in the equation, shape `(samples,)`, or absent.
        """
        bounds = {}
        for name, measures in self.bounds.items():
            if name not in predicted:  # only readings were asked for
                continue
            signals = known_signals(size(predicted[name]), distance, residual)
            frames = predicted[name].shape[1] if name in description.timed else 1
            as_calibrated = self.steps is None or frames == self.steps
            known = signals["size"].isfinite()[:, None]
            bounds[name] = {
                measure: torch.where(known, bound.of(signals, frames), math.inf)
                if len(bound.values) > 1 or as_calibrated
                else torch.full_like(distance, math.inf)[:, None]
                for measure, bound in measures.items()
            }
        return bounds

    def features(self, description: Description, given: Arrays) -> Features:
        """Return the features of some inputs, that `likeness` looks at."""
        return describe(description, given, self.shape)


def known_signals(size: Any, distance: Any, residual: Any) -> dict[str, Tensor]:
    """Return what a scale may depend on, numbers known of each prediction, shape `(samples,)`.

    They are given as arrays or tensors; the residual may be absent.
    """
    signals = {"size": size, "distance": distance}
    signals |= {} if isinstance(residual, Absent) else {"residual": residual}
    return {name: torch.as_tensor(values) for name, values in signals.items()}
