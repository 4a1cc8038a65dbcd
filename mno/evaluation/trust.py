"""Calibrating trust on the validation split, and measuring what came of it on the test split.

They are two functions, so that the one that chooses never sees the split that is reported. Inputs
from outside the training data, to measure how many are not noticed, are of two kinds: test samples
that are spoilt, as by sensors, and problems that the scenario draws with other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import MnoError
from mno.evaluation.evaluator import frames_to_predict
from mno.evaluation.solver import other_solver, solver_of, stream
from mno.surrogate.trust.bounds import Scale, quantile, sample_errors, size
from mno.surrogate.trust.config import TrustConfig
from mno.surrogate.trust.out_of_distribution import OutOfDistribution, describe
from mno.surrogate.trust.trust import (
    Bound,
    Equation,
    Measured,
    Pairs,
    Rate,
    Trust,
    coverage,
    equation_of,
    finite,
    known_signals,
)

if TYPE_CHECKING:
    from mno.data.reading import Schema, Split, StoredSplit
    from mno.surrogate.description import Description
    from mno.surrogate.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Observed:
    """What was seen of the predictions of a split.

    Attributes:
        features: Of the inputs, shape `(samples,)` each, by name.
        residual: That predictions leave in the equation, shape `(samples,)`.
        sizes: Root mean squares of the predictions by field, shape `(samples,)`.
        errors: By field and measure, shape `(samples, frames)`; see `sample_errors`.
    """

    features: Mapping[str, np.ndarray]
    residual: np.ndarray | Absent
    sizes: Mapping[str, np.ndarray]
    errors: Mapping[str, Mapping[str, np.ndarray]]


def observe(
    surrogate: Surrogate,
    split: Split | StoredSplit,
    equation: Equation | Absent,
    finest: int,
    batch_size: int,
    steps: int | None,
) -> Observed:
    """Predict a split batch by batch, and keep a few numbers of each sample.

    Args:
        surrogate: The model.
        split: The samples.
        equation: What predictions are put into.
        finest: Points along the shortest axis of the training grid.
        batch_size: Samples per forward pass.
        steps: Frames to predict; none without states.
    """
    description = surrogate.description
    features: list[Mapping[str, np.ndarray]] = []
    residuals: list[np.ndarray | Absent] = []
    sizes: list[Mapping[str, np.ndarray]] = []
    errors: list[Mapping[str, Mapping[str, np.ndarray]]] = []
    for fields in batches(split, batch_size):
        given, truth = description.given(fields), description.truth(fields)
        predicted = surrogate.predict(given, batch_size, steps)
        features.append(describe(description, given, finest))
        residuals.append(equation if isinstance(equation, Absent) else equation(given, predicted))
        sizes.append({name: size(predicted[name]) for name in description.outputs})
        errors.append(
            {
                name: sample_errors(predicted[name], truth[name], name in description.states)
                for name in description.outputs
            }
        )
    return Observed(
        features=joined(features),
        residual=_joined_residuals(residuals),
        sizes=joined(sizes),
        errors={name: joined([part[name] for part in errors]) for name in description.outputs},
    )


def describe_split(
    description: Description, split: Split | StoredSplit, finest: int, batch_size: int, most: int
) -> dict[str, np.ndarray]:
    """Return the features of a split's inputs, of so many evenly spaced samples at most."""
    every = -(-len(split) // most)
    parts = [
        describe(description, description.given(fields), finest)
        for fields in batches(split, batch_size, every)
    ]
    return joined(parts)


def batches(
    split: Split | StoredSplit, batch_size: int, every: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Yield all fields of some samples, again and again: each, or every so many."""
    numbers = np.arange(0, len(split), every)
    for start in range(0, len(numbers), batch_size):
        chosen = numbers[start : start + batch_size]
        yield {name: np.asarray(array[chosen]) for name, array in split.fields.items()}


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Put arrays by name, of one batch after the other, behind each other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined_residuals(parts: list[np.ndarray | Absent]) -> np.ndarray | Absent:
    absent = [part for part in parts if isinstance(part, Absent)]
    return absent[0] if absent else np.concatenate([p for p in parts if not isinstance(p, Absent)])


Arrays = dict[str, np.ndarray]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_MOST_SAMPLES = 200
_DRAWN = 40  # problems with other parameters
_SEED = 20240229


def outside_inputs(
    description: Description, test: Split | StoredSplit
) -> Iterator[tuple[str, Arrays]]:
    """Yield inputs that no training sample is like, by what makes them so.

    Of a spoilt test sample all inputs with a value at each point are spoilt alike; coordinates of
    points and numbers per sample are left alone. A change of parameters that the scenario refuses
    is left out.

    Args:
        description: Of the model.
        test: Samples like the training data.
    """
    given = description.given({n: f[:_MOST_SAMPLES] for n, f in test.fields.items()})
    for kind, change in KINDS.items():
        rng = np.random.default_rng(_SEED)
        yield (
            kind,
            {
                name: change(values, rng).astype(np.float32)
                if name in description.fields
                else values
                for name, values in given.items()
            },
        )
    scenario = solver_of(test.schema)
    if isinstance(scenario, Absent):
        return
    for label, changed in scenario.outside().items():
        drawn = _drawn(description, test.schema, changed)
        if drawn is not None:
            yield label, drawn


def _drawn(description: Description, schema: Schema, changed: Mapping[str, Any]) -> Arrays | None:
    """Return inputs of a scenario with other parameters; none where it draws none.

    A scenario draws the first frame of states: none where a model is given more of them.
    """
    scenario = other_solver(schema, changed=changed)
    if isinstance(scenario, Absent) or (description.forecast and description.forecast.history > 1):
        return None
    try:
        rows = [scenario.sample(stream(_SEED, "drawn", number)) for number in range(_DRAWN)]
    except MnoError:
        return None
    fields = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    first = {name: fields[name][:, None] for name in description.states}
    return description.given(fields | first)


def _deviation(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.std()) if known.size else 0.0


def _noise(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values + 0.1 * _deviation(values) * rng.standard_normal(values.shape)


def _scaled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 1.5 * values


def _constant(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    counts = np.maximum((~np.isnan(flat)).sum(axis=1), 1)
    mean = (np.nansum(flat, axis=1) / counts).reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(np.isnan(values), values, mean)


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    return rng.permuted(flat, axis=1).reshape(values.shape)


def _dead(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spoilt = values.copy()
    spoilt[..., : -(-values.shape[-1] // 4)] = 0.0
    return spoilt


KINDS: Mapping[str, Change] = {
    "noise": _noise,
    "scaled": _scaled,
    "constant": _constant,
    "shuffled": _shuffled,
    "dead": _dead,
}
"""Ways to spoil a field of shape `(samples, *dims)`: white noise of a tenth of its deviation, all
values half as large again, each sample's mean everywhere, its values in a random order, and zero in
the first quarter of the last axis, as of sensors that have died."""


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
        no_solver=str(solver) if isinstance(solver, Absent) else None,
        no_residual=str(seen.residual) if isinstance(seen.residual, Absent) else None,
        shape=shape,
        steps=steps,
        bounds={
            name: {
                measure: _bound(
                    known_signals(seen.sizes[name], distance, seen.residual), errors, config.level
                )
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
        signals = known_signals(seen.sizes[name], distance, seen.residual)
        rates[name] = {}
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
