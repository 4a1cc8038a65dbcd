"""One training of a search, by the project's own training: pruned, refused, failed or measured."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from optuna.trial import Trial

from mno.core.config import section
from mno.core.errors import InputError, MnoError
from mno.core.files import file_sha256
from mno.core.forecast import TaskConfig
from mno.core.memory import fits_in_memory, keep_freed_memory
from mno.data.reading import Split, StoredSplit, open_split
from mno.evaluation.timing import latency, one_thread
from mno.nn.config import ModelConfig
from mno.study.search_space import SearchSpec
from mno.study.trials import Trials
from mno.training.config import TrainConfig
from mno.training.fit import train


@dataclass(frozen=True)
class SearchSplits:
    """What a trial is trained on and what it is judged by."""

    training: Split | StoredSplit
    validation: Split | StoredSplit


@cache
def _search_splits(data: Path) -> SearchSplits:
    """Open the training and the validation split, in memory if they fit well.

    Raises:
        MnoError: They cannot be read, or a file is not as recorded.
    """
    training = open_split(data, "train")
    # Files are verified once.
    validation = open_split(data, "validation", training.schema, checked=False)
    if fits_in_memory(training.nbytes + validation.nbytes):
        return SearchSplits(training.load(), validation.load())
    return SearchSplits(training, validation)


def made_from(data: Path) -> dict[str, Any]:
    """Return what a dataset says of itself: `scenario`, `seed`, `generate`, `parameters`.

    Raises:
        InputError: There is no dataset.
    """
    try:
        content = json.loads((data / "zarr.json").read_bytes())["attributes"]
        return {key: content.get(key) for key in ("scenario", "seed", "generate", "parameters")}
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{data} holds no dataset; a search takes the one of the line: mno generate"
        ) from None


def data_digest(data: Path) -> str:
    """Return the SHA-256 of a dataset's root file, which holds the checksums of all others."""
    try:
        return file_sha256(data / "zarr.json")
    except OSError:
        return ""


@dataclass(frozen=True)
class Job:
    """A training to be made.

    Attributes:
        number: Of the trial.
        params: Sections `task`, `model` and `train`.
        seed: Of the training.
        work: Folder of its checkpoints, its alone.
        latency_ms: Longest time of a prediction; none for any.
        watched: Whether it may be ended early.
    """

    number: int
    params: Mapping[str, Any]
    seed: int
    work: Path
    latency_ms: float | None = None
    watched: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes:
        state: `done`; `pruned`, ended early; `refused`, beyond a limit; `failed`, for its reason.
        error: Lowest validation error of an epoch, relative L2; none where there was no epoch.
        epochs: Metrics of each epoch.
        parameters: Trainable parameters; none where it was not trained to the end.
        latency_ms: Median time of a prediction; none where it was not asked for.
        seconds: Wall time it took, of this attempt.
        reason: Why it is not done.
    """

    state: Literal["done", "pruned", "refused", "failed"]
    error: float | None = None
    epochs: list[dict[str, float]] = field(default_factory=list)
    parameters: int | None = None
    latency_ms: float | None = None
    seconds: float = 0.0
    reason: str | None = None


class _EndedEarlyError(Exception):
    """A training has shown enough of itself."""


class _Epochs:
    """Reports each epoch's best validation error so far, and ends the training when told to."""

    def __init__(self, trial: Trial | None) -> None:
        self.trial = trial
        self.metrics: list[dict[str, float]] = []

    @property
    def best(self) -> float | None:
        """The lowest validation error so far; none before the first epoch."""
        return min((epoch["validation_relative_l2"] for epoch in self.metrics), default=None)

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Record an epoch (called by the training)."""
        self.metrics.append(dict(metrics))
        if self.trial is not None:
            self.trial.report(self.best or 0.0, epoch)
            if self.trial.should_prune():
                raise _EndedEarlyError


def train_in_worker(job: Job, data: Path, root: Path, search: str, spec: SearchSpec) -> Outcome:
    """Make a training of a search, in a process of its own that keeps the data in its memory.

    Args:
        job: The training.
        data: The dataset.
        root: The workspace.
        search: What the database knows the search by.
        spec: The search.
    """
    keep_freed_memory()
    trial = Trials(root, search, spec).of(job.number) if job.watched else None
    return run_training(job, _search_splits(data), trial)


def run_training(job: Job, splits: SearchSplits, trial: Trial | None = None) -> Outcome:
    """Make a training, or continue what an earlier attempt has begun.

    Args:
        job: The training.
        splits: What it is trained on and judged by.
        trial: Is told the lowest validation error after every epoch, and says whether to go on;
            none trains to the end.
    """
    start = time.monotonic()
    epochs = _Epochs(trial)
    state, reason, found, measured = "done", None, None, None
    try:
        measured = _latency(job, splits)
        if job.latency_ms is not None and measured is not None and measured > job.latency_ms:
            state = "refused"
            reason = f"a prediction takes {measured:.3g} ms; at most {job.latency_ms:g}"
        else:
            surrogate, _ = _train(job, splits, job.work, observers=[epochs])
            found = surrogate.num_parameters
    except _EndedEarlyError:
        state, reason = "pruned", f"ended after epoch {len(epochs.metrics)}"
    except MnoError as error:
        state, reason = "failed", str(error).replace("params.yaml: ", "")
    seconds = round(time.monotonic() - start, 2)
    return Outcome(state, epochs.best, epochs.metrics, found, measured, seconds, reason)


def _latency(job: Job, splits: SearchSplits) -> float | None:
    """Return how long a prediction takes, of a model of this shape that has barely been trained."""
    if job.latency_ms is None:
        return None
    few = np.arange(min(4, len(splits.training), len(splits.validation)))
    small = SearchSplits(splits.training.take(few), splits.validation.take(few))
    folder = job.work.with_name(f"{job.work.name}-timed")
    try:
        surrogate, _ = _train(job, small, folder, epochs=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    one = {name: field[:1] for name, field in splits.validation.fields.items()}
    given = surrogate.description.given(one)
    with one_thread():
        return 1e3 * latency(surrogate, given).median


def _train(job: Job, splits: SearchSplits, work: Path, observers: Any = (), **changes: Any) -> Any:
    config = section(job.params, "train", TrainConfig)
    return train(
        splits.training,
        splits.validation,
        model=section(job.params, "model", ModelConfig),
        config=config.model_copy(update=changes),
        seed=job.seed,
        work=work,
        task=section(job.params, "task", TaskConfig),
        observers=observers,
        quiet=True,
    )
