"""What a comparison of costs depends on, the section `evaluate.economics` of `params.yaml`."""

from __future__ import annotations

from pydantic import Field

from mno.core.config import Config


class EconomicsConfig(Config):
    """What solving and computing cost you; what is not given is measured, or left out."""

    solver_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="seconds that one solve takes your own solver; if not given, the scenario's "
        "own is measured",
    )
    queries_per_day: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="solutions that are needed in a day"
    )
    hourly_rate: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="price of one hour of computing, of one core",
    )
    currency: str = Field(default="", max_length=8, description="of that price, as EUR")
    horizon_days: float = Field(
        default=365.0,
        gt=0,
        allow_inf_nan=False,
        description="days within which the surrogate should have paid for itself",
    )
    watts_per_core: float = Field(
        default=12.0,
        gt=0,
        allow_inf_nan=False,
        description="power of a busy processor core, W, for the estimate of energy; by default "
        "that of Green Algorithms for any processor (doi:10.1002/advs.202100707)",
    )
    comparison_seconds: float = Field(
        default=4.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds to spend on solving problems, to compare with the solver; 0 for none",
    )
