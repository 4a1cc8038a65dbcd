"""Training on shares of the training split, for the error as a function of its size."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from mno.core.config import Config
from mno.core.errors import InputError
from mno.training.config import TrainConfig

_STREAM = 4  # of the seed; mno.training.order has those below


class LearningCurveConfig(Config):
    """How the error is measured as a function of the number of training samples."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [],
        max_length=20,
        description="Shares of the training split to train on as well, for example "
        "`[0.125, 0.25, 0.5]`; each takes about as long as the training. None: no learning curve",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="Trainings per share, each with a subset and initial weights of its own",
    )


def nested_samples(samples: int, share: float, seed: int) -> np.ndarray:
    """Return which samples of a split a share of it holds, ascending, int64.

    A larger share holds all of a smaller one with the same seed.

    Args:
        samples: Samples in the split.
        share: Above 0, below 1.
        seed: Not negative.

    Raises:
        InputError: The share holds no sample, or all.
    """
    chosen = round(share * samples)
    if not 0 < chosen < samples:
        raise InputError(
            f"learning_curve.shares: {share:g} of {samples} training samples are {chosen}; "
            "expected at least 1 and fewer than all: give another share, or make more samples"
        )
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM,))
    order = np.random.default_rng(sequence).permutation(samples)
    return np.sort(order[:chosen]).astype(np.int64)


def with_as_many_steps(config: TrainConfig, samples: int, chosen: int) -> TrainConfig:
    """Return how to train on fewer samples with as many steps of the optimiser.

    With as many passes instead, an eighth of the samples would get an eighth of the steps, and the
    curve would credit the samples with what longer training does. So a share is passed over more
    often, and the learning rate and patience run out after as many steps; a last pass is begun or
    not as comes closer. One process does it.

    Args:
        config: Of the training on all samples.
        samples: How many these are.
        chosen: How many there are to train on.
    """
    more = _steps_per_epoch(config, samples) / _steps_per_epoch(config, chosen)
    return config.model_copy(
        update={
            "epochs": max(1, round(config.epochs * more)),
            "patience": max(1, math.ceil(config.patience * more)),
            "processes": 1,
        }
    )


def _steps_per_epoch(config: TrainConfig, samples: int) -> int:
    batches = -(-samples // config.batch_size)
    return -(-batches // config.accumulate)
