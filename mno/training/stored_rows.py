"""Normalised samples that stay in their files until a batch asks for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mno.data.normalise import Normaliser
from mno.data.stored import StoredArray


class StoredRows:
    """A field of a split, indexed like a tensor by the numbers of samples.

    Args:
        array: The field's values.
        name: The field.
        normaliser: Is applied to what is read, so that it equals what is normalised at once.
    """

    def __init__(self, array: StoredArray, name: str, normaliser: Normaliser) -> None:
        self.array, self.name, self.normaliser = array, name, normaliser

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, samples: Tensor) -> Tensor:
        """Read samples by number, shape `(samples, *dims)`, float32.

        Raises:
            MnoError: A file is missing or damaged.
        """
        values = self.normaliser.encode(self.name, self.array[samples.numpy()])
        return torch.from_numpy(values.astype(np.float32, copy=False))
