"""What the evaluation of a surrogate depends on, the section `evaluate` of `params.yaml`."""

from __future__ import annotations

from pydantic import Field

from mno.core.config import Config
from mno.evaluation.cost.config import EconomicsConfig
from mno.evaluation.decision.config import KpiConfig
from mno.evaluation.robustness.config import RobustnessConfig
from mno.surrogate.trust.config import TrustConfig


class IntervalConfig(Config):
    """Bootstrap intervals of the metrics, over test samples."""

    level: float = Field(default=0.95, gt=0, lt=1, description="confidence of an interval")
    resamples: int = Field(
        default=2000, ge=100, le=100_000, description="times the samples are drawn anew"
    )
    seed: int = Field(default=0, ge=0, description="of the draws")


class EvaluateConfig(Config):
    """How a surrogate is evaluated, and what it has to achieve; none of it changes a metric."""

    batch_size: int = Field(32, ge=1, description="samples per forward pass")
    check_samples: int = Field(
        4,
        ge=1,
        description="test samples whose predictions are kept, to check the packaged model by",
    )
    intervals: IntervalConfig = Field(
        IntervalConfig(), description="bootstrap intervals of the metrics"
    )
    robustness: RobustnessConfig = Field(
        default_factory=RobustnessConfig, description="errors on data unlike the training data"
    )
    trust: TrustConfig = Field(
        default_factory=TrustConfig, description="bounds on the errors of single predictions"
    )
    kpis: KpiConfig = Field(
        default_factory=KpiConfig, description="what the surrogate has to achieve"
    )
    economics: EconomicsConfig = Field(
        default_factory=EconomicsConfig, description="what solving and computing cost you"
    )
