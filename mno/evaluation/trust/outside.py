"""Inputs from outside the training data, to measure how many of them are not noticed.

Two kinds: test samples that are spoilt, as by sensors, and problems that the scenario draws with
other parameters than those of the dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import MnoError
from mno.evaluation.robustness.streams import stream
from mno.evaluation.solving import other_solver, solver_of

if TYPE_CHECKING:
    from mno.data.reading import Schema, Split, StoredSplit
    from mno.surrogate.description import Description

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
    if isinstance(scenario, str):
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
    if isinstance(scenario, str) or (description.forecast and description.forecast.history > 1):
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
