"""What a model's predictions of a split are like: errors, and what is known without the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mno.surrogate.trust.bounds import sample_errors, size
from mno.surrogate.trust.out_of_distribution import describe
from mno.surrogate.trust.trust import Equation

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit
    from mno.surrogate.description import Description
    from mno.surrogate.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Observed:
    """What was seen of the predictions of a split.

    Attributes:
        features: Of the inputs, shape `(samples,)` each, by name.
        residual: That predictions leave in the equation, shape `(samples,)`; or why there is none.
        sizes: Root mean squares of the predictions by field, shape `(samples,)`.
        errors: By field and measure, shape `(samples, frames)`; see `sample_errors`.
    """

    features: Mapping[str, np.ndarray]
    residual: np.ndarray | str
    sizes: Mapping[str, np.ndarray]
    errors: Mapping[str, Mapping[str, np.ndarray]]


def observe(
    surrogate: Surrogate,
    split: Split | StoredSplit,
    equation: Equation | str,
    finest: int,
    batch_size: int,
    steps: int | None,
) -> Observed:
    """Predict a split batch by batch, and keep a few numbers of each sample.

    Args:
        surrogate: The model.
        split: The samples.
        equation: What predictions are put into; or why there is none.
        finest: Points along the shortest axis of the training grid.
        batch_size: Samples per forward pass.
        steps: Frames to predict; none without states.
    """
    description = surrogate.description
    features: list[Mapping[str, np.ndarray]] = []
    residuals: list[np.ndarray | str] = []
    sizes: list[Mapping[str, np.ndarray]] = []
    errors: list[Mapping[str, Mapping[str, np.ndarray]]] = []
    for fields in batches(split, batch_size):
        given, truth = description.given(fields), description.truth(fields)
        predicted = surrogate.predict(given, batch_size, steps)
        features.append(describe(description, given, finest))
        residuals.append(
            equation if isinstance(equation, str) else equation.residual(given, predicted)
        )
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


def _joined_residuals(parts: list[np.ndarray | str]) -> np.ndarray | str:
    reasons = [part for part in parts if isinstance(part, str)]
    return reasons[0] if reasons else np.concatenate([p for p in parts if not isinstance(p, str)])
