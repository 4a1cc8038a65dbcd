"""How an operator is trained: section `train` of `params.yaml`."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from mno.core import fields as data
from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.forecast import Forecast

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Config):
    """Parameters of training; the trained weights depend on every one of them."""

    epochs: int = Field(60, ge=1, le=100_000)
    """Passes over the training split, at most"""
    batch_size: Count = 16
    """Samples per batch; larger than the split means one batch per epoch"""
    accumulate: Annotated[Count, Field(le=100_000)] = 1
    """Batches whose gradients make one optimiser step, as if they were one batch: for steps over
    more samples than memory holds at a time"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What makes a step of a gradient: `adamw`, or `muon` for matrices, which turns a layer in all
    directions alike; its steps take a little longer, and fewer are needed"""
    learning_rate: Positive = 2e-3
    """Peak learning rate, after the warm-up"""
    weight_decay: Annotated[Amount, Field(le=1)] = 1e-4
    """Decay of the matrices of linear and convolution layers"""
    warmup_fraction: Share = 0.1
    """Share of all steps in which the rate rises linearly to its peak"""
    gradient_clip: Positive = 1.0
    """Largest norm of the gradient of all weights"""
    patience: Count = 20
    """Epochs without a lower validation error after which training stops"""
    loss: Literal["relative_l2", "h1"] = "relative_l2"
    """What is minimised: the relative L2 error, or the relative H1 error, which counts the slopes
    of a field, too. Validation is by relative L2 in either case"""
    residual_weight: Amount = 0.0
    """Weight of the residual that a prediction leaves in the scenario's equation, relative to its
    source, in what is minimised; 0 leaves it out"""
    derivatives: Amount = 0.0
    """Weight of the error in what the solver's Jacobian makes of directions, where the dataset has
    that (`generate.derivatives`), in what is minimised; 0 leaves it out"""
    unroll: Annotated[Count, Field(le=1000)] = 1
    """Steps of a rollout that training takes at a time, from a random frame of each sample
    (rollouts of states)"""
    augment: bool = False
    """Whether each sample is turned in every epoch by one of the symmetries that its scenario
    declares"""
    input_noise: Amount = 0.0
    """Standard deviation of noise added to the inputs of training, in standard deviations of the
    field"""
    input_mask: Share = 0.0
    """Share of points whose inputs are taken away in training, drawn anew each time: fields that
    may have gaps are missing there, others are replaced by their mean, and the operator is not told
    where"""
    ema_decay: Share = 0.0
    """How much of the exponential moving average of the weights stays at each step; the averaged
    weights are validated and saved; 0 means no average"""
    precision: Literal[32, "bf16"] = 32
    """Bits of a number in the layers: 32, or `bf16` for mixed precision in training where the
    device has it; weights, validation and losses keep 32"""
    beta2: float = Field(0.999, ge=0.5, lt=1.0)
    """Decay of the optimiser's mean of squared gradients; 0.95 forgets large early gradients
    sooner, from which short trainings gain"""
    scales: dict[str, str] = {}
    """What of a field the model is given or predicts, by its name, where that is to be another than
    the dataset says: it as it is (`plain`), its logarithm (`log`), or its difference from an input
    or a number (`less ambient_temperature`, `less 293.15`)"""
    warm_start: str | None = None
    """Trained model whose weights to start from, `SOURCE#DIGEST`; none means fresh weights"""
    threads: Annotated[Count, Field(le=1024)] = 2
    """Threads within a torch operation; sums, and so the weights, depend on it"""
    processes: Annotated[Count, Field(le=1024)] = 1
    """Processes that each take a share of every batch, on one machine: on so many times `threads`
    cores, or one CUDA device each. The weights differ by rounding"""

    @field_validator("scales")
    @classmethod
    def _are_scales(cls, scales: dict[str, str]) -> dict[str, str]:
        for name, scale in scales.items():
            try:
                data.difference_from(scale)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return scales

    def steps_per_epoch(self, samples: int) -> int:
        """Return the optimiser steps of a pass over so many samples."""
        return -(-samples // (self.batch_size * self.accumulate))


def check_unroll(config: TrainConfig, forecast: Forecast | None) -> None:
    """Refuse to unroll more steps than a sample has frames to predict."""
    if forecast and forecast.scheme == "rollout" and config.unroll > forecast.steps:
        raise InputError(
            f"train.unroll={config.unroll} is more than the {forecast.steps} frames that "
            f"task.history={forecast.history} leaves to predict; choose {forecast.steps} or less"
        )


def check_derivatives(config: TrainConfig, there: bool, forecast: Forecast | None) -> None:
    """Refuse to match derivatives where the dataset has none, or predictions follow each other."""
    wanted = f"train.derivatives={config.derivatives:g}"
    if config.derivatives and not there:
        raise InputError(
            f"{wanted} needs derivatives of fields in the dataset, which has none: set "
            "task.part=fields and generate.derivatives=8, if the scenario has them, or else "
            "train.derivatives=0"
        )
    if config.derivatives and forecast and (forecast.scheme == "rollout" or forecast.along_time):
        raise InputError(
            f"{wanted} is for predictions made at once; set task.scheme=horizon and a model "
            "without time as an axis, or train.derivatives=0"
        )


def scales_of(
    fields: Sequence[data.Field], chosen: Mapping[str, str], walls: str
) -> dict[str, str]:
    """Return the scale of each field that is not plain: as chosen, or else as its dataset says.

    `chosen` is `train.scales`, `walls` is `model.walls`. An `InputError` says that a field is not
    there, or a scale does not fit it.
    """
    known = {field.name: field for field in fields}
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(
            f"train.scales names {', '.join(unknown)}, which the data do not have; they have "
            f"{', '.join(known)}"
        )
    scales = {name: chosen.get(name, field.scale) for name, field in known.items()}
    for name, scale in scales.items():
        field, other = known[name], data.difference_from(scale)
        if scale == data.PLAIN:
            continue
        if field.role == "coordinate":
            why = "it says where points are"
        elif walls == "zero" and field.role in ("output", "state"):
            why = "model.walls=zero has it vanish at the walls, which on that scale it does not"
        elif isinstance(other, str):
            why = _why_not_less(field, known.get(other), scales.get(other, data.PLAIN))
        else:
            why = ""
        if why:
            raise InputError(
                f"{name} cannot be taken as its scale {scale!r} says: {why}; set "
                f"train.scales={{{name}: {data.PLAIN}}}, or choose another scale"
            )
    return {name: scale for name, scale in scales.items() if scale != data.PLAIN}


def _why_not_less(field: data.Field, other: data.Field | None, scale: str) -> str:
    """Return why a field cannot be taken less another one on a scale; empty if it can."""
    if other is None:
        return "there is no such field"
    space = tuple(dim for dim in field.dims if dim != "time")
    if other.role != "input" or other.dims not in ((), space):
        return (
            f"{other.name} is an {other.role} with axes ({', '.join(other.dims)}); expected an "
            f"input that is one number per sample, or on ({', '.join(space)}) at all times"
        )
    if other.gaps:
        return f"values of {other.name} may be missing"
    if isinstance(data.difference_from(scale), str) or other is field:
        return f"{other.name} is itself taken {scale}"
    return ""


_STREAM = 4  # of the seed; mno.training.batches has those below


class LearningCurveConfig(Config):
    """How the error is measured as a function of the number of training samples."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field([], max_length=20)
    """Shares of the training split to train on as well, for example `[0.125, 0.25, 0.5]`; each
    takes about as long as the training. None: no learning curve"""
    seeds: Annotated[Count, Field(le=100)] = 1
    """Trainings per share, each with a subset and initial weights of its own"""


def nested_samples(samples: int, share: float, seed: int) -> np.ndarray:
    """Return which samples of a split a share of it holds, ascending, int64.

    A larger share (above 0, below 1) holds all of a smaller one with the same seed. An `InputError`
    says that the share holds no sample, or all.
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
    not as comes closer. One process does it. The config is of the training on all `samples`; there
    are `chosen` to train on.
    """
    more = config.steps_per_epoch(samples) / config.steps_per_epoch(chosen)
    epochs, patience = round(config.epochs * more), math.ceil(config.patience * more)
    update = {"epochs": max(1, epochs), "patience": max(1, patience), "processes": 1}
    return config.model_copy(update=update)
