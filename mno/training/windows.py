"""Windows: a few consecutive frames of each sample, for the training of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor


class Windows:
    """Cuts the frames of a batch to windows, each beginning where this epoch says.

    Args:
        names: Names of the fields that have frames.
        length: Frames of a window.
        starts: Gives the frame at which each sample's window begins in this epoch, one of
            `epoch_choices`.
    """

    def __init__(
        self, names: Collection[str], length: int, starts: Callable[[], np.ndarray]
    ) -> None:
        self.names = frozenset(names)
        self.length = length
        self.starts = starts

    def __call__(self, fields: Mapping[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
        """Return the fields of a batch, those with frames `(batch, length, *grid)`.

        Args:
            fields: Tensors of shape `(batch, *dims)`, with frames `(batch, frames, *grid)`, by
                name.
            samples: The number of each sample in the training split.
        """
        starts = torch.from_numpy(self.starts())[samples]
        rows = torch.arange(len(samples))[:, None]
        frames = starts[:, None] + torch.arange(self.length)
        return {
            name: field[rows, frames] if name in self.names else field
            for name, field in fields.items()
        }
