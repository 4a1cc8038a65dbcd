"""What training measured, epoch by epoch, and who is told or shown it as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class TrainingObserver(Protocol):
    """Someone who is told of every epoch as it ends."""

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Take the metrics of an epoch.

        Every observer hears of every epoch once, in order, from the first: those that an earlier,
        interrupted call trained are told again before training continues.

        Args:
            epoch: Counted from 1.
            metrics: `train_relative_l2`, `validation_relative_l2` and `learning_rate`; and
                `train_loss` where something else than the relative L2 error is minimised.
        """
        ...


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: Counted from 1.
        train_relative_l2: Mean relative L2 error over the training split, as the steps saw it
            (turned, noisy, windows of a rollout), each batch measured before its own step.
        validation_relative_l2: Mean relative L2 error over the validation split after the epoch, of
            states over all predicted frames.
        learning_rate: Learning rate of the epoch's last step.
        train_loss: Mean of what is minimised, measured likewise; none where that is the relative
            L2 error.
    """

    epoch: int
    train_relative_l2: float
    validation_relative_l2: float
    learning_rate: float
    train_loss: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The measured values by name, without the epoch's number."""
        return {name: value for name, value in self.to_dict().items() if name != "epoch"}

    def to_dict(self) -> dict[str, Any]:
        """Return all that is there by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class History:
    """All epochs trained so far, in order; no times, so that it is the same on every machine."""

    records: tuple[EpochRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def with_record(self, record: EpochRecord) -> History:
        """Return a history with one more epoch."""
        return History((*self.records, record))

    @property
    def best(self) -> EpochRecord:
        """The epoch of the lowest validation error, the first of equals.

        Raises:
            ValueError: No epoch has been trained.
        """
        return min(self.records, key=lambda record: record.validation_relative_l2)

    def is_complete(self, epochs: int, patience: int) -> bool:
        """Whether training ends here: all epochs done, or `patience` of them without a new best."""
        if not self.records:
            return False
        return len(self) >= epochs or len(self) - self.best.epoch >= patience

    def to_dict(self) -> dict[str, Any]:
        """Return `{"best_epoch": …, "epochs": [{"epoch": 1, …}, …]}`, plain values for JSON."""
        return {
            "best_epoch": self.best.epoch if self.records else None,
            "epochs": [record.to_dict() for record in self.records],
        }

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> History:
        """Read the list that `to_dict` gives under `epochs`."""
        return cls(tuple(EpochRecord(**record) for record in records))


class Progress:
    """Shows how far a training is, in a `with` statement; this one shows nothing.

    Args:
        epochs: Epochs of the whole training, at most.
        batches: Batches of an epoch.
        done: Epochs that an earlier call has trained.
    """

    def __init__(self, epochs: int, batches: int, done: int) -> None:
        self.epochs, self.batches, self.done = epochs, batches, done

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave what is shown as it is, however the training ends."""

    def begin_epoch(self) -> None:
        """Begin an epoch."""

    def add_batch(self) -> None:
        """Show one more batch of the epoch."""

    def end_epoch(self, history: History, is_last: bool) -> None:
        """Show the errors of the epoch that has just ended."""


class ProgressLines(Progress):
    """Prints the first epoch, the last, and one in every tenth of the epochs between."""

    def __init__(self, epochs: int, batches: int, done: int) -> None:
        super().__init__(epochs, batches, done)
        self._every = max(1, epochs // 10)
        self._begun = time.monotonic()

    def end_epoch(self, history: History, is_last: bool) -> None:
        """Print the epoch if its turn has come."""
        record = history.records[-1]
        if not (is_last or record.epoch == 1 or record.epoch % self._every == 0):
            return
        line = (
            f"epoch {record.epoch}/{self.epochs}  train {record.train_relative_l2:.4f}  "
            f"validation {record.validation_relative_l2:.4f}"
        )
        if not is_last:
            pace = (time.monotonic() - self._begun) / (record.epoch - self.done)
            line += f"  {_duration(pace * (self.epochs - record.epoch))} left at most"
        print(line, flush=True)


class ProgressBar(Progress):
    """Shows epochs, the batches of the current one, the validation error and the time left."""

    def __init__(self, epochs: int, batches: int, done: int, console: Console) -> None:
        # Imported here: the library trains without a terminal, and without rich.
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        super().__init__(epochs, batches, done)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        note = TextColumn("{task.fields[note]}")
        self._bars = Bars(TextColumn("{task.description}"), *columns, note, console=console)
        self._epochs = self._bars.add_task("epochs", total=epochs, completed=done, note="")
        self._batches = self._bars.add_task("batches", total=None, note="")

    def __enter__(self) -> ProgressBar:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin_epoch(self) -> None:
        """Empty the bar of batches."""
        self._bars.reset(self._batches, total=self.batches)

    def add_batch(self) -> None:
        """Advance the bar of batches."""
        self._bars.advance(self._batches)

    def end_epoch(self, history: History, is_last: bool) -> None:
        """Advance the bar of epochs and show the errors."""
        last, best = history.records[-1], history.best
        note = (
            f"validation {last.validation_relative_l2:.4f} "
            f"(best {best.validation_relative_l2:.4f}, epoch {best.epoch})"
        )
        self._bars.update(self._epochs, completed=last.epoch, note=note)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
