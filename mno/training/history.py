"""What training measured, epoch by epoch, and who is told as it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol


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
