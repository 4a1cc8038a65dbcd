"""Batches of samples in a seeded order, made ready while the one before is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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

    @property
    def in_memory(self) -> bool: ...  # noqa: D102

    def __len__(self) -> int: ...

    def batch(self, items: np.ndarray, epoch: int) -> Batch: ...  # noqa: D102


class Loader:
    """Batches of samples: every `for batch in loader` is a pass over all of them.

    A batch is a dict of tensors of shape `(batch, *field)`, by field name. It depends on the seed,
    the pass, and its number in the pass, and on nothing else: any number of workers gives the same
    batches, and a training that is resumed gets those of one never interrupted.

    Args:
        samples: What batches are made of.
        batch_size: Samples per batch; the last one of a pass holds what remains.
        seed: Of the order, not negative.
        shuffle: Whether the order is drawn anew for each pass; else it is that of the samples.
        workers: Processes that read. With 0 a thread does, which is enough for most: reading and
            decompressing let Python go on. Samples in memory need no processes, and get none.
        ahead: Batches that are kept ready, by each worker; 0 for no thread.
        start_method: How workers are started: `fork`, `spawn` or `forkserver`; torch's default if
            not given.

    Attributes:
        epoch: The pass that the next iteration makes, counted from 0; set it to resume.
        batch: The batch that the next iteration begins with, counted from 0; set it to resume
            within a pass. The iterations after that are whole passes.

    Raises:
        InputError: A number is too small.
    """

    def __init__(
        self,
        samples: Source,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        workers: int = 0,
        ahead: int = 2,
        start_method: str | None = None,
    ) -> None:
        numbers = {"batch_size": batch_size, "seed": seed, "workers": workers, "ahead": ahead}
        for name, number in numbers.items():
            least = int(name == "batch_size")
            if number < least:
                raise InputError(f"{name}={number}: expected {least} or more")
        self.epoch, self.batch, self.ahead = 0, 0, ahead
        self._passes = _Passes(samples, batch_size, seed if shuffle else None)
        self._next: list[int] = []
        self._workers: DataLoader[Batch] | None = None
        if workers and not samples.in_memory:
            self._workers = DataLoader(
                self._passes,
                batch_size=None,
                sampler=self._next,
                num_workers=workers,
                prefetch_factor=max(ahead, 1),
                multiprocessing_context=start_method,
                persistent_workers=True,
            )

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        return self._passes.per_pass

    def __iter__(self) -> Iterator[Batch]:
        """Begin a pass."""
        first = self.epoch * len(self)
        self._next[:] = range(first + self.batch, first + len(self))
        self.epoch, self.batch = self.epoch + 1, 0
        if self._workers:
            return iter(self._workers)
        return prefetched(map(self._passes.__getitem__, tuple(self._next)), self.ahead)


class _Passes(Dataset[Batch]):
    """The batches of all passes, one after the other without an end."""

    def __init__(self, samples: Source, batch_size: int, seed: int | None) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.per_pass = -(-len(samples) // batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.arange(len(samples)))

    def __getitem__(self, number: int) -> Batch:
        """Return a batch."""
        epoch, batch = divmod(number, self.per_pass)
        if self.seed is not None and self._order[0] != epoch:
            self._order = epoch, epoch_order(len(self.samples), self.seed, epoch)
        start = batch * self.batch_size
        return self.samples.batch(self._order[1][start : start + self.batch_size], epoch)
