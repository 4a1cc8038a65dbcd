"""Calibrating trust on the validation split, and measuring what came of it on the test split.

They are two functions, so that the one that chooses never sees the split that is reported. Where
that is small, samples drawn and solved anew can take its place. Inputs from outside the training
data, to measure how many are not noticed, are of two kinds: test samples that are spoilt, as by
sensors, and problems that the scenario draws with other parameters.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from mno.core.absent import Absent
from mno.core.errors import MnoError
from mno.core.observing import READ
from mno.evaluation.evaluator import AnySplit, batches, frames_to_predict
from mno.evaluation.result import Example
from mno.evaluation.solver import other_solver, solved_anew, solver_of, stream
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from mno.surrogate.trust import trust as trusts
from mno.surrogate.trust.bounds import Scale, Signals, quantile, sample_errors, size
from mno.surrogate.trust.features import Features, describe, smoother
from mno.surrogate.trust.out_of_distribution import OutOfDistribution
from mno.surrogate.trust.trust import Bound, Measured, Pairs, Rate, Trust, coverage, finite

Arrays = dict[str, np.ndarray]

_MOST_TRAINING = 2000  # samples that inputs are compared with
_MOST_PAIRS = 500  # test samples that a figure shows
_LEAST_FOR_SCALE = 100  # validation samples from which on some of them fit a scale
_FOR_SCALE = 50  # samples that fit it, or a quarter of fewer than 200; the others calibrate
_MOST_SPOILT = 200  # test samples that are spoilt
_DRAWN = 40  # problems with other parameters
_SEED = 20240229


def calibrated_trust(
    surrogate: Surrogate, train: AnySplit, validation: AnySplit, test: AnySplit,
    config: TrustConfig, model_sha256: str, batch_size: int,
) -> Trust:  # fmt: skip
    """Return a model's trust, with what came of it on the test split; see the two steps below.

    It is measured on as many draws instead, solved anew, as are asked for, where there is a solver.
    """
    trust = calibrate(surrogate, train, validation, config, model_sha256, batch_size)
    drawn = solved_anew(test.schema, config.draws, _SEED) if config.draws else test
    on = test if isinstance(drawn, Absent) else drawn
    return trust.model_copy(update={"measured": _measure(trust, surrogate, on, batch_size)})


def largest_errors(
    trust: Trust, description: Description, examples: Sequence[Example]
) -> dict[int, dict[str, np.ndarray]]:
    """Return the bounds on the largest error of some samples, `(frames,)`, by sample and field."""
    found = {}
    for example in examples:
        given, predicted = (
            {name: values[None] for name, values in fields.items()}
            for fields in (example.inputs, example.prediction)
        )
        bounds = trust.assess(description, given, predicted).bounds
        found[example.index] = {name: kinds["max_error"][0] for name, kinds in bounds.items()}
    return found


def calibrate(
    surrogate: Surrogate,
    train: AnySplit,
    validation: AnySplit,
    config: TrustConfig,
    model_sha256: str,
    batch_size: int,
) -> Trust:
    """Learn from the training split what inputs are like, from validation how far models err."""
    description, schema = surrogate.description, validation.schema
    steps = frames_to_predict(description, schema)
    shape = tuple(len(axis.points) for axis in schema.space)
    equation = trusts.equation_of(description, schema.parameters, imported=bool(schema.sources))
    every = -(-len(train) // _MOST_TRAINING)
    inputs = [description.given(fields) for fields in batches(train, batch_size, every)]
    usual, smoothed = (
        Features.joined([describe(description, given, shape) for given in several])
        for several in (inputs, [smoother(description, given, shape) for given in inputs])
    )
    seen = _observe(surrogate, validation, equation, shape, batch_size, steps)
    likeness = OutOfDistribution.fit(usual, smoothed, seen.features, config.false_alarm_rate)
    distance = likeness.distances(seen.features)
    solver, residual = solver_of(schema), seen.residual
    signals = {n: trusts.known_signals(s, distance, residual) for n, s in seen.sizes.items()}
    return Trust(
        model_sha256=model_sha256,
        level=config.level,
        scenario=schema.scenario,
        parameters=dict(schema.parameters),
        plant=dict(schema.plant),
        resolution=None if schema.sources else schema.resolution,
        no_solver=str(solver) if isinstance(solver, Absent) else None,
        no_residual=str(residual) if isinstance(residual, Absent) else None,
        shape=shape,
        steps=steps,
        bounds={
            name: {
                measure: bound_by_run(errors, config.level)
                if description.observes
                else _bound(signals[name], errors, config.level)
                for measure, errors in seen.errors[name].items()
            }
            for name in description.outputs
        },
        likeness=likeness,
        misfit=_misfits(surrogate, validation, config, batch_size),
    )


def _misfits(
    surrogate: Surrogate, validation: AnySplit, config: TrustConfig, batch_size: int
) -> dict[str, float | None]:
    """Return what readings are farther than from what is told in no more runs than may be alarms.

    Nothing else tells, while a run goes on, that a sensor or the plant is another than in training.
    """
    sensors = surrogate.description.sensors
    largest: dict[str, list[np.ndarray]] = {name: [] for name in sensors}
    for fields in batches(validation, batch_size) if sensors else ():
        given = surrogate.description.given(fields)
        told = surrogate.predict(given, batch_size)
        for name, found in largest.items():
            far = np.abs(given[name + READ] - told[name])
            found.append(np.nan_to_num(far).reshape(len(far), -1).max(axis=1))
    level = 1.0 - config.false_alarm_rate / max(len(sensors), 1)
    scores = {name: np.concatenate(parts) for name, parts in largest.items()}
    limits = {n: quantile(s, min(level, len(s) / (len(s) + 1))) for n, s in scores.items()}
    return dict(zip(limits, finite(np.array(list(limits.values()))), strict=True))


def _measure(trust: Trust, surrogate: Surrogate, test: AnySplit, batch_size: int) -> Measured:
    """Count, on the test split, errors within their bounds and alarms, and alarms on others."""
    description, likeness = surrogate.description, trust.likeness
    equation = trust.equation(description)
    seen = _observe(surrogate, test, equation, trust.shape, batch_size, trust.steps)
    distance = likeness.distances(seen.features)
    rates: dict[str, dict[str, tuple[Rate | None, ...]]] = {}
    pairs = {}
    together = sum(e.shape[1] for by_measure in seen.errors.values() for e in by_measure.values())
    for name, by_measure in seen.errors.items():
        signals, rates[name] = trusts.known_signals(seen.sizes[name], distance, seen.residual), {}
        for kind, errors in by_measure.items():
            bound = trust.bounds[name][kind]
            bounds = bound.of(signals, errors.shape[1]).numpy()
            rates[name][kind] = coverage(errors, bounds, bound.calibrated_on, trust.level, together)
            if bound.over_run and errors.shape[1] > 1:
                within = np.array([np.inf if b is None else b for b in bound.over_run])
                largest = np.nanmax(errors / within, axis=1, keepdims=True)
                ones, known = np.ones_like(largest), bound.calibrated_on
                of_runs = coverage(largest, ones, known, trust.level, together)
                rates[name][f"{kind}_over_run"] = of_runs
            if kind == "relative_l2":
                shown = slice(0, _MOST_PAIRS)
                pairs[name] = Pairs(error=finite(errors[shown, 0]), bound=finite(bounds[shown, 0]))
    return Measured(
        split=test.name,
        coverage=rates,
        false_alarms=Rate.of(likeness.unlike(distance)),
        outside={
            kind: Rate.of(likeness.unlike(likeness.distances(trust.features(description, given))))
            for kind, given in _outside_inputs(description, test)
        },
        pairs=pairs,
    )


class _Observed(NamedTuple):
    """What was seen of the predictions of a split, of each sample."""

    features: Features  # of the inputs
    residual: np.ndarray | Absent  # that predictions leave in the equation
    sizes: Arrays  # root mean squares of the predictions, by field
    errors: dict[str, Arrays]  # by field and measure, shape (samples, frames)


def _observe(
    surrogate: Surrogate,
    split: AnySplit,
    equation: trusts.Equation | Absent,
    shape: tuple[int, ...],
    batch_size: int,
    steps: int | None,
) -> _Observed:
    """Predict a split batch by batch, and keep a few numbers of each sample.

    They are put into the equation, if there is one; `shape` is that of the training grid.
    """
    description = surrogate.description
    parts: list[_Observed] = []
    for fields in batches(split, batch_size):
        given, truth = description.given(fields), description.truth(fields)
        predicted = surrogate.predict(given, batch_size, steps)
        parts.append(
            _Observed(
                describe(description, given, shape),
                equation if isinstance(equation, Absent) else equation(given, predicted),
                {n: size(torch.from_numpy(predicted[n])).numpy() for n in description.outputs},
                {
                    name: sample_errors(predicted[name], truth[name], name in description.timed)
                    for name in description.outputs
                },
            )
        )
    absent = [part.residual for part in parts if isinstance(part.residual, Absent)]
    known = [part.residual for part in parts if not isinstance(part.residual, Absent)]
    return _Observed(
        Features.joined([part.features for part in parts]),
        absent[0] if absent else np.concatenate(known),
        _joined([part.sizes for part in parts]),
        {name: _joined([part.errors[name] for part in parts]) for name in description.outputs},
    )


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _bound(signals: Signals, errors: np.ndarray, level: float) -> Bound:
    """Calibrate one bound on errors of shape `(samples, frames)`; NaN where not measured."""
    samples = len(errors)
    scale, rest = Scale(), np.arange(samples)
    if samples >= _LEAST_FOR_SCALE:
        fitted = rest % max(4, samples // _FOR_SCALE) == 0
        scale = Scale.fit({n: values[fitted] for n, values in signals.items()}, errors[fitted])
        rest = rest[~fitted]
    own = errors[rest]
    with np.errstate(invalid="ignore"):
        divided = own / scale.of(signals).numpy()[rest, None]
    # An infinite scale bounds any error, and NaN stays what was not measured.
    divided = np.where(np.isinf(own), np.inf, np.where(np.isnan(own), np.nan, divided))
    known = [column[~np.isnan(column)] for column in divided.T]
    return Bound(
        scale=scale,
        values=finite(np.array([quantile(scores, level) for scores in known])),
        calibrated_on=min(len(scores) for scores in known),
    )


def bound_by_run(errors: np.ndarray, level: float) -> Bound:
    """Calibrate a bound on an observer's errors, `(samples, frames)`, each sample being a run.

    What is known at a frame is the time since the run began, and no more: a run's own size is only
    known at its end. Some runs say how errors go with that time, the others calibrate: each frame
    by itself, and the largest error of a run beside what is usual at its frame.
    """
    usual = np.arange(len(errors)) % 4 == 0
    with np.errstate(invalid="ignore"):
        profile = np.sqrt(np.nanmean(errors[usual] ** 2, axis=0)) if usual.any() else errors[:0]
    rest = errors[~usual]
    known = [column[~np.isnan(column)] for column in rest.T]
    largest = np.nanmax(rest / profile, axis=1) if len(rest) else rest
    return Bound(
        scale=Scale(),
        values=finite(np.array([quantile(scores, level) for scores in known])),
        calibrated_on=min(len(scores) for scores in known),
        over_run=finite(quantile(largest, level) * profile),
    )


def _outside_inputs(description: Description, test: AnySplit) -> Iterator[tuple[str, Arrays]]:
    """Yield inputs that no training sample is like, by what makes them so.

    Of a spoilt test sample all inputs with a value at each point are spoilt alike; coordinates of
    points and numbers per sample are left alone, changes that the scenario refuses left out.
    """
    given = description.given({n: f[:_MOST_SPOILT] for n, f in test.fields.items()})
    for kind in _SPOILT:
        rng, spoilt = np.random.default_rng(_SEED), dict(given)
        for name in [name for name in given if name in description.fields]:
            spoilt[name] = _spoilt(kind, given[name], rng).astype(np.float32)
        yield kind, spoilt
    scenario = solver_of(test.schema)
    if isinstance(scenario, Absent):
        return
    if description.forecast and description.forecast.history > 1:
        return  # a scenario draws the first frame of states
    for label, changed in scenario.outside().items():
        other = other_solver(test.schema, changed=changed)
        if isinstance(other, Absent):
            continue
        try:
            rows = [other.sample(stream(_SEED, "drawn", number)) for number in range(_DRAWN)]
        except MnoError:
            continue
        fields = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        first = {name: fields[name][:, None] for name in description.states}
        yield label, description.given(fields | first)


def _spoilt(kind: str, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a field of shape `(samples, *dims)`, spoilt in one of the ways of `_SPOILT`."""
    flat, missing = values.reshape(len(values), -1), np.isnan(values)
    match kind:
        case "noise":
            deviation = 0.0 if missing.all() else float(values[~missing].std())
            return values + 0.1 * deviation * rng.standard_normal(values.shape)
        case "scaled":
            return 1.5 * values
        case "constant":
            counts = np.maximum((~np.isnan(flat)).sum(axis=1), 1)
            mean = (np.nansum(flat, axis=1) / counts).reshape(-1, *(1,) * (values.ndim - 1))
            return np.where(missing, values, mean)
        case "shuffled":
            return rng.permuted(flat, axis=1).reshape(values.shape)
    spoilt = values.copy()
    spoilt[..., : -(-values.shape[-1] // 4)] = 0.0
    return spoilt


_SPOILT = ("noise", "scaled", "constant", "shuffled", "dead")
"""White noise of a tenth of a field's deviation, all values half as large again, each sample's mean
everywhere, its values in a random order, and zero in the first quarter of the last axis, as of
sensors that have died."""
