"""Training on the small problems of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from mno.core.forecast import TaskConfig
from mno.data.normalise import Normaliser
from mno.data.reading import Split
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import Change, TrainingSamples
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.history import History

CONFIG = TrainConfig(epochs=4, batch_size=4, learning_rate=1e-2, threads=1)


class Run(Protocol):
    def __call__(
        self, work: Path, task: TaskConfig | None = None, **others: Any
    ) -> tuple[Surrogate, History]: ...


def runner(make_split, samples: int, model: ModelConfig, **usual) -> tuple[Split, Split, Run]:
    """Return splits for training and validation, and what trains a small model on them."""
    training, validation = make_split("train", samples, seed=1), make_split("validation", 5, seed=2)
    given = {"training": training, "validation": validation, "model": model, "seed": 0}
    given |= {"config": CONFIG, "quiet": True} | usual

    def run(work: Path, task: TaskConfig | None = None, **others: Any):
        return train(**(given | others), work=work, task=task)

    return training, validation, run


def weights_of(surrogate: Surrogate) -> dict[str, bytes]:
    """Return the weights bit by bit."""
    state = surrogate.operator.state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def encoded(description: Description, split: Split) -> dict[str, Tensor]:
    """Return the normalised fields of a split."""
    return TrainingSamples(split, description.normaliser).batch(np.arange(len(split)), 0)


def as_they_are(split: Split, *changes: Change) -> TrainingSamples:
    """Return the samples of a split without a normaliser that alters them."""
    zeros, ones = (dict.fromkeys(split.fields, value) for value in (0.0, 1.0))
    return TrainingSamples(split, Normaliser(zeros, ones), changes)
