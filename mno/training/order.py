"""What is drawn in an epoch: a function of the seed and the epoch, of nothing else.

Because no random state is carried from one epoch to the next, none has to be restored: a resumed
training sees the batches, and draws the random numbers, of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mno.data.prefetch import prefetched
from mno.training.processes import Share
from mno.training.stored_rows import StoredRows

Purpose = Literal["turn", "window"]
_AHEAD = 2  # batches
_STREAMS: dict[Purpose, int] = {"turn": 2, "window": 3}  # 0 and 1 are of order and torch


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Start torch's random stream of an epoch (counted from 0), for dropout and its like.

    Each of several processes (`rank`, counted from 0) has one of its own.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, 1, rank) if rank else (epoch, 1))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def epoch_choices(
    num_samples: int, num_choices: int, seed: int, epoch: int, purpose: Purpose
) -> np.ndarray:
    """Return a number drawn for each sample in an epoch, from 0 to below `num_choices`.

    It depends on what is said here and on the sample's own number, not on the order in which
    samples are taken.

    Args:
        num_samples: Samples in the training split.
        num_choices: Numbers to choose from.
        seed: The run's seed, not negative.
        epoch: Counted from 0.
        purpose: What is chosen: the symmetry by which a sample is turned, or the frame at which its
            window begins. The two are drawn independently.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, _STREAMS[purpose]))
    return np.random.default_rng(sequence).integers(num_choices, size=num_samples)


class Batches:
    """Batches of fields, each taken by one indexing operation; what lies in files is read ahead.

    Args:
        fields: Tensors of shape `(samples, *dims)`, or what reads such, by field name.
        batch_size: Samples per batch; the last batch holds what remains.
        order: Gives the order of samples, asked when the first batch of a pass is taken; stored
            order if not given.
        changes: Each changes the fields of a batch, given the numbers of its samples.
        share: Which part of each batch is taken; all of it if not given.
    """

    def __init__(
        self,
        fields: Mapping[str, Tensor | StoredRows],
        batch_size: int,
        order: Callable[[], np.ndarray] | None = None,
        changes: Sequence[Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]] = (),
        share: Share | None = None,
    ) -> None:
        self.fields = dict(fields)
        self.batch_size = batch_size
        self.order = order
        self.changes = tuple(changes)
        self.share = share or Share()
        self.num_samples = len(next(iter(self.fields.values())))

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = torch.from_numpy(self.order()) if self.order else torch.arange(self.num_samples)
        chosen = [self.share.of(numbers) for numbers in order.split(self.batch_size)]
        for numbers, batch in zip(chosen, self._taken(chosen), strict=True):
            for change in self.changes:
                batch = change(batch, numbers)
            yield batch

    def _taken(self, chosen: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
        taken = ({name: field[n] for name, field in self.fields.items()} for n in chosen)
        in_files = any(isinstance(field, StoredRows) for field in self.fields.values())
        return prefetched(taken, _AHEAD if in_files else 0)
