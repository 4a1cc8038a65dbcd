"""Requests that wait together are answered together, in one forward pass."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from mno.errors import InputError
from mno.serving.follower import Served
from mno.serving.forward import Forward, Found
from mno.serving.protocol import Asked


class BusyError(Exception):
    """Too many requests wait."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a request is answered.

    Attributes:
        predictions: Arrays by field name.
        estimate: How far they may be trusted, as `Found` has it.
        served: The model that made all of them.
    """

    predictions: Mapping[str, np.ndarray]
    estimate: Mapping[str, np.ndarray] | str
    served: Served


@dataclass(frozen=True, eq=False)
class _Job:
    asked: Asked
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs of one batch have in common."""
        shapes = ((name, array.shape[1:]) for name, array in self.asked.inputs.items())
        return (self.asked.steps, *sorted(shapes))

    @property
    def samples(self) -> int:
        return max((len(a) for a in self.asked.inputs.values() if a.ndim), default=0)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.asked.inputs.values())


class Batcher:
    """One thread that asks the model, for all who wait.

    A request that comes alone is answered at once; those that come while the model is busy wait,
    and are then answered together as far as they have the same shapes. All of a batch, and so all
    of an answer, comes from one model.

    Args:
        model: Returns the model to ask.
        max_batch: Samples of waiting requests that are predicted at once.
        max_waiting: Requests that may wait.
        max_bytes: Inputs that may be put together.
        told: Is told the number of samples of each batch.
    """

    def __init__(
        self,
        model: Callable[[], Served],
        max_batch: int,
        max_waiting: int,
        max_bytes: int,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._model, self._told = model, told
        self._max_batch, self._max_bytes = max_batch, max_bytes
        self._forward = Forward()
        self._arrived: queue.Queue[_Job | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._arrived.qsize()

    def ask(self, asked: Asked) -> Future[Answer]:
        """Hand in a request; the answer, or an `InputError`, comes with the future.

        Raises:
            BusyError: Too many wait.
        """
        job = _Job(asked)
        try:
            self._arrived.put_nowait(job)
        except queue.Full:
            raise BusyError from None
        return job.answer

    def close(self) -> None:
        """Answer what waits, then end."""
        self._arrived.put(None)
        self._thread.join()
        self._forward.close()

    def _work(self) -> None:
        pending: list[_Job] = []
        open_ = True
        while open_ or pending:
            if not pending:
                open_ = self._take(pending, wait=True)
            while open_ and not self._arrived.empty():
                open_ = self._take(pending, wait=False)
            if pending:
                batch = self._next_batch(pending)
                pending = [job for job in pending if job not in batch]
                self._answer([j for j in batch if j.answer.set_running_or_notify_cancel()])

    def _take(self, pending: list[_Job], wait: bool) -> bool:
        """Take one that has arrived; returns whether there may be more."""
        job = self._arrived.get(block=wait)
        if job is not None:
            pending.append(job)
        return job is not None

    def _next_batch(self, pending: Sequence[_Job]) -> list[_Job]:
        """Return the request that waits longest, and those that can be answered with it."""
        batch = [pending[0]]
        samples, nbytes = pending[0].samples, pending[0].nbytes
        for job in pending[1:]:
            if job.kind != pending[0].kind:
                continue
            samples, nbytes = samples + job.samples, nbytes + job.nbytes
            if samples > self._max_batch or nbytes > self._max_bytes:
                break
            batch.append(job)
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        if not batch:
            return
        served = self._model()
        try:
            found = self._predict(served, batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:  # one of them may be to blame, not all
                for job in batch:
                    self._answer([job])
            return
        for job, part in zip(batch, found, strict=True):
            job.answer.set_result(Answer(part.predictions, part.estimate, served))

    def _predict(self, served: Served, batch: list[_Job]) -> list[Found]:
        first = batch[0].asked
        if len(batch) == 1:
            inputs = first.inputs
        else:
            if any({len(a) for a in job.asked.inputs.values()} != {job.samples} for job in batch):
                raise InputError("fields have different numbers of samples")
            inputs = {
                name: np.concatenate([job.asked.inputs[name] for job in batch])
                for name in first.inputs
            }
        self._told(sum(job.samples for job in batch))
        found = self._forward(served, inputs, first.steps)
        return [found] if len(batch) == 1 else found.split([job.samples for job in batch])
