"""Evaluating a surrogate on a split, batch by batch, in physical units.

The one figure by which models are compared is the relative L2; what a surrogate has to beat are the
guesses that need no model: the mean field of the training split, and persistence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import Forecast, TaskConfig, forecast_of
from mno.core.observing import READ
from mno.data.reading import Schema, Split, StoredSplit, blocks
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.metrics import Pooled, measured, pooled_relative_l2, relative_l2
from mno.evaluation.result import Arrays, Errors, Evaluation, Example, FieldArrays
from mno.evaluation.statistics import Statistics, space_of
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

AnySplit: TypeAlias = Split | StoredSplit


class ErrorMap:
    """Sums of squared errors of a field at each point, of samples and frames, batch by batch."""

    def __init__(self, field: Field) -> None:
        self._axes = (0, 1) if "time" in field.dims else (0,)
        self._squares, self._counts = np.zeros(()), np.zeros((), dtype=np.int64)

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Add a batch, of shape `(samples, *dims)`; a missing truth, NaN, does not count."""
        known = ~np.isnan(truth)
        error = np.where(known, predicted - np.where(known, truth, 0.0), 0.0).astype(np.float64)
        self._squares = self._squares + np.sum(error**2, axis=self._axes)
        self._counts = self._counts + np.sum(known, axis=self._axes)

    def rmse(self) -> np.ndarray:
        """Return the root mean square error at each point; NaN where no truth is known."""
        mean = self._squares / np.where(self._counts, self._counts, 1)
        return np.where(self._counts, np.sqrt(mean), np.nan)


def evaluate(
    surrogate: Surrogate, test: AnySplit, train_mean: Arrays, config: EvaluateConfig
) -> Evaluation:
    """Predict a split and measure every prediction against the truth, where that is not missing.

    Of each sample some numbers are kept and no field, so that memory does not grow with a split in
    files; those to show are read again. The baseline is the training split's `mean_fields`. Refused
    are a split without a sample or true value, and a surrogate that was trained on other fields or
    frames, or on fields without gaps that have some here.
    """
    _require_fit(surrogate, test)
    description, states = surrogate.description, surrogate.description.timed
    outputs = test.schema.outputs
    means = description.truth({name: mean[None] for name, mean in train_mean.items()})
    steps = frames_to_predict(description, test.schema)
    spaces = {field.name: space_of(field, test.schema) for field in outputs}

    model = Errors(description.outputs, states, spaces, spectra=True)
    baseline, persistence = (Errors(description.outputs, states, spaces) for _ in range(2))
    # Unordered points differ from sample to sample, so that they have no map.
    maps = {} if test.schema.coordinates else {f.name: ErrorMap(f) for f in outputs if f.dims}
    for fields in batches(test, config.batch_size):
        given, true = description.given(fields), description.truth(fields)
        predicted = surrogate.predict(given, config.batch_size, steps)
        model.add(predicted, true, description.normaliser.rises(true, given))
        for name, error_map in maps.items():
            error_map.add(predicted[name], true[name])
        expected = {name: np.broadcast_to(means[name], field.shape) for name, field in true.items()}
        baseline.add(expected, true)
        if description.observes:
            persistence.add(expected | last_read(description.sensors, given, expected), true)
        elif states:
            persistence.add(expected | kept_frames(states, given, expected, true), true)
    if not measured(model.whole).any():
        raise InputError(
            f"the {test.name} split has no value of {', '.join(sorted(description.outputs))} to "
            "compare predictions with; give it samples that have some"
        )

    checked, _ = _read(description, test, slice(0, config.check_samples))
    time = next((axis for axis in test.schema.axes if axis.name == "time"), None)
    return Evaluation(
        outputs=tuple(outputs),
        ways={"": model, "baseline_": baseline} | ({"persistence_": persistence} if states else {}),
        indices=test.indices,
        examples=_examples(surrogate, test, steps, model),
        check_inputs=checked,
        check_predictions=surrogate.predict(checked, config.batch_size),
        times=(time.points[-steps:], time.units) if steps and time else None,
        error_maps={name: error_map.rmse() for name, error_map in maps.items()},
        interval_config=config.intervals,
    )


def ranked(errors: np.ndarray, known: np.ndarray) -> dict[str, int]:
    """Return the positions of the best, the median and the worst sample among those known.

    Both shapes are `(samples,)`. Ties go to the earlier sample, the median of an even number is the
    better of the middle two, and NaN counts as the worst.
    """
    among = np.flatnonzero(known)
    order = among[np.argsort(errors[among], kind="stable")]
    middle = (len(order) - 1) // 2
    return {"best": int(order[0]), "median": int(order[middle]), "worst": int(order[-1])}


def frames_to_predict(description: Description, schema: Schema) -> int | None:
    """Return how many frames of a dataset follow those that a model is given; none without states.

    Refused is a dataset that has none, or at other distances than the model continues them, or
    another number where it predicts all at once.
    """
    forecast = description.forecast
    if forecast is None:
        return None
    if set(description.times) != {field.name for field in schema.times}:
        raise InputError(
            "samples of the dataset have times of their own, and those that the model was trained "
            "on have not, or the other way round: train again on this dataset"
        )
    if forecast.observes:
        return len(next(axis for axis in schema.axes if axis.name == "time").points)
    time = "axis" if forecast.along_time else "frames"
    task = TaskConfig(history=forecast.history, scheme=forecast.scheme, time=time)
    here = forecast_of(task, schema.fields, schema.axes)
    if here is None or not (description.times or _follow_alike(here, forecast)):
        raise InputError(
            f"the model continues frames that are {forecast.interval:g} apart; those of the "
            "dataset are not: train again on this dataset"
        )
    if not description.any_steps and here.steps != forecast.steps:
        raise InputError(
            f"the model predicts {forecast.steps} frames at once, but the dataset has {here.steps} "
            f"after the first {forecast.history}; train again on this dataset"
        )
    return here.steps


def _follow_alike(one: Forecast, other: Forecast) -> bool:
    """Say whether the frames of two forecasts are as far apart, as far as both go."""
    pairs = zip((one.interval, *one.intervals), (other.interval, *other.intervals), strict=False)
    alike = bool(one.intervals) == bool(other.intervals)
    return alike and all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)


def _examples(
    surrogate: Surrogate, test: AnySplit, steps: int | None, found: Errors
) -> tuple[Example, ...]:
    ranks: dict[int, list[str]] = {}
    errors = relative_l2(found.whole)
    for rank, position in ranked(errors, measured(found.whole)).items():
        ranks.setdefault(position, []).append(rank)
    examples = []
    for position, names in ranks.items():
        given, true = _read(surrogate.description, test, slice(position, position + 1))
        arrays = (given, true, surrogate.predict(given, steps=steps))
        shown = ({name: array[0] for name, array in fields.items()} for fields in arrays)
        index, error = int(test.indices[position]), float(errors[position])
        examples.append(Example(tuple(names), index, error, *shown))
    return tuple(examples)


def _read(
    description: Description, test: AnySplit, samples: slice
) -> tuple[FieldArrays, FieldArrays]:
    fields = {name: array[samples] for name, array in test.fields.items()}
    return description.given(fields), description.truth(fields)


def _require_fit(surrogate: Surrogate, test: AnySplit) -> None:
    if not len(test):
        raise InputError(
            f"the {test.name} split is empty; generate more samples or give it a larger share"
        )
    kinds = (test.schema.inputs, test.schema.outputs)
    inputs, outputs = (sorted(field.name for field in fields) for fields in kinds)
    trained = (sorted(surrogate.description.inputs), sorted(surrogate.description.outputs))
    if trained != (inputs, outputs):
        raise InputError(
            f"the dataset maps {inputs} to {outputs}, but the model was trained to map "
            f"{trained[0]} to {trained[1]}; train again on this dataset"
        )


Predict = Callable[[dict[str, np.ndarray]], Arrays]


def split_error(
    predict: Predict, split: AnySplit, batch_size: int, history: int = 0, first: int = 0
) -> Pooled:
    """Return the relative L2 error of a model on a split, as `evaluate` measures it, by sample.

    The model takes fields of shape `(samples, *dims)`, of a state so many frames (`history`), and
    returns outputs. States are compared from frame `first` on; other frames are an InputError.
    """
    states = {field.name for field in split.schema.fields if field.role == "state"}
    totals = {field.name: Statistics() for field in split.schema.outputs}
    for fields in batches(split, batch_size):
        schema = split.schema
        used = (*schema.inputs, *schema.coordinates, *schema.times)
        given = {field.name: fields[field.name] for field in used}
        predicted = predict({n: x[:, :history] if n in states else x for n, x in given.items()})
        for name in totals:
            found, truth = np.asarray(predicted[name]), fields[name]
            if name in states:
                missing = truth.shape[1] - history - found.shape[1]
                if first < history or missing:
                    raise InputError(
                        f"the model predicts frames {history} to {history + found.shape[1] - 1} of "
                        f"{name}; expected all from {first} to {truth.shape[1] - 1}"
                    )
                found, truth = found[:, first - history :], truth[:, first:]
            totals[name] += Statistics.of(found, truth)
    return pooled_relative_l2(totals)


def mean_fields(split: AnySplit) -> dict[str, np.ndarray]:
    """Return the mean over a split's samples of each output field, float64; of states by frame.

    Missing values (NaN) do not count; at a point without any value it is the mean of the whole
    field. Of the training split, it is the baseline that a surrogate has to beat.
    """
    means = {}
    for name in (field.name for field in split.schema.outputs):
        array = split.fields[name]
        totals = np.zeros(array.shape[1:])
        counts = np.zeros(array.shape[1:], dtype=np.int64)
        for rows in blocks(array):
            values = array[rows]
            missing = np.isnan(values)
            present = np.where(missing, np.float32(0), values) if missing.any() else values
            totals += present.sum(axis=0, dtype=np.float64)
            counts += len(values) - missing.sum(axis=0)
        whole = totals.sum() / max(int(counts.sum()), 1)
        means[name] = np.where(counts, totals / np.maximum(counts, 1), whole)
    return means


def kept_frames(
    states: Iterable[str], given: Arrays, expected: Arrays, truth: Arrays
) -> FieldArrays:
    """Return what persistence predicts of states: the last given frame, again and again.

    A point whose value is missing there keeps its last given value that is not; where all are, the
    mean field's next value takes its place. So the baseline is defined everywhere; nothing is
    filled in in the data, nor in what a model is given.

    From the given frames, `(samples, history, *grid)`, and the mean field, `(samples or 1, frames,
    *grid)`, come as many frames as the truth has, by name.
    """
    found = {}
    for name in states:
        kept, frames = given[name][:, -1:], given[name].shape[1]
        others = [given[name][:, k : k + 1] for k in reversed(range(frames - 1))]
        for other in (*others, expected[name][:, :1]):
            kept = np.where(np.isnan(kept), other, kept) if np.isnan(kept).any() else kept
        found[name] = np.broadcast_to(kept, truth[name].shape)
    return found


def last_read(sensors: Iterable[str], given: Arrays, expected: Arrays) -> FieldArrays:
    """Return what persistence tells of the fields that an observer reads: the last reading so far.

    Before the first one it has the mean field. All are `(samples, frames, *place)`, by name.
    """
    found = {}
    for name in sensors:
        last, frames = expected[name][:, 0], []
        for read in np.moveaxis(given[name + READ], 1, 0):
            last = np.where(np.isnan(read), last, read)
            frames.append(last)
        found[name] = np.stack(frames, axis=1)
    return found


def batches(split: AnySplit, batch_size: int, every: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Yield all fields of some samples, again and again: of each, or of every so many-th."""
    numbers = np.arange(0, len(split), every)
    for start in range(0, len(numbers), batch_size):
        chosen = numbers[start : start + batch_size]
        yield {name: np.asarray(array[chosen]) for name, array in split.fields.items()}


def some_samples(split: AnySplit, count: int) -> Split:
    """Return at most so many samples of a split, evenly spread over it."""
    total = len(split)
    rows = np.arange(min(count, total)) * total // max(min(count, total), 1)
    fields = {name: np.asarray(array[rows]) for name, array in split.fields.items()}
    return Split(split.name, split.schema, fields, split.indices[rows])


def mean_error(found: Pooled) -> dict[str, float | int | None]:
    """Return what `split_error` found for JSON: mean and standard error of the samples measured.

    Both are None where an error is not finite or there is none; the standard error also of one
    sample, which says nothing of it.
    """
    errors = found.columns[0][found.columns[1] > 0]
    mean = float(errors.mean()) if len(errors) else math.nan
    with np.errstate(invalid="ignore"):
        spread = float(errors.std(ddof=1)) if len(errors) > 1 else math.nan
    deviation = spread / math.sqrt(max(len(errors), 1))
    return {
        "relative_l2": mean if math.isfinite(mean) else None,
        "standard_error": deviation if math.isfinite(deviation) else None,
        "measured": len(errors),
    }
