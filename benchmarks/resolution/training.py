"""Training on one grid, and the error on all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.resolution import Sampled, Task
from mno.core.batch import Batch
from mno.core.config import Config


class Settings(Config):
    """How long and how fast a model learns."""

    steps: int
    batch_size: int
    learning_rate: float


class Normalised(nn.Module):
    """A model between functions in their own units, normalised as the training samples ask.

    Where the model knows that its output vanishes at the walls, zero is left at zero.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        inputs, targets = task.train.inputs, task.train.targets
        self.of_input = (inputs.mean(), inputs.std())
        if getattr(model, "config", model).walls == "zero":
            self.of_target = (torch.zeros(()), targets.square().mean().sqrt())
        else:
            self.of_target = (targets.mean(), targets.std())

    def forward(self, sampled: Sampled) -> Tensor:
        """Predict the targets of some samples."""
        mean, std = self.of_input
        out = self.model(Batch({"in": (sampled.inputs - mean) / std}, sampled.grid))
        mean, std = self.of_target
        return out.fields["out"] * std + mean


def train(model: nn.Module, task: Task, settings: Settings, seed: int) -> Normalised:
    """Train by AdamW on the relative L2 error, on samples drawn from the seed."""
    order = torch.Generator().manual_seed(seed)
    normalised = Normalised(model, task)
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=1e-4)
    schedule = OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    inputs, targets = task.train.inputs, task.train.targets
    for _ in range(settings.steps):
        chosen = torch.randint(len(inputs), (settings.batch_size,), generator=order)
        pair = torch.stack([inputs[chosen], targets[chosen]])
        if task.symmetric:
            pair = _turned(pair, int(torch.randint(8, (), generator=order)))
        batch = Sampled(task.train.grid, *pair)
        optimiser.zero_grad()
        relative_errors(normalised(batch), batch.targets).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return normalised


def relative_errors(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return each sample's relative L2 error over its points."""
    return (predicted - targets).flatten(1).norm(dim=1) / targets.flatten(1).norm(dim=1)


@torch.no_grad()
def mean_error(model: Normalised, kinds: list[Sampled], at_once: int = 10) -> float:
    """Return the mean relative L2 error over all samples."""
    errors = []
    for sampled in kinds:
        parts = zip(sampled.inputs.split(at_once), sampled.targets.split(at_once), strict=True)
        for part in (Sampled(sampled.grid, *both) for both in parts):
            errors.append(relative_errors(model(part), part.targets))
    return torch.cat(errors).mean().item()


def _turned(pair: Tensor, symmetry: int) -> Tensor:
    """Apply one of the eight symmetries of the square."""
    pair = torch.rot90(pair, symmetry % 4, (-2, -1))
    return pair.transpose(-2, -1) if symmetry >= 4 else pair
