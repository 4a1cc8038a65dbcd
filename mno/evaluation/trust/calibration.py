"""Calibrating trust on the validation split, and measuring what came of it on the test split.

They are two functions, so that the one that chooses never sees the split that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.evaluation.evaluator import frames_to_predict
from mno.evaluation.solving import solver_of
from mno.evaluation.trust.observed import Observed, describe_split, observe
from mno.evaluation.trust.outside import outside_inputs
from mno.surrogate.trust.bounds import Scale, quantile
from mno.surrogate.trust.config import TrustConfig
from mno.surrogate.trust.out_of_distribution import OutOfDistribution
from mno.surrogate.trust.trust import (
    Bound,
    Measured,
    Pairs,
    Rate,
    Trust,
    coverage,
    equation_of,
    finite,
)

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit
    from mno.surrogate.surrogate import Surrogate

_MOST_TRAINING = 2000  # samples that inputs are compared with
_MOST_PAIRS = 500  # test samples that a figure shows
_LEAST_FOR_SCALE = 100  # validation samples from which on some of them fit a scale
_FOR_SCALE = 50  # samples that fit it, or a quarter of fewer than 200; the others calibrate


def calibrated_trust(
    surrogate: Surrogate,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    test: Split | StoredSplit,
    config: TrustConfig,
    model_sha256: str,
    batch_size: int,
) -> Trust:
    """Return a model's trust, with what came of it on the test split; see the two steps below."""
    trust = calibrate(surrogate, train, validation, config, model_sha256, batch_size)
    return trust.model_copy(update={"measured": measure(trust, surrogate, test, batch_size)})


def calibrate(
    surrogate: Surrogate,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    config: TrustConfig,
    model_sha256: str,
    batch_size: int,
) -> Trust:
    """Learn from the training split what inputs are like, and from validation how far models err.

    Args:
        surrogate: The trained model.
        train: The split that it was trained on.
        validation: Samples that it was not trained on.
        config: How sure a bound is, and how rare a false alarm.
        model_sha256: Digest of the model.
        batch_size: Samples per forward pass.

    Raises:
        InputError: The model does not fit the dataset.
    """
    description, schema = surrogate.description, validation.schema
    steps = frames_to_predict(description, schema)
    shape = tuple(len(axis.points) for axis in schema.space)
    equation = equation_of(description, schema.parameters, imported=bool(schema.sources))
    typical = describe_split(description, train, min(shape), batch_size, _MOST_TRAINING)
    seen = observe(surrogate, validation, equation, min(shape), batch_size, steps)
    names = tuple(typical)
    likeness = OutOfDistribution.fit(names, _stacked(typical, names))
    distance = likeness.distances(_stacked(seen.features, names))
    solver = solver_of(schema)
    return Trust(
        model_sha256=model_sha256,
        level=config.level,
        scenario=schema.scenario,
        parameters=dict(schema.parameters),
        resolution=None if schema.sources else schema.resolution,
        no_solver=solver if isinstance(solver, str) else None,
        no_residual=seen.residual if isinstance(seen.residual, str) else None,
        shape=shape,
        steps=steps,
        bounds={
            name: {
                measure: _bound(_signals(seen, name, distance), errors, config.level)
                for measure, errors in seen.errors[name].items()
            }
            for name in description.outputs
        },
        likeness=likeness.calibrated(distance, config.false_alarm_rate),
    )


def measure(
    trust: Trust, surrogate: Surrogate, test: Split | StoredSplit, batch_size: int
) -> Measured:
    """Count, on the test split, errors within their bounds and alarms, and alarms on others.

    Args:
        trust: What `calibrate` returned.
        surrogate: The same model.
        test: Samples that neither training nor calibration has seen.
        batch_size: Samples per forward pass.
    """
    description = surrogate.description
    equation = trust.equation(description)
    seen = observe(surrogate, test, equation, min(trust.shape), batch_size, trust.steps)
    distance = trust.likeness.distances(_stacked(seen.features, trust.likeness.names))
    rates: dict[str, dict[str, tuple[Rate | None, ...]]] = {}
    pairs = {}
    for name, by_measure in seen.errors.items():
        signals, rates[name] = _signals(seen, name, distance), {}
        for kind, errors in by_measure.items():
            bound = trust.bounds[name][kind]
            bounds = bound.of(signals, errors.shape[1])
            rates[name][kind] = coverage(errors, bounds, bound.calibrated_on, trust.level)
            if kind == "relative_l2":
                shown = slice(0, _MOST_PAIRS)
                pairs[name] = Pairs(error=finite(errors[shown, 0]), bound=finite(bounds[shown, 0]))
    flagged = {
        kind: trust.likeness.unlike(trust.likeness.distances(trust.features(description, given)))
        for kind, given in outside_inputs(description, test)
    }
    return Measured(
        coverage=rates,
        false_alarms=Rate.of(trust.likeness.unlike(distance)),
        outside={kind: Rate.of(which) for kind, which in flagged.items()},
        pairs=pairs,
    )


def _signals(seen: Observed, name: str, distance: np.ndarray) -> dict[str, np.ndarray]:
    signals = {"size": seen.sizes[name], "distance": distance}
    return signals if isinstance(seen.residual, str) else signals | {"residual": seen.residual}


def _bound(signals: Mapping[str, np.ndarray], errors: np.ndarray, level: float) -> Bound:
    """Calibrate one bound.

    Args:
        signals: What is known of each prediction, shape `(samples,)`, by name.
        errors: Shape `(samples, frames)`; NaN where not measured.
        level: Share of predictions that it is to hold for.
    """
    samples = len(errors)
    scale, rest = Scale(), np.arange(samples)
    if samples >= _LEAST_FOR_SCALE:
        fitted = rest % max(4, samples // _FOR_SCALE) == 0
        scale = Scale.fit({n: values[fitted] for n, values in signals.items()}, errors[fitted])
        rest = rest[~fitted]
    divided = _ratio(errors[rest], scale.of(signals, samples)[rest, None])
    known = [column[~np.isnan(column)] for column in divided.T]
    return Bound(
        scale=scale,
        values=finite(np.array([quantile(scores, level) for scores in known])),
        calibrated_on=min(len(scores) for scores in known),
    )


def _ratio(errors: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return scores; an infinite scale bounds any error, and NaN stays what was not measured."""
    with np.errstate(invalid="ignore"):
        scores = errors / scale
    return np.where(np.isinf(errors), np.inf, np.where(np.isnan(errors), np.nan, scores))


def _stacked(features: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    return np.stack([features[name] for name in names], axis=1)
