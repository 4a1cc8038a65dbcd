"""Data-parallel training: processes that each take a part of every batch.

Each holds a copy of the model. The gradients of a step are averaged over the processes (torch's
DistributedDataParallel), weighted by the samples that each has seen, so that a step is what it
would be with the whole batch in one process, up to the order in which numbers are added. The first
process alone writes files, draws progress and is listened to by observers.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mno.core.device import asked_device
from mno.core.errors import InputError

T = TypeVar("T")
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def training_device() -> str:
    """Return where training computes: as asked, or `cuda` where there is such a device, or `cpu`.

    Apple's MPS is left out: it has no deterministic kernels for all that is used.
    """
    return asked_device() or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Rank:
    """One of `size` processes that train together; `number` is counted from 0."""

    number: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.number == 0

    @property
    def is_all(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return this process's samples of a batch; where none are left for it, the first of all.

        That one counts nothing (`count` is 0): all processes have to take part in every step.
        """
        if self.is_all:
            return numbers
        part = numbers[self.number :: self.size]
        return part if len(part) else numbers[:1]

    def count(self, samples: int) -> int:
        """Return how many samples of a batch are this process's."""
        return len(range(self.number, samples, self.size))

    def _gathered(self, value: T) -> list[T]:
        if self.is_all:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def summed(self, *values: float) -> tuple[float, ...]:
        """Return the sums of some values over all processes."""
        return tuple(sum(parts) for parts in zip(*self._gathered(values), strict=True))

    def agreed(self, value: T) -> T:
        """Return the first process's value: what is decided by it is decided alike everywhere."""
        return self._gathered(value)[0]

    def check_same(self, digest: str) -> None:
        """Refuse to train where another process was given something else, by its digest."""
        if len(set(self._gathered(digest))) > 1:
            raise InputError(
                f"the {self.size} processes of the training were given different data, parameters "
                "or seeds; start all of them alike"
            )

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Let the first process finish the body before the others begin it."""
        if not self.is_first:
            distributed.barrier()
        yield
        if self.is_first and not self.is_all:
            distributed.barrier()

    def averaging_gradients(self, module: nn.Module) -> nn.Module:
        """Return a module that averages over the processes what its backward pass gives."""
        if self.is_all:
            return module
        on_cpu = training_device() == "cpu"
        return DistributedDataParallel(module, device_ids=None if on_cpu else [self.number])


def not_averaging(module: nn.Module) -> AbstractContextManager[Any]:
    """Keep a module of `Rank.averaging_gradients` from averaging: gradients add up meanwhile."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def this_rank(processes: int, batch_size: int) -> Rank:
    """Return which process this is of a training by so many, `train.processes`.

    Raises:
        InputError: It is not one of so many, or they are more than the samples of a batch.
    """
    joined = distributed.is_available() and distributed.is_initialized()
    rank = Rank(distributed.get_rank(), distributed.get_world_size()) if joined else Rank()
    if rank.size != processes:
        raise InputError(
            f"train.processes={processes}, but this is one of {rank.size}; start it with "
            f"torchrun --nproc-per-node {processes} and train within "
            f"mno.training.processes.started_by_torchrun(), or set train.processes={rank.size}"
        )
    if processes > batch_size:
        raise InputError(
            f"train.processes={processes} is more than the {batch_size} samples of a batch, so "
            f"that some would have nothing to do; choose {batch_size} or fewer"
        )
    return rank


@contextmanager
def joined(rank: Rank, rendezvous: str) -> Iterator[None]:
    """Be one of the processes of a training while the body runs.

    They meet at the URL of a file that is not there yet, `file://…`, or by `env://` as torchrun
    says in the environment. An `InputError` says that there are fewer devices than processes.
    """
    devices = torch.cuda.device_count() if training_device() == "cuda" else 0
    if 0 < devices < rank.size:
        raise InputError(
            f"train.processes={rank.size}, but there are {devices} CUDA devices; choose {devices}"
        )
    if rendezvous.startswith("file:"):  # all on this machine: nobody else is to be able to join
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if devices:
        torch.cuda.set_device(rank.number)
    backend = "nccl" if devices else "gloo"
    distributed.init_process_group(
        backend, init_method=rendezvous, rank=rank.number, world_size=rank.size
    )
    try:
        with warnings.catch_warnings():  # how gradients lie in memory is a matter of speed
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
            yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def started_by_torchrun() -> Iterator[Rank]:
    """Join the processes that torchrun has started on one machine; yield which one this is."""
    missing = [name for name in _TORCHRUN if name not in os.environ]
    if missing:
        raise InputError(
            f"this process was not started by torchrun ({', '.join(missing)} not set); start it "
            "with: torchrun --nproc-per-node 2 SCRIPT"
        )
    rank = Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    with joined(rank, "env://"):
        yield rank
