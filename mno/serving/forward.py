"""One pass of a model over some samples, and how samples are cut into parts for several passes.

Threads that share one pass wait for each other after every operation, and spin while they wait,
which costs most where clients want the same cores. Parts have nothing to wait for, and what a
small part works on stays in its core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mno.serving.estimate import estimate
from mno.serving.follower import Served

Arrays = Mapping[str, np.ndarray]

POINTS = 4096  # of a part; at a width of 64 an array of features is then 1 MiB


@dataclass(frozen=True, eq=False)
class Found:
    """What a model says of some samples.

    Attributes:
        predictions: Arrays by field name.
        estimate: How far they may be trusted, arrays `(samples, ...)` by name; see
            `mno.serving.estimate`. Or, in one line, why nothing is known of that.
    """

    predictions: dict[str, np.ndarray]
    estimate: dict[str, np.ndarray] | str

    def split(self, samples: Sequence[int]) -> list[Found]:
        """Return the parts of so many samples each, one after the other."""
        ends = np.cumsum(samples)
        spans = [slice(end - count, end) for end, count in zip(ends, samples, strict=True)]
        estimate = self.estimate
        return [
            Found(
                {name: array[span] for name, array in self.predictions.items()},
                estimate
                if isinstance(estimate, str)
                else {name: array[span] for name, array in estimate.items()},
            )
            for span in spans
        ]


def samples_of_a_part(served: Served, inputs: Arrays) -> int:
    """Return how many samples one pass on one core is to have, at least one.

    Args:
        served: The model.
        inputs: As `Surrogate.predict` takes them.
    """
    description = served.surrogate.description
    some = inputs.get(description.fields[0])
    points = 1 if some is None else math.prod(some.shape[1:][-len(description.space) :])
    return max(1, POINTS // max(points, 1))


def forward(served: Served, inputs: Arrays, steps: int | None, threads: int) -> Found:
    """Predict in one pass, and estimate how far the predictions may be trusted.

    Args:
        served: The model.
        inputs: As `Surrogate.predict` takes them.
        steps: Likewise.
        threads: On how many; a setting of the thread that calls this.

    Raises:
        InputError: The inputs do not fit the model.
    """
    torch.set_num_threads(threads)
    size = max((len(array) for array in inputs.values() if array.ndim), default=1)
    predictions = served.surrogate.predict(inputs, max(size, 1), steps)
    return Found(predictions, estimate(served, inputs, predictions, steps))


def joined(found: Sequence[Found]) -> Found:
    """Return what was found of several parts as one; an estimate, if there is one of each."""
    reasons = [part.estimate for part in found if isinstance(part.estimate, str)]
    known = [part.estimate for part in found if not isinstance(part.estimate, str)]
    return Found(
        _together([part.predictions for part in found]),
        reasons[0] if reasons else _together(known),
    )


def _together(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
