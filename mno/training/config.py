"""How an operator is trained: section `train` of `params.yaml`."""

from __future__ import annotations

from pydantic import Field

from mno.config import Config


class TrainConfig(Config):
    """Parameters of training; the trained weights depend on every one of them."""

    epochs: int = Field(60, ge=1, le=100_000, description="Passes over the training split, at most")
    batch_size: int = Field(
        16,
        ge=1,
        description="Samples per optimiser step; larger than the split means one step per epoch",
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        allow_inf_nan=False,
        description="Peak learning rate of AdamW, after the warm-up",
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=1,
        description="AdamW's decay of the matrices of linear and convolution layers",
    )
    warmup_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of all steps in which the rate rises linearly to its peak",
    )
    gradient_clip: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient of all weights"
    )
    patience: int = Field(
        20, ge=1, description="Epochs without a lower validation error after which training stops"
    )
    threads: int = Field(
        2,
        ge=1,
        le=1024,
        description="Threads within a torch operation; sums, and so the weights, depend on it",
    )
