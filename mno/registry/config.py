"""Settings of the registry."""

from typing import Annotated, Literal

from pydantic import Field

from mno.core.config import Config

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RegistryConfig(Config):
    """What may be registered."""

    allow_uncommitted: bool = False
    """Register a model whose code is not committed, and mark the version so"""


class PromotionConfig(Config):
    """When a new version takes over from the champion."""

    rule: Literal["certain", "likely"] = "certain"
    """certain: the whole interval of the difference of test errors lies below the margin; likely:
    the difference does"""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """share of the champion's error it must be lower by"""
    physics: dict[str, Limit] = Field(default_factory=dict)
    """largest 95th percentile of a physics check of the predictions, by its name in
    reports/metrics.json; more bars a version"""
    worth: Literal["required", "any"] = "required"
    """required: what the report judges not worth it, at either end of the intervals of measured
    times, does not take over; any: it may"""
    approval: Literal["automatic", "human"] = "automatic"
    """human: a person must approve before a version takes over"""
