"""How models are trained: the best recipe found for each, and one option at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy import public_darcy
from mno.core.forecast import TaskConfig
from mno.data.reading import Split
from mno.nn.config import ModelConfig
from mno.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained.

    Attributes:
        model: The operator.
        training: Parameters of `TrainConfig`, but epochs.
        steps: Batches that are learned from, whatever the number of samples.
        mirrored: Whether the samples' mirror images are learned, too.
        task: What is given and what is predicted of states.
    """

    model: ModelConfig
    training: dict[str, Any]
    steps: int
    mirrored: bool = False
    task: TaskConfig | None = None

    def prepared(self, split: Split) -> Split:
        """Return the samples that are learned."""
        return public_darcy.mirrored(split) if self.mirrored else split

    def config(self, samples: int) -> TrainConfig:
        """Return the configuration of a training on that many samples."""
        learned = samples * (4 if self.mirrored else 1)
        per_epoch = -(-learned // TrainConfig(**self.training).batch_size)
        epochs = max(1, round(self.steps / per_epoch))
        return TrainConfig(**self.training, epochs=epochs, patience=epochs)

    def made_with(self) -> dict[str, Any]:
        """Return what identifies the recipe, as it is read back from JSON."""
        content: dict[str, Any] = {
            "model": self.model.model_dump(mode="json"),
            "training": self.training,
            "steps": self.steps,
            "mirrored": self.mirrored,
        }
        if self.task is not None:
            content["task"] = self.task.model_dump(mode="json")
        return json.loads(json.dumps(content))
