"""What is asked of a surrogate's robustness, the part `robustness` of the section `evaluate`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mno.core.config import Config

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Level = Annotated[float, Field(gt=0.0, le=10.0)]
Ratio = Annotated[float, Field(ge=0.125, le=8.0)]


class RobustnessConfig(Config):
    """How far from its training data a surrogate is tried; none of it changes another metric."""

    enabled: bool = Field(default=True, description="whether it is measured at all")
    samples: int = Field(
        default=32, ge=1, description="test samples that are changed, and checked for their physics"
    )
    solved_samples: int = Field(
        default=8,
        ge=1,
        description="samples that the solver solves anew, for each thing that is tried",
    )
    noise: list[Level] = Field(
        default=[0.01, 0.02, 0.05, 0.1, 0.2],
        description="noise on the inputs, in standard deviations of each over the training split; "
        "none where it is empty, as for the other lists",
    )
    missing: list[Share] = Field(
        default=[0.1, 0.25, 0.5],
        description="shares of the places at which inputs are not measured",
    )
    resolutions: list[Ratio] = Field(
        default=[0.5, 2.0], description="points along each axis, in those of the training data"
    )
    threshold: float = Field(
        default=0.2,
        gt=0.0,
        le=10.0,
        description="relative error up to which a rollout counts as usable",
    )
    seed: int = Field(default=0, ge=0, description="of noise, missing places and solved samples")
