"""The configuration of an operator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mno.config import Config


class ModelConfig(Config):
    """Size and kind of an operator (section `model` of `params.yaml`)."""

    width: int = Field(48, ge=1, le=4096, description="Features per point.")
    layers: int = Field(4, ge=1, le=64, description="Blocks of mixer and feed-forward network.")
    d_state: int = Field(2, ge=1, le=256, description="State size of a scan, per channel.")
    expand: int = Field(1, ge=1, le=8, description="Channels inside a mixer per feature.")
    path: Literal["axial", "bidirectional"] = Field(
        "axial",
        description="Order in which scans visit the points: along every axis, or row by row.",
    )
    scale_delta: bool = Field(
        True,
        description="Whether the grid's spacing, relative to that of training, scales the step of "
        "a scan, so that one set of weights serves every resolution.",
    )
    feed_forward: int = Field(
        2, ge=1, le=8, description="Hidden features of a feed-forward network per feature."
    )
