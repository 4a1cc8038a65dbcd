"""Evaluating a surrogate on a split, batch by batch, in physical units."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import TaskConfig, forecast_of
from mno.data.reading import Schema, Split, StoredSplit
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.metrics import measured, relative_l2
from mno.evaluation.result import Errors, Evaluation, Example, FieldArrays, OverTime
from mno.evaluation.scoring import kept_frame
from mno.evaluation.statistics import space_of
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate


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
    surrogate: Surrogate,
    test: Split | StoredSplit,
    train_mean: Mapping[str, np.ndarray],
    config: EvaluateConfig,
) -> Evaluation:
    """Predict a split and measure every prediction against the truth, where that is not missing.

    Samples are read, predicted and measured batch by batch and dropped; those to show are read and
    predicted again at the end. So of each sample some numbers are kept and no field, and memory
    does not grow with the split where that lies in files.

    Args:
        surrogate: The trained operator.
        test: Samples it was not trained on, in memory or in files.
        train_mean: The training split's `mean_fields`.
        config: Batch size and samples kept.

    Raises:
        InputError: The split has no sample or no true value, or the surrogate was trained on other
            fields or frames, or on fields without gaps that have some here.
    """
    _require_fit(surrogate, test, train_mean)
    description, states = surrogate.description, surrogate.description.states
    outputs = test.schema.outputs
    means = description.truth({name: mean[None] for name, mean in train_mean.items()})
    steps = frames_to_predict(description, test.schema)
    spaces = {field.name: space_of(field, test.schema) for field in outputs}

    model = Errors(description.outputs, states, spaces, spectra=True)
    baseline, persistence = (Errors(description.outputs, states, spaces) for _ in range(2))
    # Unordered points differ from sample to sample, so that they have no map.
    maps = {} if test.schema.coordinates else {f.name: ErrorMap(f) for f in outputs if f.dims}
    for start in range(0, len(test), config.batch_size):
        given, true = _read(description, test, slice(start, start + config.batch_size))
        predicted = surrogate.predict(given, config.batch_size, steps)
        model.add(predicted, true)
        for name, error_map in maps.items():
            error_map.add(predicted[name], true[name])
        expected = {name: np.broadcast_to(means[name], field.shape) for name, field in true.items()}
        baseline.add(expected, true)
        if states:
            last = {n: kept_frame(given[n], expected[n]) for n in states}
            kept = {n: np.broadcast_to(last[n], true[n].shape) for n in states}
            persistence.add(expected | kept, true)
    if not measured(model.whole).any():
        raise InputError(
            f"the {test.name} split has no value of {', '.join(sorted(description.outputs))} to "
            "compare predictions with; give it samples that have some"
        )

    checked, _ = _read(description, test, slice(0, config.check_samples))
    over_time = None
    if steps:
        (time,) = (axis for axis in test.schema.axes if axis.name == "time")
        over_time = OverTime.of(time.points[-steps:], time.units, model, baseline, persistence)
    return Evaluation(
        outputs=tuple(outputs),
        model=model.whole,
        baseline=baseline.whole,
        persistence=persistence.whole if states else {},
        indices=test.indices,
        examples=_examples(surrogate, test, steps, model),
        check_inputs=checked,
        check_predictions=surrogate.predict(checked, config.batch_size),
        over_time=over_time,
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

    Raises:
        InputError: There are none, they are at other distances than the model continues them, or
            it predicts another number at once.
    """
    forecast = description.forecast
    if forecast is None:
        return None
    task = TaskConfig(history=forecast.history, scheme=forecast.scheme)
    here = forecast_of(task, schema.fields, schema.axes)
    if here is None or not math.isclose(here.interval, forecast.interval, rel_tol=1e-6):
        raise InputError(
            f"the model continues frames that are {forecast.interval:g} apart; those of the "
            "dataset are not: train again on this dataset"
        )
    if forecast.scheme == "horizon" and here.steps != forecast.steps:
        raise InputError(
            f"the model predicts {forecast.steps} frames at once, but the dataset has {here.steps} "
            f"after the first {forecast.history}; train again on this dataset"
        )
    return here.steps


def _examples(
    surrogate: Surrogate, test: Split | StoredSplit, steps: int | None, found: Errors
) -> tuple[Example, ...]:
    ranks: dict[int, list[str]] = {}
    errors = relative_l2(found.whole)
    for rank, position in ranked(errors, measured(found.whole)).items():
        ranks.setdefault(position, []).append(rank)
    examples = []
    for position, names in ranks.items():
        given, true = _read(surrogate.description, test, slice(position, position + 1))
        arrays = (given, true, surrogate.predict(given, steps=steps))
        examples.append(
            Example(
                tuple(names),
                int(test.indices[position]),
                float(errors[position]),
                *({name: array[0] for name, array in fields.items()} for fields in arrays),
            )
        )
    return tuple(examples)


def _read(
    description: Description, test: Split | StoredSplit, samples: slice
) -> tuple[FieldArrays, FieldArrays]:
    """Return what the model is given of some samples, and what it is to predict."""
    fields = {name: array[samples] for name, array in test.fields.items()}
    return description.given(fields), description.truth(fields)


def _require_fit(
    surrogate: Surrogate, test: Split | StoredSplit, train_mean: Mapping[str, np.ndarray]
) -> None:
    if not len(test):
        raise InputError(
            f"the {test.name} split is empty; generate more samples or give it a larger share"
        )
    inputs, outputs = (
        sorted(field.name for field in fields)
        for fields in (test.schema.inputs, test.schema.outputs)
    )
    trained = (sorted(surrogate.description.inputs), sorted(surrogate.description.outputs))
    if trained != (inputs, outputs):
        raise InputError(
            f"the dataset maps {inputs} to {outputs}, but the model was trained to map "
            f"{trained[0]} to {trained[1]}; train again on this dataset"
        )
    if set(train_mean) != set(outputs):
        raise InputError(
            f"mean fields are given of {sorted(train_mean)}; expected those of {outputs}"
        )
