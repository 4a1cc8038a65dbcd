"""Training as one call: from two splits to a surrogate, continued where it was interrupted."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from mno.core.errors import InputError, MnoError
from mno.core.forecast import TaskConfig
from mno.data.loading import Loader
from mno.data.reading import Split, StoredSplit
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.training.batches import (
    Augmentation,
    Change,
    Purpose,
    TrainingSamples,
    Windows,
    epoch_choices,
    seed_epoch,
    turns_of,
)
from mno.training.checkpoint import (
    check_fingerprint,
    newest_checkpoint,
    read_finished,
    write_checkpoint,
    write_finished,
)
from mno.training.config import TrainConfig, check_unroll
from mno.training.history import (
    EpochRecord,
    History,
    Progress,
    ProgressBar,
    ProgressLines,
    TrainingObserver,
)
from mno.training.problem import (
    check_split,
    check_truth,
    continued,
    describe,
    encode,
    fingerprint,
)
from mno.training.processes import Rank, not_averaging, this_rank, training_device
from mno.training.step import (
    OperatorTraining,
    learning_rate_factor,
    optimiser_of,
    steps_per_epoch,
)

if TYPE_CHECKING:
    from rich.console import Console


def train(
    training: Split | StoredSplit,
    validation: Split | StoredSplit,
    *,
    model: ModelConfig,
    config: TrainConfig,
    seed: int,
    work: Path,
    task: TaskConfig | None = None,
    initial: Surrogate | None = None,
    observers: Sequence[TrainingObserver] = (),
    console: Console | None = None,
    quiet: bool = False,
) -> tuple[Surrogate, History]:
    """Train an operator, or continue, or return what an earlier call has finished.

    After every epoch a checkpoint is written to `work`. A call that finds one there continues
    after it, and ends with exactly the weights and history of a training never interrupted, given
    the same software and kind of device. The same arguments give the same result.

    Args:
        training: The split whose samples are learned, and the only one the normaliser sees. In
            memory or in files, the result is the same, bit for bit.
        validation: The split that chooses the best epoch and ends the training early.
        model: The operator.
        config: How to train it.
        seed: Determines initial weights, the order of samples and all that is drawn in training;
            not negative.
        work: Folder for checkpoints, made if missing; it belongs to this one training.
        task: What is given and what is predicted of states; its defaults if not given.
        initial: A trained model to start from instead of fresh weights. Normaliser and reference
            spacing are its own, whatever the training split.
        observers: Told of every epoch; see `TrainingObserver`.
        console: Terminal to draw a progress bar on; without one, lines are printed.
        quiet: Show no progress.

    Returns:
        The surrogate with the weights of the best epoch, and the history of all epochs.

    Raises:
        InputError: The splits, the seed or the initial model cannot be used, the configuration or
            the task asks for what the dataset, its scenario or the device does not have, `work`
            belongs to another training, or this is not one of `config.processes`.
        MnoError: Training diverged, was asked to end, or cannot write its checkpoints.
    """
    if seed < 0:
        raise InputError(f"seed={seed} must not be negative")
    if config.warm_start is not None and initial is None:
        raise InputError(
            f"train.warm_start={config.warm_start} names a model, but `initial` is not given; load "
            "it (mno.registry.load_surrogate, or Surrogate.load) and hand it over"
        )
    for split in (training, validation):
        check_split(split)
    rank = this_rank(config.processes, config.batch_size)
    autocast = autocast_of(config.precision, training_device())
    description = describe(training, model, task or TaskConfig())
    check_unroll(config, description.forecast)
    for split in (training, validation):
        check_truth(description, split)
    if initial is not None:
        description = continued(initial.description, description)
    digest = fingerprint(description, (training, validation), config, seed, initial)
    rank.check_same(digest, torch.device(training_device()))
    work.mkdir(parents=True, exist_ok=True)
    observers = observers if rank.is_first else ()
    with _reproducible(config.threads):
        with rank.first_goes_ahead():
            finished = read_finished(work, digest)
        if finished:
            weights, history = finished
            _tell(observers, history.records)
        else:
            module = _module(description, training, config, seed, initial, rank)
            loop = _Loop(module, autocast, seed, work, digest, observers)
            loop.run(training, validation, console, quiet)
            weights, history = loop.best_weights, loop.history
            if rank.is_first:
                write_finished(work, digest, weights, history)
        operator = description.build()
    operator.load_state_dict(weights)
    return Surrogate(description, operator), history


def _module(
    description: Description,
    training: Split | StoredSplit,
    config: TrainConfig,
    seed: int,
    initial: Surrogate | None,
    rank: Rank,
) -> OperatorTraining:
    """Return what is trained, with the weights that training begins with."""
    torch.manual_seed(seed)
    try:
        operator = description.build()
    except ValueError as error:
        raise InputError(f"section model: {error}") from None
    if initial is not None:
        operator.load_state_dict(initial.operator.state_dict())
    module = OperatorTraining(operator, description, training.schema, config, len(training), rank)
    try:
        module.try_out(TrainingSamples(encode(description, training)).batch(np.arange(1), 0))
    except ValueError as error:
        raise InputError(str(error)) from None
    return module


class _Loop:
    """The epochs of a training, and everything of it that outlives its process.

    The best weights and the history lie in the same checkpoint as the current weights: a single
    rename moves all three on, so that no interruption can leave them out of step.

    Args:
        module: What is trained.
        autocast: Makes the context in which the loss of a batch is taken.
        seed: The run's seed.
        work: The folder of the checkpoints.
        digest: Of all that the training depends on.
        observers: Told of every epoch, once its checkpoint is safe.
    """

    def __init__(
        self,
        module: OperatorTraining,
        autocast: Callable[[], AbstractContextManager[Any]],
        seed: int,
        work: Path,
        digest: str,
        observers: Sequence[TrainingObserver],
    ) -> None:
        self.device = torch.device(training_device())
        self.module = module.to(self.device)
        self.config, self.rank = module.config, module.rank
        self.loss_of = self.rank.averaging_gradients(module)
        self.optimiser = optimiser_of(module.operator, module.config)
        self.autocast, self.seed, self.work = autocast, seed, work
        self.digest, self.observers = digest, observers
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}

    def run(
        self,
        training: Split | StoredSplit,
        validation: Split | StoredSplit,
        console: Console | None,
        quiet: bool,
    ) -> None:
        """Train until the history is complete, after the newest checkpoint if there is one."""
        config, description = self.config, self.module.description
        self._restore()
        if self.history.is_complete(config.epochs, config.patience):
            return
        changes = _changes(self.module, training, self.seed)
        batches = _batches(
            TrainingSamples(encode(description, training), changes, self.rank), config, self.seed
        )
        batches.epoch = len(self.history)
        judged = _batches(TrainingSamples(encode(description, validation)), config, None)
        shown = (config.epochs, len(batches), len(self.history))
        if quiet or not self.rank.is_first:
            progress = Progress(*shown)
        else:
            progress = ProgressBar(*shown, console) if console else ProgressLines(*shown)
        with _ending_on_request(), _silent_exchange(), progress:
            done = False
            while not done:
                progress.begin_epoch()
                self._train(batches, progress)
                self._validate(judged)
                done = self._end_epoch()
                progress.end_epoch(self.history, done)

    def _restore(self) -> None:
        """Take up what the newest checkpoint holds, and tell the observers of its epochs."""
        with self.rank.first_goes_ahead():
            found = newest_checkpoint(self.work)
        if found is None:
            return
        check_fingerprint(found.get("fingerprint", ""), self.digest, self.work)
        self.history = History.from_records(found["history"])
        self.best_weights = dict(found["best_weights"])
        self.module.load_state_dict(found["module"])
        self.optimiser.load_state_dict(found["optimiser"])
        _tell(self.observers, self.history.records)
        done, epochs = len(self.history), self.config.epochs
        if self.rank.is_first and not self.history.is_complete(epochs, self.config.patience):
            print(f"continuing after epoch {done} of {epochs}", flush=True)

    def _train(self, batches: Loader, progress: Progress) -> None:
        """Learn from every batch once."""
        epoch, every = len(self.history), self.config.accumulate
        seed_epoch(self.seed, epoch, self.rank.number)
        self.module.begin_epoch(epoch)
        steps = steps_per_epoch(self.module.num_samples, self.config)
        for number, batch in enumerate(batches):
            self._set_learning_rate(epoch * steps + number // every, self.config.epochs * steps)
            if number % every == 0:
                self.optimiser.zero_grad()
            is_whole = (number + 1) % every == 0 or number + 1 == len(batches)
            with nullcontext() if is_whole else not_averaging(self.loss_of):
                with self.autocast():
                    loss = self.loss_of(self._on_device(batch), number)
                loss.backward()
            if is_whole:
                self._step()
            progress.add_batch()

    def _set_learning_rate(self, step: int, num_steps: int) -> None:
        factor = learning_rate_factor(step, num_steps, self.config.warmup_fraction)
        self.learning_rate = self.config.learning_rate * factor
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate

    def _step(self) -> None:
        """Take the optimiser's step, and the average of the weights along."""
        weights = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, self.config.gradient_clip)
        self.optimiser.step()
        if self.module.average is not None:
            self.module.average.update(self.module.operator)

    @torch.inference_mode()
    def _validate(self, batches: Loader) -> None:
        self.module.eval()
        for batch in batches:
            self.module.validation_step(self._on_device(batch))
        self.module.train()

    def _end_epoch(self) -> bool:
        """Record and save the epoch, and tell of it; whether it was the last."""
        module = self.module
        self.rank.pool([module.train_error, module.train_loss], self.device)
        record = EpochRecord(
            epoch=len(self.history) + 1,
            train_relative_l2=module.train_error.value,
            validation_relative_l2=self.rank.agreed(module.validation_error.value, self.device),
            learning_rate=self.learning_rate,
            train_loss=None if module.objective.is_relative_l2 else module.train_loss.value,
        )
        self.history = self.history.with_record(record)
        if self.history.best is record:
            weights = module.evaluated.state_dict()
            self.best_weights = {key: value.cpu().clone() for key, value in weights.items()}
        if self.rank.is_first:
            content = {
                "fingerprint": self.digest,
                "history": [record.to_dict() for record in self.history.records],
                "best_weights": self.best_weights,
                "module": dict(module.state_dict()),
                "optimiser": self.optimiser.state_dict(),
            }
            write_checkpoint(self.work, record.epoch, content)
        _tell(self.observers, [record])
        return self.history.is_complete(self.config.epochs, self.config.patience)

    def _on_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: field.to(self.device) for name, field in batch.items()}


def _batches(samples: TrainingSamples, config: TrainConfig, seed: int | None) -> Loader:
    """Return batches in a new order in each epoch, or in stored order without a seed."""
    ahead = 0 if samples.in_memory else 2
    shuffle = seed is not None
    return Loader(samples, config.batch_size, seed=seed or 0, shuffle=shuffle, ahead=ahead)


def _changes(module: OperatorTraining, training: Split | StoredSplit, seed: int) -> list[Change]:
    """Return what is done to the fields of a batch before a step, in this order."""
    config, description = module.config, module.description
    forecast = description.forecast

    def drawn(number: int, purpose: Purpose) -> Callable[[int], np.ndarray]:
        return lambda epoch: epoch_choices(module.num_samples, number, seed, epoch, purpose)

    changes: list[Change] = []
    if forecast is not None and description.rolls_out:
        names, frames = (*description.states, *description.forcings), forecast.history
        starts = drawn(forecast.steps - config.unroll + 1, "window")
        changes.append(Windows(names, frames + config.unroll, starts))
    if config.augment:
        turns = turns_of(training.schema)
        changes.append(Augmentation(turns, drawn(len(turns), "turn")))
    return changes


def _tell(observers: Sequence[TrainingObserver], records: Sequence[EpochRecord]) -> None:
    for record in records:
        for observer in observers:
            observer.on_epoch(record.epoch, record.metrics)


def autocast_of(
    precision: Literal[32, "bf16"], device: str
) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of a training's layers.

    Args:
        precision: `train.precision`.
        device: Where training computes. A processor without instructions for bf16 does it in
            software, at no gain.

    Raises:
        InputError: The device does not have it.
    """
    if precision == 32:
        return nullcontext
    if device == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        available = torch.amp.is_autocast_available(device)
    if not available:
        raise InputError(
            f"train.precision={precision}: {device} here has no bf16; set train.precision=32"
        )
    return lambda: torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Compute with a fixed number of threads and deterministic kernels; then put all back.

    The random generators are put back, too: training leaves no trace in the process it runs in.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    # By itself torch then also fills every new tensor with NaN, a seventh of a step's time. That
    # shows reads of memory before it is written, which the tests of the kernels look for.
    filling_before = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # or cuBLAS is not deterministic
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before)
            torch.utils.deterministic.fill_uninitialized_memory = filling_before  # pyright: ignore


@contextmanager
def _silent_exchange() -> Iterator[None]:
    """Keep to itself what torch says of the layout of gradients that processes exchange."""
    with warnings.catch_warnings():  # a matter of speed, and of a kernel's layout
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        yield


@contextmanager
def _ending_on_request() -> Iterator[None]:
    """Turn SIGTERM into an error, unless somebody else deals with it.

    Raises:
        MnoError: The process was asked to end.
    """

    def end(*_: object) -> None:
        raise MnoError(
            "training was asked to end (SIGTERM); run it again and it continues after its last "
            "whole epoch"
        )

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
