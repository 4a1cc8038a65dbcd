"""Evaluating a surrogate on a split, batch by batch, in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.errors import InputError
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.result import Evaluation, Example, FieldArrays, relative_l2
from mno.evaluation.statistics import Statistics

if TYPE_CHECKING:
    from mno.data.reading import Split
    from mno.surrogate import Surrogate


def mean_fields(split: Split) -> FieldArrays:
    """Return the mean over a split's samples of each output field, float64.

    Handed the training split, it is the baseline that a surrogate has to beat.
    """
    names = [field.name for field in split.schema.outputs]
    return {name: np.asarray(split.fields[name].mean(axis=0, dtype=np.float64)) for name in names}


def evaluate(
    surrogate: Surrogate,
    test: Split,
    train_mean: Mapping[str, np.ndarray],
    config: EvaluateConfig,
) -> Evaluation:
    """Predict a split and measure every prediction against the truth.

    Predictions are measured batch by batch and dropped; those of the samples to show are made
    again at the end, so that memory does not grow with the number of samples.

    Args:
        surrogate: The trained operator.
        test: Samples it was not trained on.
        train_mean: The training split's `mean_fields`.
        config: Batch size and samples kept.

    Raises:
        InputError: The split is empty, or the surrogate was trained on other fields.
    """
    inputs = {field.name: test.fields[field.name] for field in test.schema.inputs}
    truth = {field.name: test.fields[field.name] for field in test.schema.outputs}
    _require_fit(surrogate, test, inputs, truth, train_mean)

    model = {name: Statistics() for name in truth}
    baseline = {name: Statistics() for name in truth}
    for start in range(0, len(test), config.batch_size):
        batch = slice(start, start + config.batch_size)
        predicted = surrogate.predict(_take(inputs, batch), config.batch_size)
        for name, true in _take(truth, batch).items():
            mean_field = np.broadcast_to(train_mean[name], true.shape)
            model[name] += Statistics.of(predicted[name], true)
            baseline[name] += Statistics.of(mean_field, true)

    checked = _take(inputs, slice(0, config.check_samples))
    return Evaluation(
        split=test.name,
        outputs=tuple(test.schema.outputs),
        model=model,
        baseline=baseline,
        indices=test.indices,
        examples=_examples(surrogate, test, inputs, truth, relative_l2(model)),
        check_inputs=checked,
        check_predictions=surrogate.predict(checked, config.batch_size),
    )


def ranked(errors: np.ndarray) -> dict[str, int]:
    """Return the positions of the best, the median and the worst sample.

    Ties go to the earlier sample, the median of an even number is the better of the middle two,
    and NaN counts as the worst.
    """
    order = np.argsort(errors, kind="stable")
    return {
        "best": int(order[0]),
        "median": int(order[(len(order) - 1) // 2]),
        "worst": int(order[-1]),
    }


def _examples(
    surrogate: Surrogate,
    test: Split,
    inputs: FieldArrays,
    truth: FieldArrays,
    errors: np.ndarray,
) -> tuple[Example, ...]:
    ranks: dict[int, list[str]] = {}
    for rank, position in ranked(errors).items():
        ranks.setdefault(position, []).append(rank)
    examples = []
    for position, names in ranks.items():
        alone = slice(position, position + 1)
        predicted = surrogate.predict(_take(inputs, alone))
        examples.append(
            Example(
                ranks=tuple(names),
                index=int(test.indices[position]),
                relative_l2=float(errors[position]),
                inputs={name: array[position] for name, array in inputs.items()},
                truth={name: array[position] for name, array in truth.items()},
                prediction={name: array[0] for name, array in predicted.items()},
            )
        )
    return tuple(examples)


def _require_fit(
    surrogate: Surrogate,
    test: Split,
    inputs: FieldArrays,
    truth: FieldArrays,
    train_mean: Mapping[str, np.ndarray],
) -> None:
    if not len(test):
        raise InputError(
            f"the {test.name} split is empty; generate more samples or give it a larger share"
        )
    trained = (sorted(surrogate.description.inputs), sorted(surrogate.description.outputs))
    if trained != (sorted(inputs), sorted(truth)):
        raise InputError(
            f"the dataset maps {sorted(inputs)} to {sorted(truth)}, but the model was trained to "
            f"map {trained[0]} to {trained[1]}; train again on this dataset"
        )
    if set(train_mean) != set(truth):
        raise InputError(
            f"mean fields are given of {sorted(train_mean)}; expected those of {sorted(truth)}"
        )


def _take(arrays: Mapping[str, np.ndarray], samples: slice) -> FieldArrays:
    return {name: array[samples] for name, array in arrays.items()}
