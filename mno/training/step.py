"""One step of training: the loss of a batch, the schedule of rates, the average of weights.

Several batches may make one optimiser step. They count by their samples, also where the last of an
epoch is shorter or the last step has fewer batches: a step is as with its samples in one batch.
"""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mno.core.batch import Batch
from mno.core.errors import MnoError
from mno.data.reading import Schema
from mno.surrogate.description import Description
from mno.training import objective
from mno.training.batches import corrupt
from mno.training.config import TrainConfig
from mno.training.processes import Rank

FAR_OFF = 1e3
"""Relative L2 error that a rollout counts for at most in validation."""


def averaging(operator: nn.Module, decay: float) -> AveragedModel:
    """Return an operator whose weights are a moving average of those of another, in training.

    After step `n` each weight becomes `d · average + (1 − d) · weight` with
    `d = min(decay, (1 + n) / (10 + n))`: at first little stays, so that the average forgets the
    weights that training began with. The number of steps is part of the state, as in TensorFlow's
    `ExponentialMovingAverage`, from which the formula is. Buffers are copied as they are.

    Source:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging",
        doi:10.1137/0330046.
    """

    def average(kept: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
        n = int(steps)
        return kept.lerp(weight, 1 - min(decay, (1 + n) / (10 + n)))

    averaged = AveragedModel(operator, avg_fn=average).requires_grad_(False)
    averaged.n_averaged.fill_(1)  # after none, torch would copy the weights
    return averaged


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Return the share of the peak learning rate at an optimiser step, counted from 0.

    `(s + 1) / w` in the `w` steps of the warm-up, then `(1 + cos(π (s − w) / (n − w))) / 2`, with
    `n` steps in the whole training; `w / n` is the fraction, before rounding.
    """
    warmup = min(round(warmup_fraction * num_steps), num_steps - 1)  # one is left for the descent
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Mean:
    """A mean over samples that arrives batch by batch."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, mean: float, samples: int, measured: int) -> None:
        """Add a batch of samples by its mean, in which those that were not measured are zero."""
        self.total += mean * samples
        self.count += measured

    def over(self, rank: Rank) -> float:
        """Return the mean of all processes; not a number where nothing was added."""
        total, count = rank.summed(self.total, self.count)
        return total / count if count else math.nan


class OperatorTraining(nn.Module):
    """Trains an operator, built by its description, on normalised fields of a training split.

    The description's normaliser defines the loss; the split has the schema, and so many samples.
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
        self.objective = objective.Objective(description, config, schema.parameters)
        self.average = averaging(operator, config.ema_decay) if config.ema_decay else None
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Begin the means of an epoch, counted from 0."""
        self.epoch = epoch
        self.train_error, self.train_loss, self.validation_error = Mean(), Mean(), Mean()

    @property
    def evaluated(self) -> nn.Module:
        """The operator that is validated and saved: with averaged weights, if there are any."""
        return self.operator if self.average is None else self.average.module

    @torch.no_grad()
    def try_out(self, batch: dict[str, Tensor]) -> None:
        """Predict a batch and take its loss, for the `ValueError` that this may raise."""
        self.operator.eval()
        seen = self._inputs(batch)
        self.objective(objective.predict_batch(self.operator, self.description, batch, seen))
        self.operator.train()

    def forward(self, batch: dict[str, Tensor], number: int) -> Tensor:
        """Return the loss of a batch of an epoch, weighted by its share of the optimiser step.

        An `MnoError` says that the loss is not a finite number.
        """
        config, description = self.config, self.description
        seen, gaps = self._inputs(batch), description.gaps
        seen = corrupt(seen, noise=config.input_noise, mask=config.input_mask, gaps=gaps)
        if config.derivatives:
            predicted, apart = objective.predict_rates(self.operator, description, batch, seen)
            loss = self.objective(predicted).mean() + config.derivatives * apart.mean()
        else:
            predicted = objective.predict_batch(
                self.operator, description, batch, seen, config.unroll
            )
            loss = self.objective(predicted).mean()
        size = config.batch_size
        here = self.rank.count(min(size, self.num_samples - number * size))
        self._measure(loss.detach(), predicted, counts=here > 0)
        if config.accumulate == 1 and self.rank.is_all:
            return loss
        step = size * config.accumulate  # samples of an optimiser step, but for the last
        samples = min(step, self.num_samples - number // config.accumulate * step)
        # Torch divides by the number of processes, so that the parts of a step sum to its mean.
        weight = here * self.rank.size * config.accumulate / samples
        return loss * weight / config.accumulate

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        """Add a batch to the validation error."""
        answer = self.description.answer(self.evaluated, self._inputs(batch))
        truth, normaliser = self.description.truth(batch), self.description.normaliser
        errors = objective.relative_error(answer.fields, truth, normaliser, given=batch)
        if self.description.rolls_out:
            # A rollout may blow up early in a training that goes well.
            errors = errors.nan_to_num(nan=FAR_OFF).clamp_max(FAR_OFF)
        error = self._finite(errors.mean().item(), "validation")
        self.validation_error.add(error, len(errors), objective.samples_with_truth(truth))

    def _measure(self, loss: Tensor, predicted: objective.Prediction, *, counts: bool) -> None:
        value, truth = self._finite(loss.item(), "training"), predicted.truth
        if not counts:
            return
        samples = len(next(iter(truth.values())))
        self.train_loss.add(value, samples, samples)
        if not self.objective.is_relative_l2:
            with torch.no_grad():
                errors = objective.relative_error(
                    predicted.fields, truth, self.description.normaliser, given=predicted.given
                )
            value = errors.mean().item()
        self.train_error.add(value, samples, objective.samples_with_truth(truth))

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
