"""What a surrogate has to achieve, the section `evaluate.kpis` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mno.core.config import Config

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class KpiConfig(Config):
    """Targets; what has none is measured, and decides nothing."""

    relative_l2: Positive | None = Field(
        default=None, description="largest relative L2 on the test split, a fraction: 0.03 is 3 %"
    )
    rmse: dict[str, Positive] = Field(
        default_factory=dict, description="largest RMSE by output field, in its unit"
    )
    max_error: dict[str, Positive] = Field(
        default_factory=dict, description="largest error at any point by output field, in its unit"
    )
    latency_ms: Positive | None = Field(
        default=None, description="longest time of one prediction (median), ms, one thread"
    )
    latency_p95_ms: Positive | None = Field(
        default=None, description="longest time that 95 % of predictions stay below, ms, one thread"
    )
    throughput_per_s: Positive | None = Field(
        default=None, description="least predictions per second, with the best batch, one thread"
    )
    memory_mib: Positive | None = Field(
        default=None, description="largest memory of a process that predicts one sample, MiB"
    )
    speedup: Positive | None = Field(
        default=None, description="least number of times that a prediction is faster than a solve"
    )
