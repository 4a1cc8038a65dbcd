"""How an operator is trained: section `train` of `params.yaml`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.forecast import Forecast


class TrainConfig(Config):
    """Parameters of training; the trained weights depend on every one of them."""

    epochs: int = Field(60, ge=1, le=100_000, description="Passes over the training split, at most")
    batch_size: int = Field(
        16,
        ge=1,
        description="Samples per batch; larger than the split means one batch per epoch",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=100_000,
        description="Batches whose gradients make one optimiser step, as if they were one batch: "
        "for steps over more samples than memory holds at a time",
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        allow_inf_nan=False,
        description="Peak learning rate of AdamW, after the warm-up",
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=1,
        description="AdamW's decay of the matrices of linear and convolution layers",
    )
    warmup_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of all steps in which the rate rises linearly to its peak",
    )
    gradient_clip: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient of all weights"
    )
    patience: int = Field(
        20, ge=1, description="Epochs without a lower validation error after which training stops"
    )
    loss: Literal["relative_l2", "h1"] = Field(
        "relative_l2",
        description="What is minimised: the relative L2 error, or the relative H1 error, which "
        "counts the slopes of a field, too. Validation is by relative L2 in either case",
    )
    residual_weight: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight of the residual that a prediction leaves in the scenario's equation, "
        "relative to its source, in what is minimised; 0 leaves it out",
    )
    unroll: int = Field(
        1,
        ge=1,
        le=1000,
        description="Steps of a rollout that training takes at a time, from a random frame of each "
        "sample (rollouts of states)",
    )
    pushforward: bool = Field(
        False,
        description="Whether the last step alone is compared with the truth and has a gradient, "
        "after a number of steps that is drawn anew each time, below `unroll`: the operator learns "
        "from its own mistakes at the memory of one step (rollouts of states)",
    )
    augment: bool = Field(
        False,
        description="Whether each sample is turned in every epoch by one of the symmetries that "
        "its scenario declares",
    )
    input_noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Standard deviation of noise added to the inputs of training, in standard "
        "deviations of the field",
    )
    input_mask: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of points whose inputs are taken away in training, drawn anew each "
        "time: fields that may have gaps are missing there, others are replaced by their mean, "
        "and the operator is not told where",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="How much of the exponential moving average of the weights stays at each step; "
        "the averaged weights are validated and saved; 0 means no average",
    )
    precision: Literal[32, "bf16"] = Field(
        32,
        description="Bits of a number in the layers: 32, or `bf16` for mixed precision in training "
        "where the device has it; weights, validation and losses keep 32",
    )
    warm_start: str | None = Field(
        None,
        description="Trained model whose weights to start from, `SOURCE#DIGEST`; none means fresh "
        "weights",
    )
    threads: int = Field(
        2,
        ge=1,
        le=1024,
        description="Threads within a torch operation; sums, and so the weights, depend on it",
    )
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that each take a share of every batch, on one machine: on so many "
        "times `threads` cores, or one CUDA device each. The weights differ by rounding",
    )


def check_unroll(config: TrainConfig, forecast: Forecast | None) -> None:
    """Refuse to unroll more steps than a sample has frames to predict.

    Raises:
        InputError: There are fewer.
    """
    if forecast and forecast.scheme == "rollout" and config.unroll > forecast.steps:
        raise InputError(
            f"train.unroll={config.unroll} is more than the {forecast.steps} frames that "
            f"task.history={forecast.history} leaves to predict; choose {forecast.steps} or less"
        )


_STREAM = 4  # of the seed; mno.training.batches has those below


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
