"""What training measured, epoch by epoch, and how it is shown as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Observer = Callable[[int, dict[str, float]], object]
"""Called with the number of an epoch, counted from 1, and its metrics, when it has ended.

Every observer hears of every epoch once, in order, from the first: those that an earlier,
interrupted call trained are told again before training continues. The metrics are
`train_relative_l2`, `validation_relative_l2` and `learning_rate`; and `train_loss` where something
else than the relative L2 error is minimised.
"""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1.

    The error of training is the mean relative L2 error over the training split as the steps saw it
    (turned, noisy, windows of a rollout), each batch measured before its own step; `train_loss` is
    the mean of what is minimised, measured likewise, where that is something else. The error of
    validation is taken after the epoch, of states over all predicted frames; the learning rate is
    that of the last step.
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

    @property
    def best(self) -> EpochRecord:
        """The epoch of the lowest validation error, the first of equals; there must be one."""
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
    """Shows how far a training is, in a `with` statement, as bars on a console or as lines.

    Lines are printed of the first epoch, the last, and one in every tenth of the epochs between.

    Args:
        epochs: Epochs of the whole training, at most.
        batches: Batches of an epoch.
        done: Epochs that an earlier call has trained.
        console: Where to draw; lines are printed without one.
        quiet: Show nothing.
    """

    def __init__(
        self, epochs: int, batches: int, done: int, console: Console | None, *, quiet: bool
    ) -> None:
        self.epochs, self.batches, self.done = epochs, batches, done
        self._quiet, self._begun = quiet, time.monotonic()
        self._bars: Any = nullcontext()
        self._draws = console is not None and not quiet
        if self._draws:
            # Imported here: the library trains without a terminal, and without rich.
            from rich import progress as rich

            columns = (rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
            texts = (rich.TextColumn("{task.description}"), rich.TextColumn("{task.fields[note]}"))
            self._bars = rich.Progress(texts[0], *columns, texts[1], console=console)
            self._epochs = self._bars.add_task("epochs", total=epochs, completed=done, note="")
            self._batches = self._bars.add_task("batches", total=None, note="")

    def __enter__(self) -> Progress:
        self._bars.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Leave what is shown as it is, however the training ends."""
        self._bars.__exit__(*error)

    def begin_epoch(self) -> None:
        """Empty the bar of batches."""
        if self._draws:
            self._bars.reset(self._batches, total=self.batches)

    def add_batch(self) -> None:
        """Show one more batch of the epoch."""
        if self._draws:
            self._bars.advance(self._batches)

    def end_epoch(self, history: History, is_last: bool) -> None:
        """Show the errors of the epoch that has just ended."""
        last, best = history.records[-1], history.best
        error = f"validation {last.validation_relative_l2:.4f}"
        if self._draws:
            note = f"{error} (best {best.validation_relative_l2:.4f}, epoch {best.epoch})"
            self._bars.update(self._epochs, completed=last.epoch, note=note)
            return
        its_turn = is_last or last.epoch == 1 or last.epoch % max(1, self.epochs // 10) == 0
        if self._quiet or not its_turn:
            return
        line = f"epoch {last.epoch}/{self.epochs}  train {last.train_relative_l2:.4f}  {error}"
        if not is_last:
            pace = (time.monotonic() - self._begun) / (last.epoch - self.done)
            line += f"  {_duration(pace * (self.epochs - last.epoch))} left at most"
        print(line, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
