"""Training as one call: from two splits to a surrogate, continued where it was interrupted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from mno.core.errors import InputError
from mno.core.forecast import TaskConfig, forecast_of
from mno.data.normalise import Normaliser
from mno.data.order import epoch_order
from mno.data.reading import Split, StoredSplit
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.training.augmentation import Augmentation, turns_of
from mno.training.checkpoint import newest_checkpoint
from mno.training.config import TrainConfig, check_unroll
from mno.training.environment import (
    honest_interrupts,
    lightning_precision,
    quiet_lightning,
    reproducible,
    training_device,
)
from mno.training.finished import read_finished, write_finished
from mno.training.history import History, TrainingObserver
from mno.training.keeper import Keeper
from mno.training.module import OperatorTraining
from mno.training.order import Batches, Purpose, epoch_choices
from mno.training.problem import (
    check_split,
    check_truth,
    encode,
    fields_with_gaps,
    fingerprint,
)
from mno.training.processes import Share, share_of, strategy
from mno.training.progress import progress_callbacks
from mno.training.warm_start import continued
from mno.training.windows import Windows


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
    share = share_of(config.processes, config.batch_size)
    description = _describe(training, model, task or TaskConfig())
    check_unroll(config, description.forecast)
    for split in (training, validation):
        check_truth(description, split)
    if initial is not None:
        description = continued(initial.description, description)
    digest = fingerprint(description, (training, validation), config, seed, initial)
    share.check_same(digest, torch.device(training_device()))
    work.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(digest, seed, work, observers, share)
    quiet = quiet or not share.is_first
    progress = progress_callbacks(keeper, config.epochs, console, quiet=quiet)
    with reproducible(config.threads):
        share.wait_for_first()
        finished = read_finished(work, digest)
        share.let_others_go()
        if finished:
            weights, history = finished
            keeper.tell_all(history)
        else:
            module = _module(description, training, config, seed, initial, share)
            _fit(keeper, module, training, validation, progress)
            weights, history = keeper.best_weights, keeper.history
            if share.is_first:
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
    share: Share,
) -> OperatorTraining:
    """Return what Lightning trains, with the weights that training begins with."""
    torch.manual_seed(seed)
    try:
        operator = description.build()
    except ValueError as error:
        raise InputError(f"section model: {error}") from None
    if initial is not None:
        operator.load_state_dict(initial.operator.state_dict())
    samples = len(next(iter(training.fields.values())))
    module = OperatorTraining(operator, description, training.schema, config, samples, share)
    try:
        module.try_out(next(iter(Batches(encode(description, training), 1))))
    except ValueError as error:
        raise InputError(str(error)) from None
    return module


def _fit(
    keeper: Keeper,
    module: OperatorTraining,
    training: Split | StoredSplit,
    validation: Split | StoredSplit,
    progress: list[Callback],
) -> None:
    """Train until the keeper's history is complete."""
    config, description, share = module.config, module.description, module.share
    path = None
    share.wait_for_first()
    found = newest_checkpoint(keeper.work)
    share.let_others_go()
    if found:
        path, content = found
        keeper.load_state_dict(content["callbacks"][keeper.state_key])
        keeper.tell_all(keeper.history)
        if keeper.history.is_complete(config.epochs, config.patience):
            return
        if share.is_first:
            print(f"continuing after epoch {len(keeper.history)} of {config.epochs}", flush=True)
    train_batches = Batches(
        encode(description, training),
        config.batch_size,
        lambda: epoch_order(module.num_samples, keeper.seed, len(keeper.history)),
        _changes(keeper, module, training),
        share,
    )
    with honest_interrupts(), quiet_lightning():
        trainer = Trainer(
            accelerator=training_device(),
            devices=share.size,
            strategy=strategy(share),
            precision=lightning_precision(config.precision, training_device()),
            max_epochs=config.epochs,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.gradient_clip,
            deterministic=True,
            callbacks=[keeper, *progress],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=keeper.work,
        )
        trainer.fit(
            module,
            train_batches,
            Batches(encode(description, validation), config.batch_size),
            ckpt_path=path,
            weights_only=True,
        )


def _changes(
    keeper: Keeper, module: OperatorTraining, training: Split | StoredSplit
) -> list[Windows | Augmentation]:
    """Return what is done to the fields of a batch before a step, in this order."""
    config, forecast = module.config, module.description.forecast

    def choices(number: int, purpose: Purpose) -> np.ndarray:
        epoch = len(keeper.history)
        return epoch_choices(module.num_samples, number, keeper.seed, epoch, purpose)

    changes: list[Windows | Augmentation] = []
    if forecast is not None and module.description.rolls_out:
        starts = forecast.steps - config.unroll + 1
        changes.append(
            Windows(
                (*module.description.states, *module.description.forcings),
                forecast.history + config.unroll,
                lambda: choices(starts, "window"),
            )
        )
    if config.augment:
        turns = turns_of(training.schema)
        changes.append(Augmentation(turns, lambda: choices(len(turns), "turn")))
    return changes


def _describe(training: Split | StoredSplit, model: ModelConfig, task: TaskConfig) -> Description:
    schema = training.schema
    normaliser = Normaliser.fit(
        training.fields,
        about_zero=[field.name for field in schema.outputs] if model.walls == "zero" else (),
    )
    extent, spacing, offset = _domain(training, normaliser)
    given = {field.name: field.units for field in schema.inputs}
    return Description(
        scenario=schema.scenario,
        inputs=given,
        outputs={field.name: field.units for field in schema.outputs},
        extent=extent,
        reference_spacing=spacing,
        normaliser=normaliser,
        model=model,
        offset=offset,
        forecast=forecast_of(task, schema.fields, schema.axes),
        scalars=tuple(field.name for field in schema.inputs if field.is_scalar),
        forcings=tuple(field.name for field in schema.inputs if field.is_forcing),
        coordinates={field.name: field.units for field in schema.coordinates},
        gaps=tuple(name for name in fields_with_gaps(schema) if name in given),
    )


def _domain(
    training: Split | StoredSplit, normaliser: Normaliser
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return extent, reference spacing and offset of the places of a split.

    The typical distance of unordered points is that of as many on a lattice that fills the box
    around them.
    """
    schema = training.schema
    if not schema.coordinates:
        return schema.extent, schema.spacing, schema.offset
    names = [field.name for field in schema.coordinates]
    extent = tuple(float(np.ptp(training.fields[name][:])) for name in names)
    box = math.prod(length / normaliser.std[n] for n, length in zip(names, extent, strict=True))
    points = training.fields[names[0]].shape[-1]
    return extent, ((box / points) ** (1 / len(names)),), ()
