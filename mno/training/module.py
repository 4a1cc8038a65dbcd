"""The Lightning module: one step of training, one of validation, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mno.core.batch import Batch
from mno.core.errors import MnoError
from mno.data.reading import Schema
from mno.surrogate.description import Description
from mno.training.accumulation import samples_of_batch, samples_of_step, steps_per_epoch
from mno.training.averaging import AveragedWeights
from mno.training.config import TrainConfig
from mno.training.corruption import corrupt
from mno.training.loss import relative_l2, samples_with_truth
from mno.training.objective import Objective
from mno.training.processes import Share
from mno.training.schedule import learning_rate_factor
from mno.training.steps import Prediction, drawn_steps, predict_batch

FAR_OFF = 1e3
"""Relative L2 error that a rollout counts for at most in validation."""


class Mean:
    """A mean over samples that arrives batch by batch."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, mean: float, samples: int, measured: int) -> None:
        """Add a batch of samples by its mean, in which those that were not measured are zero."""
        self.total += mean * samples
        self.count += measured

    @property
    def value(self) -> float:
        """The mean so far; not a number where nothing was added."""
        return self.total / self.count if self.count else math.nan


class OperatorTraining(LightningModule):
    """Trains an operator on normalised fields, on one grid or on unordered points.

    Args:
        operator: Built by `description.build()`.
        description: What the surrogate is; its normaliser defines the loss.
        schema: The training data's.
        config: How to train.
        num_samples: Samples in the training split.
        share: This process's part of each batch; all of it if not given.
    """

    def __init__(
        self,
        operator: nn.Module,
        description: Description,
        schema: Schema,
        config: TrainConfig,
        num_samples: int,
        share: Share | None = None,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.description = description
        self.config = config
        self.num_samples = num_samples
        self.share = share or Share()
        self.num_steps = config.epochs * steps_per_epoch(num_samples, config)
        grid = None
        if not description.coordinates:
            grid = description.grid(tuple(len(axis.points) for axis in schema.space))
        self.objective = Objective(description, grid, config, schema.parameters)
        self.average = AveragedWeights(operator, config.ema_decay) if config.ema_decay else None
        self.train_error = Mean()
        self.train_loss = Mean()
        self.validation_error = Mean()
        self.learning_rate = 0.0

    @property
    def evaluated(self) -> nn.Module:
        """The operator that is validated and saved: with averaged weights, if there are any."""
        return self.operator if self.average is None else self.average.operator

    @torch.no_grad()
    def try_out(self, batch: dict[str, Tensor]) -> None:
        """Predict a batch and take its loss, for the errors that this may raise.

        Raises:
            ValueError: The operator or the objective cannot be given such fields.
        """
        self.operator.eval()
        seen = self._inputs(batch)
        self.objective(predict_batch(self.operator, self.description, batch, seen))
        self.operator.train()

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's means."""
        self.train_error, self.train_loss = Mean(), Mean()

    def on_validation_epoch_start(self) -> None:
        """Begin the epoch's mean."""
        self.validation_error = Mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, weighted by its share of the optimiser step.

        Raises:
            MnoError: The loss is not a finite number.
        """
        noise, mask = self.config.input_noise, self.config.input_mask
        seen = corrupt(self._inputs(batch), noise=noise, mask=mask, gaps=self.description.gaps)
        steps, pushforward = drawn_steps(self.description, self.config), self.config.pushforward
        predicted = predict_batch(
            self.operator, self.description, batch, seen, steps, pushforward=pushforward
        )
        loss = self.objective(predicted).mean()
        here = self.share.count(samples_of_batch(batch_idx, self.num_samples, self.config))
        self._measure(loss.detach(), predicted, counts=here > 0)
        self.learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self.config.accumulate == 1 and self.share.is_all:
            return loss
        # Lightning divides by the number of batches, and torch by that of processes, so that the
        # batches of a step sum to its mean.
        samples = samples_of_step(batch_idx, self.num_samples, self.config)
        return loss * (here * self.share.size * self.config.accumulate / samples)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the optimiser's step, and the average along."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self.operator)

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        """Add a batch to the validation error."""
        # In the precision in which a surrogate is asked.
        with torch.autocast(self.device.type, enabled=False):
            answer = self.description.answer(self.evaluated, self._inputs(batch))
        truth = self.description.truth(batch)
        errors = relative_l2(answer.fields, truth, self.description.normaliser)
        if self.description.rolls_out:
            # A rollout may blow up early in a training that goes well.
            errors = errors.nan_to_num(nan=FAR_OFF).clamp_max(FAR_OFF)
        error = self.finite(errors.mean().item(), "validation")
        self.validation_error.add(error, _length(batch), samples_with_truth(truth))

    def finite(self, error: float, split: str) -> float:
        """Return a finite error as it is.

        Raises:
            MnoError: It is not finite, because training diverged.
        """
        if not math.isfinite(error):
            raise MnoError(
                f"the {split} error became {error} in epoch {self.current_epoch + 1}: training "
                f"diverged; lower train.learning_rate (now {self.config.learning_rate:g}) or "
                f"train.gradient_clip (now {self.config.gradient_clip:g})"
            )
        return error

    def _measure(self, loss: Tensor, predicted: Prediction, *, counts: bool) -> None:
        """Add a batch to the means of what is minimised and of the error, if it counts."""
        value, samples = self.finite(loss.item(), "training"), _length(predicted.truth)
        if not counts:
            return
        self.train_loss.add(value, samples, samples)
        if not self.objective.is_relative_l2:
            normaliser = self.description.normaliser
            with torch.no_grad():
                errors = relative_l2(predicted.fields, predicted.truth, normaliser)
            value = errors.mean().item()
        self.train_error.add(value, samples, samples_with_truth(predicted.truth))

    def _inputs(self, batch: dict[str, Tensor]) -> Batch:
        return self.description.batch(self.description.given(batch))

    def configure_optimizers(self) -> Any:
        """Return AdamW with the schedule advanced after every step."""
        optimizer = AdamW(
            parameter_groups(self.operator, self.config.weight_decay),
            lr=self.config.learning_rate,
            fused=self._can_fuse,
        )
        scheduler = LambdaLR(optimizer, self._factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    @property
    def _can_fuse(self) -> bool:
        """Whether the optimiser may be fused, which is faster.

        Torch's fused AdamW takes no complex weights, and Lightning does not clip its gradients in
        mixed precision.
        """
        is_real = not any(p.is_complex() for p in self.operator.parameters())
        return is_real and self.config.precision == 32

    def _factor(self, step: int) -> float:
        return learning_rate_factor(step, self.num_steps, self.config.warmup_fraction)


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


def _length(batch: Mapping[str, Tensor]) -> int:
    return len(next(iter(batch.values())))
