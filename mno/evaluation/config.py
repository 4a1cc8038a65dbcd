"""What the evaluation of a surrogate depends on, the section `evaluate` of `params.yaml`."""

from __future__ import annotations

from pydantic import Field

from mno.config import Config
from mno.evaluation.cost.config import EconomicsConfig
from mno.evaluation.decision.config import KpiConfig


class EvaluateConfig(Config):
    """How a surrogate is evaluated; none of it changes a metric."""

    batch_size: int = Field(32, ge=1, description="samples per forward pass")
    check_samples: int = Field(
        4,
        ge=1,
        description="test samples whose predictions are kept, to check the packaged model by",
    )
    kpis: KpiConfig = Field(
        default_factory=KpiConfig, description="What the surrogate has to achieve."
    )
    economics: EconomicsConfig = Field(
        default_factory=EconomicsConfig, description="What solving and computing cost you."
    )
