"""What training measured, epoch by epoch, and how it is shown as it happens."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

Observer = Callable[[int, dict[str, float]], object]
"""Called with the number of an epoch, counted from 1, and its metrics, when it has ended.

Every observer hears of every epoch once, in order, from the first: those that an earlier,
interrupted call trained are told again before training continues. The metrics are
`train_relative_l2`, `validation_relative_l2` and `learning_rate`; and `train_loss` where something
else than the relative L2 error is minimised.
"""

_SILENCE = 60.0  # seconds after which any epoch is worth a line


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1.

    The error of training is the mean relative L2 error over the training split as the steps saw it
    (turned, noisy, windows of a rollout), each batch measured before its own step; `train_loss` is
    the mean of what is minimised, measured likewise, where that is something else. The error of
    validation is after the epoch, of states over all predicted frames; the rate of the last step.
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
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Read the list that `to_dict` gives under `epochs`."""
        return cls(tuple(EpochRecord(**record) for record in records))


class Progress:
    """Prints how far a training of at most so many epochs is, of which an earlier call did some.

    Lines tell of the first epoch, the last, one in every tenth of those between, and of each that
    ends a minute after the last line.
    """

    def __init__(self, epochs: int, done: int) -> None:
        self.epochs, self.done = epochs, done
        self._begun = self._said = time.monotonic()

    def end_epoch(self, last: EpochRecord, is_last: bool) -> None:
        """Show the errors of the epoch that has just ended."""
        now, every = time.monotonic(), max(1, self.epochs // 10)
        its_turn = is_last or last.epoch == 1 or last.epoch % every == 0
        if not its_turn and now - self._said < _SILENCE:
            return
        self._said = now
        line = f"epoch {last.epoch}/{self.epochs}  train {last.train_relative_l2:.4f}  "
        line += f"validation {last.validation_relative_l2:.4f}"
        if not is_last:
            pace = (now - self._begun) / (last.epoch - self.done)
            left = pace * (self.epochs - last.epoch)
            line += f"  {f'{left / 60:.0f} min' if left >= 60 else f'{left:.0f} s'} left at most"
        print(line, flush=True)
