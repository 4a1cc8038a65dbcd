"""What determines a dataset (`generate`), and how it is made (`execution`)."""

import math
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mno.core.config import Config

SPLITS = ("train", "validation", "test")


class SplitConfig(Config):
    """Shares of the samples; they sum to 1."""

    train: float = Field(gt=0, lt=1)
    """share that weights are fitted to"""
    validation: float = Field(gt=0, lt=1)
    """share that choices are made by"""
    test: float = Field(gt=0, lt=1)
    """share that results are reported on"""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"sums to {total:.6g}; train, validation and test must sum to 1")
        return self


class SamplesConfig(Config):
    """How many samples there are, and how they are stored."""

    samples: int = Field(gt=0)
    """number of samples; of imported data, at most"""
    resolution: int = Field(gt=0)
    """points along each space axis; imported data have their own"""
    shard_size: int = Field(gt=0)
    """samples per shard: what one task makes at a time"""
    seed: int = Field(ge=0)
    """seed of the samples and of their assignment to splits"""

    @property
    def content(self) -> dict[str, Any]:
        """What determines a dataset, as plain values."""
        return self.model_dump(mode="json", exclude_none=True)


class GenerateConfig(SamplesConfig):
    """All that determines a dataset, apart from the scenario's own parameters."""

    split: SplitConfig
    derivatives: Annotated[int, Field(ge=1, le=1000)] | None = None
    """products with the solver's Jacobian that are made of each training sample, along directions
    to other samples; none: no derivatives"""
    asked: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """digest of a file of further inputs (`build/asked/`, as `mno optimise` writes it), which are
    solved, too, and trained on"""

    @model_validator(mode="after")
    def _fills_every_split(self) -> Self:
        empty = [name for name, count in self.split_counts.items() if count == 0]
        if empty:
            shares = (getattr(self.split, name) for name in SPLITS)
            enough = math.ceil(round(1 / min(shares), 6))
            raise ValueError(
                f"samples={self.samples} leaves no sample for {' and '.join(empty)}; "
                f"{enough} samples give every split at least one"
            )
        return self

    @property
    def split_counts(self) -> dict[str, int]:
        """Samples of each split: whole shares first, the rest by largest remainder."""
        # Rounding keeps 100 * 0.29 = 28.999... at 29 samples.
        quotas = {name: round(self.samples * getattr(self.split, name), 6) for name in SPLITS}
        counts = {name: math.floor(quota) for name, quota in quotas.items()}
        by_remainder = sorted(SPLITS, key=lambda name: counts[name] - quotas[name])
        for name in by_remainder[: self.samples - sum(counts.values())]:
            counts[name] += 1
        return counts


class ExecutionConfig(Config):
    """How generation is executed; nothing here changes a bit of the dataset."""

    workers: int = Field(default=1, gt=0)
    """processes on this machine"""
    scheduler: str | None = Field(default=None, pattern="^(tcp|tls)://")
    """address of a Dask scheduler to use instead, tcp://host:port"""
