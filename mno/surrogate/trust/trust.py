"""How far a single prediction may be trusted: what was calibrated, and what it says of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from mno.core.config import Config
from mno.core.errors import InputError, first_line
from mno.surrogate.description import Description
from mno.surrogate.trust.trust import Equation, equation_of
from mno.surrogate.trust.bounds import size
from mno.surrogate.trust.out_of_distribution import describe
from mno.surrogate.trust.out_of_distribution import Likeness
from mno.surrogate.trust.trust import Measured
from mno.surrogate.trust.bounds import Scale

FORMAT = 1
FILE = "trust.json"

Arrays = Mapping[str, np.ndarray]


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
    likeness: Likeness
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
