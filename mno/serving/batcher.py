"""Requests that wait are answered by all cores, small ones together and large ones in parts.

A core that is free takes the request that waits longest. What is smaller than a part, of `POINTS`,
it answers together with others of the same shapes; what is larger it cuts, so that the other cores
help. Threads that share one pass wait for each other after every operation, and spin while they
wait, which costs most where clients want the same cores; parts have nothing to wait for, and what a
small part works on stays in its core's cache. Parts take turns with requests that wait, so that
small ones need not wait for all of a large one. Nobody waits for the slowest of a batch: an answer
is given as soon as its own samples are there.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch

from mno.core.memory import keep_freed_memory
from mno.serving.model import Served, estimate
from mno.serving.protocol import PredictionRequest

Arrays = Mapping[str, np.ndarray]

POINTS = 4096  # of a part; at a width of 64 an array of features is then 1 MiB


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """What a model says of some samples.

    Attributes:
        predictions: Arrays by field name.
        estimate: How far they may be trusted, arrays `(samples, ...)` by name; see
            `mno.serving.model`. Or, in one line, why nothing is known of that.
    """

    predictions: dict[str, np.ndarray]
    estimate: dict[str, np.ndarray] | str

    def split(self, samples: Sequence[int]) -> list[ModelOutput]:
        """Return the parts of so many samples each, one after the other."""
        ends = np.cumsum(samples)
        spans = [slice(end - count, end) for end, count in zip(ends, samples, strict=True)]
        estimate = self.estimate
        return [
            ModelOutput(
                {name: array[span] for name, array in self.predictions.items()},
                estimate
                if isinstance(estimate, str)
                else {name: array[span] for name, array in estimate.items()},
            )
            for span in spans
        ]


def samples_of_a_part(served: Served, inputs: Arrays) -> int:
    """Return how many samples one pass on one core is to have, at least one.

    Args:
        served: The model.
        inputs: As `Surrogate.predict` takes them.
    """
    description = served.surrogate.description
    some = inputs.get(description.fields[0])
    points = 1 if some is None else math.prod(some.shape[1:][-len(description.space) :])
    return max(1, POINTS // max(points, 1))


def forward(served: Served, inputs: Arrays, steps: int | None, threads: int) -> ModelOutput:
    """Predict in one pass, and estimate how far the predictions may be trusted.

    Args:
        served: The model.
        inputs: As `Surrogate.predict` takes them.
        steps: Likewise.
        threads: On how many; a setting of the thread that calls this.

    Raises:
        InputError: The inputs do not fit the model.
    """
    torch.set_num_threads(threads)
    size = max((len(array) for array in inputs.values() if array.ndim), default=1)
    predictions = served.surrogate.predict(inputs, max(size, 1), steps)
    return ModelOutput(predictions, estimate(served, inputs, predictions, steps))


def joined(found: Sequence[ModelOutput]) -> ModelOutput:
    """Return what was found of several parts as one; an estimate, if there is one of each."""
    reasons = [part.estimate for part in found if isinstance(part.estimate, str)]
    known = [part.estimate for part in found if not isinstance(part.estimate, str)]
    return ModelOutput(
        _together([part.predictions for part in found]),
        reasons[0] if reasons else _together(known),
    )


def _together(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class BusyError(Exception):
    """Too many requests wait."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a request is answered.

    Attributes:
        predictions: Arrays by field name.
        estimate: How far they may be trusted, as `ModelOutput` has it.
        served: The model that made all of them.
    """

    predictions: Mapping[str, np.ndarray]
    estimate: Mapping[str, np.ndarray] | str
    served: Served


@dataclass(eq=False)
class _Job:
    """A request, and what has been found of it so far."""

    asked: PredictionRequest
    answer: Future[Answer] = field(default_factory=Future)
    parts: list[ModelOutput | None] = field(default_factory=lambda: [None])
    missing: int = 1

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs of one pass have in common."""
        shapes = ((name, array.shape[1:]) for name, array in self.asked.inputs.items())
        return (self.asked.steps, *sorted(shapes))

    @property
    def samples(self) -> int | None:
        """Samples of each field; none where fields differ, which no model takes."""
        counts = {len(a) if a.ndim else 0 for a in self.asked.inputs.values()}
        return counts.pop() if len(counts) == 1 else None

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.asked.inputs.values())


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a request, or all of it, and the model that it is asked of."""

    job: _Job
    served: Served
    index: int = 0
    span: slice = field(default_factory=lambda: slice(None))

    @property
    def inputs(self) -> Arrays:
        given = self.job.asked.inputs
        if self.span == slice(None):
            return given
        return {name: array[self.span] for name, array in given.items()}


class Batcher:
    """Threads that ask the model, one for each core, for all who wait.

    A request that comes alone has all cores. All of an answer comes from one model.

    Args:
        model: Returns the model to ask.
        max_batch: Samples of waiting requests that are predicted at once, at most.
        max_waiting: Requests that may wait.
        max_bytes: Inputs that may be put together.
        on_pass: Called with the number of samples of each pass.
        cores: Threads; as many as torch has, if not given.
    """

    def __init__(
        self,
        model: Callable[[], Served],
        max_batch: int,
        max_waiting: int,
        max_bytes: int,
        on_pass: Callable[[int], None] = lambda _: None,
        cores: int | None = None,
    ) -> None:
        self._model, self._on_pass = model, on_pass
        self._max_batch, self._max_waiting, self._max_bytes = max_batch, max_waiting, max_bytes
        self._cores = cores or torch.get_num_threads()
        keep_freed_memory()  # else a fifth of a pass is page faults
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()  # which nobody has begun
        self._parts: deque[_Part] = deque()  # of those that were begun
        self._parts_turn, self._busy, self._closed = False, 0, False
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher-{k}", daemon=True)
            for k in range(self._cores)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._jobs)

    def ask(self, asked: PredictionRequest) -> Future[Answer]:
        """Hand in a request; the answer, or an `InputError`, comes with the future.

        Raises:
            BusyError: Too many wait.
        """
        job = _Job(asked)
        with self._changed:
            if len(self._jobs) >= self._max_waiting:
                raise BusyError
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Answer what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                if isinstance(task, _Part):
                    self._answer([task])
                elif task.answer.set_running_or_notify_cancel():
                    self._begin(task)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _next(self) -> _Job | _Part | None:
        """Wait for something to do; none when there will be no more."""
        with self._changed:
            # Who is busy may still cut what it has begun, for others to help.
            while not (self._jobs or self._parts) and not (self._closed and not self._busy):
                self._changed.wait()
            if not (self._jobs or self._parts):
                return None
            self._busy += 1
            self._parts_turn = bool(self._parts) and (self._parts_turn or not self._jobs)
            queue = self._parts if self._parts_turn else self._jobs
            self._parts_turn = not self._parts_turn
            return queue.popleft()

    def _begin(self, job: _Job) -> None:
        """Answer a request: with others, alone, or its first part."""
        try:
            served = self._model()
            most = samples_of_a_part(served, job.asked.inputs)
        except Exception as error:
            job.answer.set_exception(error)
            return
        samples = job.samples
        if samples is None or samples == 0:
            self._answer([_Part(job, served)])
        elif samples <= most:
            most = min(most, self._max_batch)
            self._answer([_Part(j, served) for j in self._with_others(job, samples, most)])
        else:
            spans = [slice(start, start + most) for start in range(0, samples, most)]
            job.parts, job.missing = [None] * len(spans), len(spans)
            parts = [_Part(job, served, index, span) for index, span in enumerate(spans)]
            with self._changed:
                self._parts.extend(parts[1:])
                self._changed.notify_all()
            self._answer(parts[:1])

    def _with_others(self, first: _Job, samples: int, most: int) -> list[_Job]:
        """Return a request, and those that wait and can be answered with it."""
        jobs, nbytes = [first], first.nbytes
        with self._changed:
            for job in list(self._jobs):
                if job.kind != first.kind or not job.samples:
                    continue
                samples, nbytes = samples + job.samples, nbytes + job.nbytes
                if samples > most or nbytes > self._max_bytes:
                    break
                self._jobs.remove(job)
                if job.answer.set_running_or_notify_cancel():
                    jobs.append(job)
        return jobs

    def _answer(self, parts: Sequence[_Part]) -> None:
        """Ask the model for parts of one kind, in one pass."""
        parts = [part for part in parts if not part.job.answer.done()]  # another part may fail
        if not parts:
            return
        try:
            found = self._predict(parts)
        except Exception as error:
            if len(parts) == 1:
                self._fail(parts[0].job, error)
            else:  # one of them may be to blame, not all
                for part in parts:
                    self._answer([part])
            return
        for part, of_it in zip(parts, found, strict=True):
            self._found(part, of_it)

    def _predict(self, parts: Sequence[_Part]) -> list[ModelOutput]:
        with self._changed:
            others = len(self._jobs) + len(self._parts)
            threads = max(1, self._cores // (self._busy + others))
        served, steps = parts[0].served, parts[0].job.asked.steps
        given = [part.inputs for part in parts]
        if len(parts) == 1:
            self._on_pass(max((len(a) for a in given[0].values() if a.ndim), default=0))
            return [forward(served, given[0], steps, threads)]
        inputs = {name: np.concatenate([arrays[name] for arrays in given]) for name in given[0]}
        samples = [part.job.samples or 0 for part in parts]
        self._on_pass(sum(samples))
        return forward(served, inputs, steps, threads).split(samples)

    def _found(self, part: _Part, of_it: ModelOutput) -> None:
        job = part.job
        with self._changed:
            job.parts[part.index] = of_it
            job.missing -= 1
            if job.missing or job.answer.done():
                return
        try:
            known = [found for found in job.parts if found is not None]
            whole = of_it if len(known) == 1 else joined(known)
        except Exception as error:  # which must not end this thread
            self._fail(job, error)
            return
        job.answer.set_result(Answer(whole.predictions, whole.estimate, part.served))

    def _fail(self, job: _Job, error: Exception) -> None:
        with self._changed:
            if not job.answer.done():
                job.answer.set_exception(error)
