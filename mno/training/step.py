"""One step of training: the loss of a batch, the optimiser, its schedule, the average of weights.

Several batches may make one optimiser step. They count by their samples, also where the last of an
epoch is shorter or the last step has fewer batches: a step is what it would be with all its samples
in one batch.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mno.core.batch import Batch
from mno.core.errors import MnoError
from mno.data.reading import Schema
from mno.surrogate.description import Description
from mno.training.batches import corrupt
from mno.training.config import TrainConfig
from mno.training.objective import (
    Objective,
    Prediction,
    drawn_steps,
    predict_batch,
    relative_l2,
    samples_with_truth,
)
from mno.training.processes import Rank

FAR_OFF = 1e3
"""Relative L2 error that a rollout counts for at most in validation."""


class AveragedWeights(nn.Module):
    """An operator whose weights are a moving average of those of another, in training.

    After step `n` each weight becomes `d · average + (1 − d) · weight` with
    `d = min(decay, (1 + n) / (10 + n))`: at first little stays, so that the average forgets the
    weights that training began with. The number of steps is part of the state, as in TensorFlow's
    `ExponentialMovingAverage`, from which the formula is.

    Source:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging",
        doi:10.1137/0330046.
    """

    def __init__(self, operator: nn.Module, decay: float) -> None:
        super().__init__()
        self.operator = copy.deepcopy(operator).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, operator: nn.Module) -> None:
        """Take a step of the operator into the average; buffers are copied as they are."""
        steps = cast(Tensor, self.steps).add_(1).item()
        decay = min(self.decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.operator.parameters(), operator.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for kept, buffer in zip(self.operator.buffers(), operator.buffers(), strict=True):
            kept.copy_(buffer)


def steps_per_epoch(num_samples: int, config: TrainConfig) -> int:
    """Return the optimiser steps of a pass over the training split."""
    return -(-num_samples // (config.batch_size * config.accumulate))


def samples_of_step(batch: int, num_samples: int, config: TrainConfig) -> int:
    """Return how many samples the optimiser step has that a batch of an epoch belongs to."""
    size = config.batch_size * config.accumulate
    return min(size, num_samples - batch // config.accumulate * size)


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Return the share of the peak learning rate at an optimiser step, counted from 0.

    `(s + 1) / w` in the `w` steps of the warm-up, then `(1 + cos(π (s − w) / (n − w))) / 2`, with
    `n` steps in the whole training; `w / n` is the fraction, before rounding.
    """
    warmup = warmup_steps(num_steps, warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def warmup_steps(num_steps: int, warmup_fraction: float) -> int:
    """Return the steps of the warm-up; at least one step is left for the descent."""
    return min(round(warmup_fraction * num_steps), num_steps - 1)


class Mean:
    """A mean over samples that arrives batch by batch."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, mean: float, samples: int, measured: int) -> None:
        """Add a batch of samples by its mean, in which those that were not measured are zero."""
        self.total += mean * samples
        self.count += measured

    @property
    def value(self) -> float:
        """The mean so far; not a number where nothing was added."""
        return self.total / self.count if self.count else math.nan


class OperatorTraining(nn.Module):
    """Trains an operator, built by its description, on normalised fields of a training split.

    Args:
        operator: What is trained.
        description: What the surrogate is; its normaliser defines the loss.
        schema: The training data's.
        config: How to train.
        num_samples: Samples in the training split.
        rank: Which of several processes this is; the only one if not given.
    """

    def __init__(
        self,
        operator: nn.Module,
        description: Description,
        schema: Schema,
        config: TrainConfig,
        num_samples: int,
        rank: Rank | None = None,
    ) -> None:
        super().__init__()
        self.operator, self.description, self.config = operator, description, config
        self.num_samples, self.rank = num_samples, rank or Rank()
        grid = None
        if not description.coordinates:
            grid = description.grid(tuple(len(axis.points) for axis in schema.space))
        self.objective = Objective(description, grid, config, schema.parameters)
        self.average = AveragedWeights(operator, config.ema_decay) if config.ema_decay else None
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Begin the means of an epoch, counted from 0."""
        self.epoch = epoch
        self.train_error, self.train_loss, self.validation_error = Mean(), Mean(), Mean()

    @property
    def evaluated(self) -> nn.Module:
        """The operator that is validated and saved: with averaged weights, if there are any."""
        return self.operator if self.average is None else self.average.operator

    @torch.no_grad()
    def try_out(self, batch: dict[str, Tensor]) -> None:
        """Predict a batch and take its loss, for the `ValueError` that this may raise."""
        self.operator.eval()
        seen = self._inputs(batch)
        self.objective(predict_batch(self.operator, self.description, batch, seen))
        self.operator.train()

    def forward(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """Return the loss of a batch of an epoch, weighted by its share of the optimiser step.

        An `MnoError` says that the loss is not a finite number.
        """
        config, description = self.config, self.description
        seen = corrupt(
            self._inputs(batch),
            noise=config.input_noise,
            mask=config.input_mask,
            gaps=description.gaps,
        )
        steps = drawn_steps(description, config)
        predicted = predict_batch(
            self.operator, description, batch, seen, steps, pushforward=config.pushforward
        )
        loss = self.objective(predicted).mean()
        size = config.batch_size
        here = self.rank.count(min(size, self.num_samples - number * size))
        self._measure(loss.detach(), predicted, counts=here > 0)
        if config.accumulate == 1 and self.rank.is_all:
            return loss
        # Torch divides by the number of processes, so that the parts of a step sum to its mean.
        samples = samples_of_step(number, self.num_samples, config)
        weight = here * self.rank.size * config.accumulate / samples
        return loss * weight / config.accumulate

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        """Add a batch to the validation error."""
        answer = self.description.answer(self.evaluated, self._inputs(batch))
        truth = self.description.truth(batch)
        errors = relative_l2(answer.fields, truth, self.description.normaliser)
        if self.description.rolls_out:
            # A rollout may blow up early in a training that goes well.
            errors = errors.nan_to_num(nan=FAR_OFF).clamp_max(FAR_OFF)
        error = self._finite(errors.mean().item(), "validation")
        self.validation_error.add(error, len(errors), samples_with_truth(truth))

    def _measure(self, loss: Tensor, predicted: Prediction, *, counts: bool) -> None:
        """Add a batch to the means of what is minimised and of the error, if it counts."""
        value, truth = self._finite(loss.item(), "training"), predicted.truth
        if not counts:
            return
        samples = len(next(iter(truth.values())))
        self.train_loss.add(value, samples, samples)
        if not self.objective.is_relative_l2:
            with torch.no_grad():
                errors = relative_l2(predicted.fields, truth, self.description.normaliser)
            value = errors.mean().item()
        self.train_error.add(value, samples, samples_with_truth(truth))

    def _finite(self, error: float, split: str) -> float:
        if not math.isfinite(error):
            raise MnoError(
                f"the {split} error became {error} in epoch {self.epoch + 1}: training "
                f"diverged; lower train.learning_rate (now {self.config.learning_rate:g}) or "
                f"train.gradient_clip (now {self.config.gradient_clip:g})"
            )
        return error

    def _inputs(self, batch: dict[str, Tensor]) -> Batch:
        return self.description.batch(self.description.given(batch))


def optimiser_of(operator: nn.Module, config: TrainConfig) -> AdamW:
    """Return AdamW for the weights of an operator.

    The fused one is faster, but takes no complex weights; in mixed precision it is left out.
    """
    is_real = not any(p.is_complex() for p in operator.parameters())
    return AdamW(
        parameter_groups(operator, config.weight_decay),
        lr=config.learning_rate,
        fused=is_real and config.precision == 32,
    )


def parameter_groups(operator: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the weights into the matrices of linear and convolutions, which decay, and others.

    Decay would pull a norm's gain, a bias or a scan's time constant to zero, which for these is
    not the simpler function.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    decaying = {id(m.weight) for m in operator.modules() if isinstance(m, layers)}
    parameters = [p for p in operator.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) in decaying], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
