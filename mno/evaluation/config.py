"""What the evaluation of a surrogate depends on, the section `evaluate` of `params.yaml`."""

from __future__ import annotations

from pydantic import Field

from mno.config import Config
from mno.evaluation.trust.config import TrustConfig


class EvaluateConfig(Config):
    """How a surrogate is evaluated; none of it changes a metric."""

    batch_size: int = Field(32, ge=1, description="samples per forward pass")
    check_samples: int = Field(
        4,
        ge=1,
        description="test samples whose predictions are kept, to check the packaged model by",
    )
    trust: TrustConfig = Field(
        default_factory=TrustConfig, description="bounds on the errors of single predictions"
    )
