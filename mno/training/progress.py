"""Progress on the console: a bar where someone watches, now and then a line where not."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mno.training.keeper import Keeper

LINES = 10


def progress_callbacks(
    keeper: Keeper, epochs: int, console: Console | None, *, quiet: bool
) -> list[Callback]:
    """Return a bar where a console is given, else lines; nothing if `quiet`."""
    if quiet:
        return []
    if console is None:
        return [ProgressLines(keeper, epochs)]
    return [ProgressBar(keeper, epochs, console)]


class ProgressLines(Callback):
    """Prints the first epoch, the last, and one in every tenth of the epochs between.

    Args:
        keeper: Holds the history that is shown.
        epochs: Epochs of the whole training, at most.
    """

    def __init__(self, keeper: Keeper, epochs: int) -> None:
        self.keeper = keeper
        self.epochs = epochs
        self.every = max(1, epochs // LINES)
        self.begun = 0.0
        self.restored = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.begun = time.monotonic()
        self.restored = len(self.keeper.history)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch if its turn has come."""
        record = self.keeper.history.records[-1]
        done = trainer.should_stop
        if not (done or record.epoch == 1 or record.epoch % self.every == 0):
            return
        line = (
            f"epoch {record.epoch}/{self.epochs}  train {record.train_relative_l2:.4f}  "
            f"validation {record.validation_relative_l2:.4f}"
        )
        if not done:
            pace = (time.monotonic() - self.begun) / (record.epoch - self.restored)
            line += f"  {_duration(pace * (self.epochs - record.epoch))} left at most"
        print(line, flush=True)


class ProgressBar(Callback):
    """Shows epochs, the batches of the current one, the validation error and the time left.

    Args:
        keeper: Holds the history that is shown.
        epochs: Epochs of the whole training, at most.
        console: The terminal to draw on.
    """

    def __init__(self, keeper: Keeper, epochs: int, console: Console) -> None:
        self.keeper = keeper
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.epochs = self.progress.add_task("epochs", total=epochs, note="")
        self.batches = self.progress.add_task("batches", total=None, note="")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        self.progress.update(self.epochs, completed=len(self.keeper.history))
        self.progress.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Empty the bar of batches."""
        self.progress.reset(self.batches, total=trainer.num_training_batches)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Advance the bar of batches."""
        self.progress.advance(self.batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Advance the bar of epochs and show the errors."""
        history = self.keeper.history
        last, best = history.records[-1], history.best
        note = (
            f"validation {last.validation_relative_l2:.4f} "
            f"(best {best.validation_relative_l2:.4f}, epoch {best.epoch})"
        )
        self.progress.update(self.epochs, completed=last.epoch, note=note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the bar as it is, however the training ends."""
        self.progress.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the bar as it is; Lightning does not tear down after an error."""
        self.progress.stop()


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
