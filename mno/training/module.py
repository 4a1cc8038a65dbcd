"""The Lightning module: one step of training, one of validation, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mno.data.batch import Batch
from mno.errors import MnoError
from mno.grid import Grid
from mno.surrogate import Description
from mno.training.config import TrainConfig
from mno.training.loss import relative_l2
from mno.training.schedule import learning_rate_factor


class Mean:
    """A mean over samples that arrives batch by batch."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, mean: float, count: int) -> None:
        """Add a batch of `count` samples by its mean."""
        self.total += mean * count
        self.count += count

    @property
    def value(self) -> float:
        """The mean so far."""
        return self.total / self.count


class OperatorTraining(LightningModule):
    """Trains an operator on normalised fields of one grid.

    Args:
        operator: Built by `description.build()`.
        description: What the surrogate is; its normaliser defines the loss.
        grid: The grid of the training data.
        config: How to train.
        num_steps: Optimiser steps of the whole training, the length of the schedule.
    """

    def __init__(
        self,
        operator: nn.Module,
        description: Description,
        grid: Grid,
        config: TrainConfig,
        num_steps: int,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.description = description
        self.grid = grid
        self.config = config
        self.num_steps = num_steps
        self.train_error = Mean()
        self.validation_error = Mean()
        self.learning_rate = 0.0

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's mean."""
        self.train_error = Mean()

    def on_validation_epoch_start(self) -> None:
        """Begin the epoch's mean."""
        self.validation_error = Mean()

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch.

        Raises:
            MnoError: The loss is not a finite number.
        """
        loss = self._errors(batch).mean()
        self.train_error.add(self.finite(loss.item(), "training"), _length(batch))
        self.learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return loss

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        """Add a batch to the validation error."""
        error = self._errors(batch).mean().item()
        self.validation_error.add(self.finite(error, "validation"), _length(batch))

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

    def _errors(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {name: batch[name] for name in self.description.inputs}
        predicted: Batch = self.operator(Batch(inputs, self.grid))
        return relative_l2(predicted.fields, batch, self.description.normaliser)

    def configure_optimizers(self) -> Any:
        """Return AdamW with the schedule advanced after every step."""
        optimizer = AdamW(
            parameter_groups(self.operator, self.config.weight_decay),
            lr=self.config.learning_rate,
            fused=True,
        )
        scheduler = LambdaLR(optimizer, self._factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

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
