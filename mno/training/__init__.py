"""Training: from a dataset's splits to a surrogate, resumable after any interruption.

The public names are loaded on first use, so that reading a configuration does not load Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.surrogate.rollout import roll_out
    from mno.training.config import TrainConfig
    from mno.training.fit import train
    from mno.training.history import EpochRecord, History, TrainingObserver
    from mno.training.rollout import pushforward_loss

_PUBLIC = {
    "EpochRecord": "mno.training.history",
    "History": "mno.training.history",
    "TrainConfig": "mno.training.config",
    "TrainingObserver": "mno.training.history",
    "pushforward_loss": "mno.training.rollout",
    "roll_out": "mno.surrogate.rollout",
    "train": "mno.training.fit",
}

__all__ = [
    "EpochRecord",
    "History",
    "TrainConfig",
    "TrainingObserver",
    "pushforward_loss",
    "roll_out",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
