"""The keeper: after every epoch it records, keeps the best weights, saves, and tells observers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mno.core.errors import InputError
from mno.training.checkpoint import prune_checkpoints, write_sealed
from mno.training.history import EpochRecord, History, TrainingObserver
from mno.training.module import OperatorTraining
from mno.training.order import seed_epoch
from mno.training.processes import Share


class Keeper(Callback):
    """Everything of a training that outlives its process, apart from what Lightning saves.

    The best weights and the history lie in the same checkpoint as the current weights: a single
    rename moves all three on, so that no interruption can leave them out of step.

    Args:
        fingerprint: Digest of all that the training depends on.
        seed: The run's seed.
        work: The folder of the checkpoints.
        observers: Told of every epoch, once its checkpoint is safe.
        share: Which of the processes of the training this is; the only one if not given.
    """

    def __init__(
        self,
        fingerprint: str,
        seed: int,
        work: Path,
        observers: Sequence[TrainingObserver],
        share: Share | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.seed = seed
        self.work = work
        self.share = share or Share()
        self.observers = tuple(observers) if self.share.is_first else ()
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning stores for this callback in a checkpoint."""
        return {
            "fingerprint": self.fingerprint,
            "history": [record.to_dict() for record in self.history.records],
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            InputError: The state is of a training of something else.
        """
        check_fingerprint(state_dict["fingerprint"], self.fingerprint, self.work)
        self.history = History.from_records(state_dict["history"])
        self.best_weights = dict(state_dict["best_weights"])

    def tell_all(self, history: History) -> None:
        """Tell the observers of epochs that were trained before."""
        for record in history.records:
            self._tell(record)

    def _tell(self, record: EpochRecord) -> None:
        for observer in self.observers:
            observer.on_epoch(record.epoch, record.metrics)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's own random stream."""
        seed_epoch(self.seed, len(self.history), self.share.rank)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and save the epoch; end the training if it has stopped improving."""
        if not isinstance(pl_module, OperatorTraining):
            raise TypeError(f"expected OperatorTraining, got {type(pl_module).__name__}")
        device = pl_module.device
        self.share.pool([pl_module.train_error, pl_module.train_loss], device)
        record = EpochRecord(
            epoch=len(self.history) + 1,
            train_relative_l2=pl_module.train_error.value,
            validation_relative_l2=self.share.agreed(pl_module.validation_error.value, device),
            learning_rate=pl_module.learning_rate,
            train_loss=None if pl_module.objective.is_relative_l2 else pl_module.train_loss.value,
        )
        self.history = self.history.with_record(record)
        if self.history.best is record:
            weights = pl_module.evaluated.state_dict()
            self.best_weights = {key: value.cpu().clone() for key, value in weights.items()}
        self._save(trainer, record.epoch)
        self._tell(record)
        config = pl_module.config
        trainer.should_stop = self.history.is_complete(config.epochs, config.patience)

    def _save(self, trainer: Trainer, epoch: int) -> None:
        if not self.share.is_first:  # Lightning gathers from all processes, and the first writes
            trainer.save_checkpoint(self.work / "not-written")
            return
        path = write_sealed(self.work, f"epoch-{epoch:05d}", ".ckpt", trainer.save_checkpoint)
        prune_checkpoints(self.work, path)


def check_fingerprint(found: str, expected: str, work: Path) -> None:
    """Refuse what a training with other data or parameters left in the folder.

    Raises:
        InputError: The fingerprints differ.
    """
    if found != expected:
        raise InputError(
            f"{work} holds a training with other data, parameters or seed; "
            "use another folder for this one, or delete that one"
        )
