"""Batches of samples in a seeded order, made ready while the one before is worked on."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from mno.core.errors import InputError


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of samples in an epoch, counted from 0."""
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, 0))
    return np.random.default_rng(sequence).permutation(num_samples)


T = TypeVar("T")
_END = object()


def prefetched(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Yield items in their order, a few of them kept ready by a thread; 0 for no thread.

    The thread ends with the items, or when the iterator is closed or forgotten. An error in it is
    raised here, in its place among the items.
    """
    if ahead < 1:
        yield from items
        return
    source, pool = iter(items), ThreadPoolExecutor(1, "mno-prefetch")
    try:
        pending = deque(pool.submit(next, source, _END) for _ in range(ahead + 1))
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(next, source, _END))
            yield item  # type: ignore[misc]  # not the end
    finally:
        pool.shutdown(cancel_futures=True)


Batch = dict[str, Tensor]


class Source(Protocol):
    """What batches are made of: `mno.data.samples.Samples`, or the samples of a training."""

    def __len__(self) -> int: ...

    def batch(self, items: np.ndarray, epoch: int) -> Batch: ...  # noqa: D102


class Loader:
    """Batches of samples: every `for batch in loader` is a pass over all of them.

    A batch is a dict of tensors of shape `(batch, *field)`, by field name. It depends on the seed,
    the pass, and its number in the pass, and on nothing else: a training that is resumed gets those
    of one never interrupted.

    Args:
        samples: What batches are made of.
        batch_size: Samples per batch, 1 or more; the last one of a pass holds what remains.
        seed: Of the order, not negative.
        shuffle: Whether the order is drawn anew for each pass; else it is that of the samples.
        ahead: Batches that a thread keeps ready; reading and decompressing let Python go on. 0 for
            no thread.

    Attributes:
        epoch: The pass that the next iteration makes, counted from 0; set it to resume.
        batch: The batch that the next iteration begins with, counted from 0; set it to resume
            within a pass. The iterations after that are whole passes.
    """

    def __init__(
        self,
        samples: Source,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        ahead: int = 2,
    ) -> None:
        if batch_size < 1 or seed < 0:
            raise InputError(f"batch_size={batch_size}, seed={seed}: expected at least 1 and 0")
        self._samples, self._size, self._ahead = samples, batch_size, ahead
        self._seed, self._shuffle, self.epoch, self.batch = seed, shuffle, 0, 0

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        return -(-len(self._samples) // self._size)

    def __iter__(self) -> Iterator[Batch]:
        samples, size, epoch, first = self._samples, self._size, self.epoch, self.batch
        self.epoch, self.batch = epoch + 1, 0
        order = np.arange(len(samples))
        if self._shuffle:
            order = epoch_order(len(samples), self._seed, epoch)
        starts = range(first * size, len(samples), size)
        batches = (samples.batch(order[start : start + size], epoch) for start in starts)
        return prefetched(batches, self._ahead)
