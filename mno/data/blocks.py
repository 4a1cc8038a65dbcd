"""Going through an array of samples block by block, so that memory holds one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

BLOCK_BYTES = 2**26


class SampleArray(Protocol):
    """An array of shape `(samples, *sample)`, in memory or in files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, and the shape of one."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of a value."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: np.ndarray | slice, /) -> np.ndarray: ...


def blocks(array: SampleArray) -> Iterator[slice]:
    """Yield slices that cover all samples in order, each of at most 64 MiB or one sample.

    They depend on the array's shape and type alone, and not on where it lies.
    """
    size = math.prod(array.shape[1:]) * array.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(size, 1))
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))
