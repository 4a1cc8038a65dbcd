"""Training as one call: from two splits to a surrogate, continued where it was interrupted."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

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
from mno.training import checkpoint, problem
from mno.training.batches import TrainingSamples, changes_of, seed_epoch
from mno.training.config import TrainConfig, check_unroll
from mno.training.history import EpochRecord, History, Observer, Progress
from mno.training.optimizer import optimizers_of
from mno.training.processes import Rank, not_averaging, this_rank, training_device
from mno.training.step import OperatorTraining, learning_rate_factor


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
    observers: Sequence[Observer] = (),
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
        observers: Told of every epoch, once its checkpoint is safe.
        quiet: Print no progress.

    Returns:
        The surrogate with the weights of the best epoch, and the history of all epochs.

    Raises:
        InputError: The splits, the seed or the initial model cannot be used, the configuration or
            the task asks for what the dataset, its scenario or the device does not have, `work`
            belongs to another training, or this is not one of `config.processes`.
        MnoError: Training diverged, was asked to end, or cannot write its checkpoints.
    """
    if config.warm_start is not None and initial is None:
        raise InputError(
            f"train.warm_start={config.warm_start} names a model, but `initial` is not given; load "
            "it (Surrogate.load) and hand it over"
        )
    splits = (training, validation)
    for split in splits:
        problem.check_split(split)
    rank = this_rank(config.processes, config.batch_size)
    description = problem.describe(training, model, task or TaskConfig(), config.scales)
    forecast = description.forecast
    check_unroll(config, forecast)
    frames = {validation.fields[name].shape[1] for name in description.states}
    if forecast and frames - {wanted := forecast.history + forecast.steps}:
        raise InputError(
            f"the {validation.name} split has {max(frames)} frames; expected {wanted}, those of "
            f"training but the first task.skip={forecast.skip}: mno.data.parts.seen leaves them out"
        )
    for split in splits:
        problem.check_truth(description, split)
    if initial is not None:
        description = problem.continued(initial.description, description, config.scales)
    for split in splits:
        problem.check_logarithms(description.normaliser.scales, split)
    digest = problem.fingerprint(description, splits, config, seed, initial)
    rank.check_same(digest)
    work.mkdir(parents=True, exist_ok=True)
    observers = observers if rank.is_first else ()
    with _reproducible(config.threads):
        module = _module(description, training, config, seed, initial, rank)
        loop = _Loop(module, seed, work, digest, observers)
        loop.run(training, validation, quiet=quiet or not rank.is_first)
        operator = description.build()
    operator.load_state_dict(loop.best_weights)
    return Surrogate(description, operator), loop.history


def _module(
    description: Description,
    training: Split | StoredSplit,
    config: TrainConfig,
    seed: int,
    initial: Surrogate | None,
    rank: Rank,
) -> OperatorTraining:
    torch.manual_seed(seed)
    try:
        operator = description.build()
    except ValueError as error:
        raise InputError(f"section model: {error}") from None
    if initial is not None:
        operator.load_state_dict(initial.operator.state_dict())
    module = OperatorTraining(operator, description, training.schema, config, len(training), rank)
    samples = TrainingSamples(training, description.normaliser)
    try:
        module.try_out(samples.batch(np.arange(1), 0))
    except ValueError as error:
        raise InputError(str(error)) from None
    return module


class _Loop:
    """The epochs of a training, and everything of it that outlives its process.

    The best weights and the history lie in the same checkpoint as the current weights: a single
    rename moves all three on, so that no interruption can leave them out of step.
    """

    def __init__(
        self,
        module: OperatorTraining,
        seed: int,
        work: Path,
        digest: str,
        observers: Sequence[Observer],
    ) -> None:
        self.device = torch.device(training_device())
        self.module = module.to(self.device)
        self.config, self.rank = module.config, module.rank
        self.loss_of = self.rank.averaging_gradients(module)
        self.optimizers = optimizers_of(module.operator, module.config)
        self.seed, self.work, self.digest, self.observers = seed, work, digest, observers
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}

    @property
    def is_complete(self) -> bool:
        return self.history.is_complete(self.config.epochs, self.config.patience)

    def run(
        self, training: Split | StoredSplit, validation: Split | StoredSplit, *, quiet: bool
    ) -> None:
        """Train until the history is complete, after the newest checkpoint if there is one."""
        self._restore()
        if self.is_complete:
            return
        description, done = self.module.description, len(self.history)
        normaliser = description.normaliser
        changes = changes_of(training, description, self.config, self.seed)
        samples = TrainingSamples(training, normaliser, changes, self.rank)
        batches = self._batches(samples, self.seed)
        batches.epoch = done
        judged = self._batches(TrainingSamples(validation, normaliser), None)
        progress = Progress(self.config.epochs, done)
        if done and not quiet:
            print(f"continuing after epoch {done} of {self.config.epochs}", flush=True)
        with _ending_on_request():
            while not self.is_complete:
                self._train(batches)
                self._validate(judged)
                self._end_epoch()
                if not quiet:
                    progress.end_epoch(self.history.records[-1], self.is_complete)

    def _restore(self) -> None:
        """Take up what the newest checkpoint holds, and tell the observers of its epochs."""
        with self.rank.first_goes_ahead():
            found = checkpoint.newest_checkpoint(self.work)
        if found is None:
            return
        if found.get("fingerprint") != self.digest:
            raise InputError(
                f"{self.work} holds a training with other data, parameters or seed; use another "
                "folder for this one, or delete that one"
            )
        self.history = History.from_records(found["history"])
        self.best_weights = dict(found["best_weights"])
        self.module.load_state_dict(found["module"])
        for optimizer, state in zip(self.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        _tell(self.observers, self.history.records)

    def _batches(self, samples: TrainingSamples, seed: int | None) -> Loader:
        """Return batches in a new order in each epoch, or in stored order without a seed."""
        ahead, shuffle = 0 if samples.in_memory else 2, seed is not None
        return Loader(samples, self.config.batch_size, seed=seed or 0, shuffle=shuffle, ahead=ahead)

    def _train(self, batches: Loader) -> None:
        config, epoch, every = self.config, len(self.history), self.config.accumulate
        seed_epoch(self.seed, epoch, self.rank.number)
        self.module.begin_epoch(epoch)
        steps = config.steps_per_epoch(self.module.num_samples)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        weights = [p for group in groups for p in group["params"]]
        for number, batch in enumerate(batches):
            step = epoch * steps + number // every
            factor = learning_rate_factor(step, config.epochs * steps, config.warmup_fraction)
            self.learning_rate = config.learning_rate * factor
            for group in groups:
                group["lr"] = self.learning_rate
            if number % every == 0:
                self.module.zero_grad()
            is_whole = (number + 1) % every == 0 or number + 1 == len(batches)
            with nullcontext() if is_whole else not_averaging(self.loss_of):
                with self._autocast():
                    loss = self.loss_of(self._on_device(batch), number)
                loss.backward()
            if is_whole:
                torch.nn.utils.clip_grad_norm_(weights, config.gradient_clip)
                for optimizer in self.optimizers:
                    optimizer.step()
                if self.module.average is not None:
                    self.module.average.update_parameters(self.module.operator)

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the layers; a processor may do bf16 in software, at no gain."""
        if self.config.precision == 32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)

    @torch.inference_mode()
    def _validate(self, batches: Loader) -> None:
        self.module.eval()
        for batch in batches:
            self.module.validation_step(self._on_device(batch))
        self.module.train()

    def _end_epoch(self) -> None:
        module, rank = self.module, self.rank
        train_loss = module.train_loss.over(rank)
        record = EpochRecord(
            epoch=len(self.history) + 1,
            train_relative_l2=module.train_error.over(rank),
            validation_relative_l2=rank.agreed(module.validation_error.over(Rank())),
            learning_rate=self.learning_rate,
            train_loss=None if module.objective.is_relative_l2 else train_loss,
        )
        self.history = History((*self.history.records, record))
        if self.history.best is record:
            weights = module.evaluated.state_dict()
            self.best_weights = {key: value.cpu().clone() for key, value in weights.items()}
        if self.rank.is_first:
            content = {
                "fingerprint": self.digest,
                "history": self.history.to_dict()["epochs"],
                "best_weights": self.best_weights,
                "module": dict(module.state_dict()),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
            checkpoint.write_checkpoint(self.work, record.epoch, content)
        _tell(self.observers, [record])

    def _on_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: field.to(self.device) for name, field in batch.items()}


def _tell(observers: Sequence[Observer], records: Sequence[EpochRecord]) -> None:
    for record in records:
        for observer in observers:
            observer(record.epoch, record.metrics)


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Compute with a fixed number of threads and deterministic kernels; then put all back.

    The random generators are put back, too: training leaves no trace in the process it runs in.
    """
    # By itself torch then also fills every new tensor with NaN, a seventh of a step's time. That
    # shows reads of memory before it is written, which the tests of the kernels look for.
    filling: Any = torch.utils.deterministic
    threads_before, filled_before = torch.get_num_threads(), filling.fill_uninitialized_memory
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # or cuBLAS is not deterministic
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        # CUDA has none for a few operations, such as cumulative sums: there torch warns.
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        filling.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(was_deterministic)
            filling.fill_uninitialized_memory = filled_before


@contextmanager
def _ending_on_request() -> Iterator[None]:
    """Turn SIGTERM into an error, unless somebody else deals with it."""

    def end(*_: object) -> None:
        raise MnoError(
            "training was asked to end (SIGTERM); run it again and it continues after its last "
            "whole epoch"
        )

    is_main = threading.current_thread() is threading.main_thread()
    is_free = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_free:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
