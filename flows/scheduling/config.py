"""Section `schedule` of `params.yaml`: how retraining is decided. No stage depends on it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mno.core.config import Config


class DriftConfig(Config):
    """When the inputs that the service sees are a reason to retrain."""

    flagged_share: float | None = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of the served samples that are unlike the training data, above which "
        "it is; null: never",
    )
    mean_bound: float | None = Field(
        default=None,
        gt=0,
        description="mean bound on the relative L2 error that the service reports, as a fraction, "
        "above which it is; null: never",
    )
    least_samples: int = Field(
        default=100,
        ge=1,
        description="samples that must have been served since the last run that drift has led to",
    )
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters to set before such a run, by dotted key, as "
        "{generate.samples: 8000}; without any, and with the same data, only `start: champion` "
        "gives such a run something to do",
    )


class ScheduleConfig(Config):
    """What `mno schedule` runs do."""

    start: Literal["champion", "nothing"] | None = Field(
        default=None,
        description="what a scheduled training starts from: the champion's weights, or fresh ones; "
        "it is written into train.warm_start. null: as train.warm_start says",
    )
    tidy: bool = Field(
        default=False,
        description="after a run that has brought something up to date, remove what nothing needs, "
        "as `mno gc --retention --delete` does",
    )
    drift: DriftConfig = Field(default=DriftConfig(), description="Of the service's inputs.")
