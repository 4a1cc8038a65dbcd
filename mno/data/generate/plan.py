"""The plan of a dataset: which samples, in which shards, from which random streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.config import Config
from mno.core.fields import Field
from mno.core.files import json_sha256
from mno.data.config import SPLITS, GenerateConfig, SamplesConfig
from mno.scenarios.base import SampleSource

UNASSIGNED = "unassigned"
"""The split of samples that no split was chosen for."""

# Samples use spawn keys of length one, so this key can never be one of theirs.
_SPLIT_STREAM = (0, 0)


def make_plan(
    scenario: type[SampleSource],
    parameters: Config,
    config: SamplesConfig,
    code: str,
    root: Path = Path(),
) -> DatasetPlan:
    """Return a plan for as many samples as are wanted, or as there are; see `DatasetPlan`.

    Raises:
        InputError: The source cannot make samples.
    """
    limit = scenario.open(parameters, config, root).limit
    if limit is not None and limit < config.samples:
        config = config.model_copy(update={"samples": limit})
    return DatasetPlan(scenario, parameters, config, code, root)


@dataclass(frozen=True)
class DatasetPlan:
    """Everything that a dataset is determined by, and a root that determines nothing.

    `parameters` is an instance of `scenario.Parameters`; `code` the digest of the code that makes
    the dataset: shards of other code are not reused; `root` where files that the scenario reads
    are found.
    """

    scenario: type[SampleSource]
    parameters: Config
    config: SamplesConfig
    code: str
    root: Path = field(default=Path(), compare=False)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the scenario with these parameters."""
        return self.build().fields

    def build(self) -> SampleSource:
        """Build the scenario at the dataset's resolution.

        Raises:
            InputError: The scenario cannot be solved at that resolution.
        """
        return self.scenario.open(self.parameters, self.config, self.root)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The plan without its code, as plain values."""
        return {
            "scenario": self.build().dataset_name,
            "seed": self.config.seed,
            "generate": self.config.content,
            "parameters": self.parameters.model_dump(mode="json"),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole plan: the name of a folder in which its shards may be kept."""
        return json_sha256({**self.content, "code": self.code})

    @property
    def num_shards(self) -> int:
        """Number of shards; the last may hold fewer samples."""
        return -(-self.config.samples // self.config.shard_size)

    def samples_of(self, shard: int) -> range:
        """Return the numbers of the samples of a shard."""
        start = shard * self.config.shard_size
        return range(start, min(start + self.config.shard_size, self.config.samples))

    def rng(self, *key: int) -> np.random.Generator:
        """Return a sample's own random stream, the same wherever the sample is made."""
        return np.random.default_rng(np.random.SeedSequence(self.config.seed, spawn_key=key))

    def splits(self) -> np.ndarray:
        """Assign every sample to a split: as the scenario says, or by a seeded permutation.

        Names of splits, shape `(samples,)`, dtype object.
        """
        given = self.build().splits(self.config)
        if given is not None:
            return given
        if not isinstance(self.config, GenerateConfig):
            return np.full(self.config.samples, UNASSIGNED, dtype=object)
        counts = self.config.split_counts
        names = np.repeat(np.array(SPLITS, dtype=object), [counts[name] for name in SPLITS])
        return self.rng(*_SPLIT_STREAM).permutation(names)
