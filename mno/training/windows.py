"""Windows: a few consecutive frames of each sample, for the training of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor


def epoch_starts(num_samples: int, num_starts: int, seed: int, epoch: int) -> np.ndarray:
    """Return the frame at which the window of each sample begins in an epoch.

    It depends on seed, epoch and the sample's own number, not on the order in which they are taken.

    Args:
        num_samples: Samples in the training split.
        num_starts: Frames at which a window can begin.
        seed: The run's seed, not negative.
        epoch: Counted from 0.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, 3))
    return np.random.default_rng(sequence).integers(num_starts, size=num_samples)


class Windows:
    """Cuts the states of a batch to windows, each beginning where this epoch says.

    Args:
        states: Names of the fields that have frames.
        length: Frames of a window.
        starts: Gives `epoch_starts` of the current epoch.
    """

    def __init__(
        self, states: Collection[str], length: int, starts: Callable[[], np.ndarray]
    ) -> None:
        self.states = frozenset(states)
        self.length = length
        self.starts = starts

    def __call__(self, fields: Mapping[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
        """Return the fields of a batch, states `(batch, length, *grid)`.

        Args:
            fields: Tensors of shape `(batch, *dims)`, states `(batch, frames, *grid)`, by name.
            samples: The number of each sample in the training split.
        """
        starts = torch.from_numpy(self.starts())[samples]
        rows = torch.arange(len(samples))[:, None]
        frames = starts[:, None] + torch.arange(self.length)
        return {
            name: field[rows, frames] if name in self.states else field
            for name, field in fields.items()
        }
