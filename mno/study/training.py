"""One training of a search, by the project's own training: pruned, refused, failed or measured."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import Trial

from mno.core.config import section
from mno.core.errors import InputError, MnoError
from mno.core.files import file_sha256
from mno.core.forecast import TaskConfig
from mno.core.memory import keep_freed_memory
from mno.data.reading import Split, StoredSplit, open_splits
from mno.evaluation.timing import latency, one_thread
from mno.nn.config import ModelConfig
from mno.study.search_space import SearchSpec
from mno.study.trials import Trials
from mno.training.config import TrainConfig
from mno.training.fit import train

Splits = tuple[Split | StoredSplit, Split | StoredSplit]
"""What a trial is trained on, and what it is judged by."""


@cache
def _search_splits(data: Path) -> Splits:
    training, validation = open_splits(data, "train", "validation")
    return training, validation


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
    """A training to be made."""

    number: int  # of the trial
    params: Mapping[str, Any]  # sections `task`, `model` and `train`
    seed: int
    work: Path  # folder of its checkpoints, its alone
    latency_ms: float | None = None  # longest time of a prediction; none for any
    watched: bool = True  # whether it may be ended early


@dataclass
class Outcome:
    """What came of a training: `done`; `pruned`, ended early; `refused`, beyond a limit; `failed`.

    Attributes:
        error: Lowest validation error of an epoch, relative L2; none where there was no epoch.
        epochs: Metrics of each epoch.
        parameters: Trainable parameters; none where it was not trained to the end.
        latency_ms: Median time of a prediction; none where it was not asked for.
        seconds: Wall time it took, of this attempt.
        reason: Why it is not done.
    """

    state: str
    error: float | None = None
    epochs: list[dict[str, float]] = field(default_factory=list)
    parameters: int | None = None
    latency_ms: float | None = None
    seconds: float = 0.0
    reason: str | None = None


class _EndedEarlyError(Exception):
    """A training has shown enough of itself."""


@dataclass
class _Epochs:
    """Tells the search of each epoch, and ends the training when told to."""

    outcome: Outcome
    trial: Trial | None

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        """Record an epoch (called by the training)."""
        self.outcome.epochs.append(dict(metrics))
        self.outcome.error = min(e["validation_relative_l2"] for e in self.outcome.epochs)
        if self.trial is not None:
            self.trial.report(self.outcome.error, epoch)
            if self.trial.should_prune():
                raise _EndedEarlyError


def train_in_worker(job: Job, data: Path, root: Path, search: str, spec: SearchSpec) -> Outcome:
    """Make a training of a search, or continue what an earlier attempt has begun.

    It is called in a process of its own, which keeps the data in its memory.

    Args:
        job: The training.
        data: The dataset.
        root: The workspace.
        search: What the database knows the search by.
        spec: The search.
    """
    keep_freed_memory()
    trial = Trials(root, search, spec).of(job.number) if job.watched else None
    splits, start, outcome = _search_splits(data), time.monotonic(), Outcome("done")
    try:
        outcome.latency_ms = _latency(job, splits)
        if (outcome.latency_ms or 0.0) > (job.latency_ms or np.inf):
            outcome.state = "refused"
            outcome.reason = (
                f"a prediction takes {outcome.latency_ms:.3g} ms; at most {job.latency_ms:g}"
            )
        else:
            surrogate, _ = _train(job, splits, job.work, observers=[_Epochs(outcome, trial)])
            outcome.parameters = surrogate.num_parameters
    except _EndedEarlyError:
        outcome.state, outcome.reason = "pruned", f"ended after epoch {len(outcome.epochs)}"
    except MnoError as error:
        outcome.state, outcome.reason = "failed", str(error).replace("params.yaml: ", "")
    outcome.seconds = round(time.monotonic() - start, 2)
    return outcome


def _latency(job: Job, splits: Splits) -> float | None:
    """Return how long a prediction takes, of a model of this shape that has barely been trained."""
    if job.latency_ms is None:
        return None
    few = np.arange(min(4, *map(len, splits)))
    folder = job.work.with_name(f"{job.work.name}-timed")
    try:
        surrogate, _ = _train(job, (splits[0].take(few), splits[1].take(few)), folder, epochs=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    one = {name: field[:1] for name, field in splits[1].fields.items()}
    with one_thread():
        return 1e3 * latency(surrogate, surrogate.description.given(one)).median


def _train(job: Job, splits: Splits, work: Path, observers: Any = (), **changes: Any) -> Any:
    return train(
        *splits,
        model=section(job.params, "model", ModelConfig),
        config=section(job.params, "train", TrainConfig).model_copy(update=changes),
        seed=job.seed,
        work=work,
        task=section(job.params, "task", TaskConfig),
        observers=observers,
        quiet=True,
    )
