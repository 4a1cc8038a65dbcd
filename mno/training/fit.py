"""Training as one call: from two splits to a surrogate, continued where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console
from torch import Tensor

from mno.data.normalise import Normaliser
from mno.errors import InputError
from mno.nn.config import ModelConfig
from mno.surrogate import Description, Surrogate
from mno.training.checkpoint import newest_checkpoint
from mno.training.config import TrainConfig
from mno.training.environment import (
    honest_interrupts,
    quiet_lightning,
    reproducible,
    training_device,
)
from mno.training.finished import read_finished, write_finished
from mno.training.history import History, TrainingObserver
from mno.training.keeper import Keeper
from mno.training.module import OperatorTraining
from mno.training.order import Batches, epoch_order
from mno.training.progress import progress_callbacks

if TYPE_CHECKING:
    from mno.data.reading import Split


def train(
    training: Split,
    validation: Split,
    *,
    model: ModelConfig,
    config: TrainConfig,
    seed: int,
    work: Path,
    observers: Sequence[TrainingObserver] = (),
    console: Console | None = None,
    quiet: bool = False,
) -> tuple[Surrogate, History]:
    """Train an operator, or continue, or return what an earlier call has finished.

    After every epoch a checkpoint is written to `work`. A call that finds one there continues
    after it, and ends with exactly the weights and history of a training never interrupted, given
    the same software and kind of device. The same arguments give the same result.

    Args:
        training: The split whose samples are learned, and the only one the normaliser sees.
        validation: The split that chooses the best epoch and ends the training early.
        model: The operator.
        config: How to train it.
        seed: Determines initial weights and the order of samples; not negative.
        work: Folder for checkpoints, made if missing; it belongs to this one training.
        observers: Told of every epoch; see `TrainingObserver`.
        console: Terminal to draw a progress bar on; without one, lines are printed.
        quiet: Show no progress.

    Returns:
        The surrogate with the weights of the best epoch, and the history of all epochs.

    Raises:
        InputError: The splits or the seed cannot be used, or `work` belongs to another training.
        MnoError: Training diverged, was asked to end, or cannot write its checkpoints.
    """
    if seed < 0:
        raise InputError(f"seed={seed} must not be negative")
    for split in (training, validation):
        _check(split)
    description = _describe(training, model)
    fingerprint = _fingerprint(description, (training, validation), config, seed)
    work.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(fingerprint, seed, work, observers)
    progress = progress_callbacks(keeper, config.epochs, console, quiet=quiet)
    with reproducible(config.threads):
        if finished := read_finished(work, fingerprint):
            weights, history = finished
            keeper.tell_all(history)
        else:
            _fit(keeper, description, training, validation, config, progress)
            weights, history = keeper.best_weights, keeper.history
            write_finished(work, fingerprint, weights, history)
        operator = description.build()
    operator.load_state_dict(weights)
    return Surrogate(description, operator), history


def _fit(
    keeper: Keeper,
    description: Description,
    training: Split,
    validation: Split,
    config: TrainConfig,
    progress: list[Callback],
) -> None:
    """Train until the keeper's history is complete."""
    path = None
    if found := newest_checkpoint(keeper.work):
        path, content = found
        keeper.load_state_dict(content["callbacks"][keeper.state_key])
        keeper.tell_all(keeper.history)
        if keeper.history.is_complete(config.epochs, config.patience):
            return
        print(f"continuing after epoch {len(keeper.history)} of {config.epochs}", flush=True)
    torch.manual_seed(keeper.seed)
    operator = description.build()
    samples = len(next(iter(training.fields.values())))
    train_batches = Batches(
        _encode(description, training),
        config.batch_size,
        lambda: epoch_order(samples, keeper.seed, len(keeper.history)),
    )
    grid = description.grid(next(iter(training.fields.values())).shape[1:])
    module = OperatorTraining(
        operator, description, grid, config, num_steps=config.epochs * len(train_batches)
    )
    with honest_interrupts(), quiet_lightning():
        trainer = Trainer(
            accelerator=training_device(),
            devices=1,
            max_epochs=config.epochs,
            gradient_clip_val=config.gradient_clip,
            deterministic=True,
            callbacks=[keeper, *progress],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=keeper.work,
        )
        trainer.fit(
            module,
            train_batches,
            Batches(_encode(description, validation), config.batch_size),
            ckpt_path=path,
            weights_only=True,
        )


def _check(split: Split) -> None:
    """Refuse a split that has no samples, or values that are not finite."""
    if not len(next(iter(split.fields.values()))):
        raise InputError(
            f"the {split.name} split holds no sample; training needs at least one: make more "
            "samples, or give this split a larger share of them"
        )
    for name, field in split.fields.items():
        if not np.isfinite(field).all():
            bad = int((~np.isfinite(field)).flatten().nonzero()[0][0]) // field[0].size
            raise InputError(
                f"field {name} of the {split.name} split has a value that is not finite (first in "
                f"its sample {bad}); expected finite numbers only: correct or remove that sample"
            )


def _describe(training: Split, model: ModelConfig) -> Description:
    schema = training.schema
    return Description(
        scenario=schema.scenario,
        inputs={field.name: field.units for field in schema.inputs},
        outputs={field.name: field.units for field in schema.outputs},
        extent=tuple(schema.extent),
        reference_spacing=tuple(schema.spacing),
        normaliser=Normaliser.fit(training.fields),
        model=model,
    )


def _encode(description: Description, split: Split) -> dict[str, Tensor]:
    normaliser = description.normaliser
    return {
        name: torch.from_numpy(normaliser.encode(name, field).astype(np.float32, copy=False))
        for name, field in split.fields.items()
    }


def _fingerprint(
    description: Description, splits: Sequence[Split], config: TrainConfig, seed: int
) -> str:
    """Return the digest of all that the result depends on, but code and kind of device."""
    content = {
        "description": {**asdict(description), "model": description.model.model_dump(mode="json")},
        "train": config.model_dump(mode="json"),
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for split in splits:
        for name in sorted(split.fields):
            digest.update(f"{split.name} {name} {split.fields[name].shape}".encode())
            digest.update(np.ascontiguousarray(split.fields[name]).data)
    return digest.hexdigest()
