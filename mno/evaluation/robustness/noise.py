"""Noise on the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mno.data.reading import Split
from mno.evaluation.robustness.curve import Result, curve
from mno.evaluation.robustness.streams import stream
from mno.evaluation.robustness.trial import Trial
from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]


def under_noise(trial: Trial, samples: Split, levels: Sequence[float], seed: int) -> Result | str:
    """Return the errors by level of white normal noise on all that the model is given.

    A level is in standard deviations of each input over the training split; coordinates of points
    are known. Each sample has one draw, that levels only scale, so that curves are smooth. Level 0
    is the model on the data as they are. Keeping the last frame suffers from the noise, too.
    """
    given = trial.description.given(samples.fields)
    truth = trial.description.truth(samples.fields)
    draws = _draws(trial.description, given, samples.indices, seed)
    return curve(
        {
            level: trial.errors(_noisy(given, draws, level), truth)
            for level in (0.0, *sorted(set(levels)))
        },
        seed,
    )


def _noisy(given: Arrays, draws: Arrays, level: float) -> dict[str, np.ndarray]:
    if not level:
        return dict(given)
    return {n: x + np.float32(level) * draws[n] if n in draws else x for n, x in given.items()}


def _draws(
    description: Description, given: Arrays, numbers: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Return noise of one standard deviation for each input, float32."""
    draws = {name: np.empty_like(given[name]) for name in description.inputs}
    for row, number in enumerate(numbers):
        rng = stream(seed, "noise", int(number))
        for name, values in draws.items():
            normal = rng.standard_normal(values.shape[1:])
            values[row] = _deviation(description, name, given[name]) * normal
    return draws


def _deviation(description: Description, name: str, values: np.ndarray) -> float:
    """Return an input's standard deviation; 0 of a constant one, where a normaliser says 1."""
    deviation = description.normaliser.std[name]
    constant = deviation == 1.0 and _spread(values) == 0.0
    return 0.0 if constant else deviation


def _spread(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.ptp(known)) if known.size else 0.0
