"""Requests that wait are answered by all cores, small ones together and large ones in parts.

A core that is free takes the request that waits longest. What is smaller than a part, of `POINTS`,
it answers together with others of the same shapes; what is larger it cuts, so that the other cores
help. Threads that share one pass wait for each other after every operation, and spin while they
wait, which costs most where clients want the same cores; parts have nothing to wait for, and what a
small part works on stays in its core's cache. Parts take turns with requests that wait, so that
small ones need not wait for all of a large one. Nobody waits for the slowest of a batch: an answer
is given as soon as its own samples are there.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from mno.core.absent import Absent
from mno.core.memory import keep_freed_memory
from mno.core.readings import from_points, is_made, to_points
from mno.serving.model import Served, estimate
from mno.serving.protocol import PredictionRequest, RefusedError

Arrays = Mapping[str, np.ndarray]

POINTS = 4096  # of a part; at a width of 64 an array of features is then 1 MiB


class Answer(NamedTuple):
    """What a model says of some samples, and how far that may be trusted."""

    predictions: Arrays
    estimate: Arrays | Absent  # shape (samples, ...), by the names that `mno.serving.model` has
    served: Served  # the model that made all of them

    def split(self, samples: Sequence[int]) -> "list[Answer]":
        """Return the parts of so many samples each, one after the other."""
        found = []
        for end, count in zip(np.cumsum(samples), samples, strict=True):
            span, known = slice(end - count, end), self.estimate
            known = known if isinstance(known, Absent) else _cut(known, span)
            found.append(Answer(_cut(self.predictions, span), known, self.served))
        return found


def _cut(arrays: Arrays, span: slice) -> Arrays:
    return {name: array[span] for name, array in arrays.items()}


def _together(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: Sequence[Answer]) -> Answer:
    """Return the answers on several parts as one; an estimate, if there is one of each."""
    if len(parts) == 1:
        return parts[0]
    predictions, estimates, served = zip(*parts, strict=True)
    absent = next((known for known in estimates if isinstance(known, Absent)), None)
    return Answer(_together(predictions), absent or _together(estimates), served[0])


@dataclass(eq=False)
class _Job:
    """A request, and what has been found of its parts so far."""

    asked: PredictionRequest
    answer: Future[Answer] = field(default_factory=Future)
    parts: list[Answer | None] = field(default_factory=lambda: [None])

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs of one pass have in common."""
        shapes = ((name, array.shape[1:]) for name, array in self.asked.inputs.items())
        return (self.asked.steps, *sorted(shapes))

    @property
    def samples(self) -> int:
        """Samples of each field; 0 where fields differ, which no model takes."""
        counts = {len(a) if a.ndim else 0 for a in self.asked.inputs.values()}
        return counts.pop() if len(counts) == 1 else 0

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.asked.inputs.values())


class _Part(NamedTuple):
    """A part of a request, all of it without a span, and the model that it is asked of."""

    job: _Job
    served: Served
    index: int = 0
    span: slice | None = None

    @property
    def inputs(self) -> Arrays:
        given = self.job.asked.inputs
        return given if self.span is None else _cut(given, self.span)


class Batcher:
    """Threads that ask the model, one for each core, for all who wait.

    A request that comes alone has all cores. All of an answer comes from one model. Requests that
    are predicted at once have so many samples and bytes at most; `on_pass` is told the samples of
    each pass. There are as many threads as torch has, if `cores` are not given.
    """

    def __init__(
        self, model: Callable[[], Served], max_batch: int, max_waiting: int, max_bytes: int,
        on_pass: Callable[[int], None] = lambda _: None, cores: int | None = None,
    ) -> None:  # fmt: skip
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
        """Hand in a request, whose answer comes later; a `RefusedError` if too many wait."""
        job = _Job(asked)
        with self._changed:
            if len(self._jobs) >= self._max_waiting:
                why = f"{self._max_waiting} requests are waiting; try again in a moment"
                raise RefusedError(503, why)
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
        served = self._model()
        description = served.surrogate.description
        some = job.asked.inputs.get(description.fields[0])
        space = () if some is None else some.shape[1:][-len(description.space) :]
        most = max(1, POINTS // max(math.prod(space), 1))  # samples of one pass on one core
        if not (samples := job.samples):
            self._answer([_Part(job, served)])
        elif samples <= most:
            jobs = self._with_others(job, min(most, self._max_batch))
            self._answer([_Part(each, served) for each in jobs])
        else:
            spans = [slice(start, start + most) for start in range(0, samples, most)]
            job.parts = [None] * len(spans)
            parts = [_Part(job, served, index, span) for index, span in enumerate(spans)]
            with self._changed:
                self._parts.extend(parts[1:])
                self._changed.notify_all()
            self._answer(parts[:1])

    def _with_others(self, first: _Job, most: int) -> list[_Job]:
        jobs, samples, nbytes = [first], first.samples, first.nbytes
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
        parts = [part for part in parts if not part.job.answer.done()]  # another part may fail
        if not parts:
            return
        try:
            found = self._predict(parts)
        except Exception as error:
            if len(parts) > 1:  # one of them may be to blame, not all
                for part in parts:
                    self._answer([part])
                return
            with self._changed:
                if not parts[0].job.answer.done():
                    parts[0].job.answer.set_exception(error)
            return
        for part, of_it in zip(parts, found, strict=True):
            job = part.job
            with self._changed:
                job.parts[part.index] = of_it
                known = [answer for answer in job.parts if answer is not None]
                is_last = len(known) == len(job.parts) and not job.answer.done()
            if is_last:
                job.answer.set_result(_joined(known))

    def _predict(self, parts: Sequence[_Part]) -> list[Answer]:
        with self._changed:
            threads = max(1, self._cores // (self._busy + len(self._jobs) + len(self._parts)))
        served, steps = parts[0].served, parts[0].job.asked.steps
        given = [part.inputs for part in parts]
        inputs = given[0] if len(given) == 1 else _together(given)
        size = max((len(array) for array in inputs.values() if array.ndim), default=0)
        self._on_pass(size)
        torch.set_num_threads(threads)  # of those that this thread computes on
        layout, cells = (about := served.surrogate.description).readings, about.cells
        if told := bool(layout) and not any(map(is_made, inputs)):  # judged as the operator answers
            inputs = to_points(layout, inputs, cells)
        predictions: Arrays = served.surrogate.predict(inputs, max(size, 1), steps)
        known = estimate(served, inputs, predictions, steps)
        predictions = from_points(layout, predictions, cells) if told else predictions
        found = Answer(predictions, known, served)
        return [found] if len(parts) == 1 else found.split([part.job.samples for part in parts])
