"""Trust in a single prediction: bounds on its error, its residual, and whether it is asked for."""

from __future__ import annotations

from pydantic import Field

from mno.core.config import Config


class TrustConfig(Config):
    """How sure a bound is, and how often an ordinary input may be called unusual."""

    level: float = Field(default=0.9, ge=0.5, lt=1.0)
    """Share of predictions whose error a bound is to hold for."""
    false_alarm_rate: float = Field(default=0.01, gt=0.0, le=0.5)
    """Share of inputs like the training data that may be flagged as unlike it; with fewer than
    1 / rate - 1 samples to tell it is 1 / (samples + 1)."""
    draws: int = Field(default=0, ge=0, le=10_000)
    """Samples that the solver solves anew to measure bounds and false alarms on, where the test
    split is small; 0 to measure them on that."""
