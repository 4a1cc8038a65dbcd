"""A batch's forward pass: its parts side by side, each on a core of its own.

Threads that share one pass wait for each other after every operation, and spin while they wait,
which costs most where clients want the same cores. Parts of a batch have nothing to wait for, and
what a small part works on stays in its core's cache. A single part has all cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mno.memory import keep_freed_memory
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

    def split(self, samples: list[int]) -> list[Found]:
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


class Forward:
    """Asks a model, on as many cores as torch has threads."""

    def __init__(self) -> None:
        keep_freed_memory()  # else a fifth of a pass is page faults
        self._cores = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="forward")

    def __call__(self, served: Served, inputs: Arrays, steps: int | None) -> Found:
        """Predict, and estimate how far the predictions may be trusted.

        Args:
            served: The model.
            inputs: As `Surrogate.predict` takes them.
            steps: Likewise.

        Raises:
            InputError: The inputs do not fit the model.
        """
        parts = _parts(served, inputs)
        threads = max(1, self._cores // len(parts))
        asked = [self._pool.submit(_ask, served, part, steps, threads) for part in parts]
        found = [future.result() for future in asked]
        return found[0] if len(found) == 1 else _joined(found)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _parts(served: Served, inputs: Arrays) -> list[Arrays]:
    """Cut what has the same number of samples of each field; whatever else is one part."""
    description = served.surrogate.description
    some = inputs.get(description.fields[0])
    samples = {len(array) if array.ndim else 0 for array in inputs.values()}
    if some is None or len(samples) != 1:
        return [inputs]
    points = math.prod(some.shape[1:][-len(description.space) :])
    size = max(1, POINTS // max(points, 1))
    starts = range(0, max(len(some), 1), size)
    return [{name: array[k : k + size] for name, array in inputs.items()} for k in starts]


def _ask(served: Served, inputs: Arrays, steps: int | None, threads: int) -> Found:
    torch.set_num_threads(threads)  # of this thread of ours
    size = max((len(array) for array in inputs.values() if array.ndim), default=1)
    predictions = served.surrogate.predict(inputs, max(size, 1), steps)
    return Found(predictions, estimate(served, inputs, predictions, steps))


def _joined(found: list[Found]) -> Found:
    reasons = [part.estimate for part in found if isinstance(part.estimate, str)]
    known = [part.estimate for part in found if not isinstance(part.estimate, str)]
    return Found(
        _together([part.predictions for part in found]),
        reasons[0] if reasons else _together(known),
    )


def _together(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
