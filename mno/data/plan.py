"""The plan of a dataset: which samples, in which shards, from which random streams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.config import Config
from mno.core.fields import Field
from mno.data.config import SPLITS, GenerateConfig, SamplesConfig
from mno.scenarios.base import SampleSource

UNASSIGNED = "unassigned"
"""The split of samples that no split was chosen for."""

# Samples use spawn keys of length one, so this key can never be one of theirs.
_SPLIT_STREAM = (0, 0)
_CANDIDATES = 1
"""First of the two numbers of a candidate's spawn key."""


@dataclass(frozen=True)
class Choice:
    """Why a sample is in a dataset.

    Attributes:
        round: In which round it was chosen, from 1.
        candidate: Number of its candidate.
        score: How far the committee disagreed on it, relative to what it predicts.
    """

    round: int
    candidate: int
    score: float


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
    """Everything that a dataset is determined by.

    Attributes:
        scenario: The family of problems.
        parameters: Its own parameters, an instance of `scenario.Parameters`.
        config: Samples, resolution, shards, seed and splits.
        code: Digest of the code that makes the dataset; shards of other code are not reused.
        root: Where files that the scenario reads are found; determines nothing.
        chosen: For samples that were chosen from candidates, which; follows from the rest.
    """

    scenario: type[SampleSource]
    parameters: Config
    config: SamplesConfig
    code: str
    root: Path = field(default=Path(), compare=False)
    chosen: Mapping[int, Choice] = field(default_factory=dict, compare=False)

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
        text = json.dumps({**self.content, "code": self.code}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def round_starts(self) -> list[int]:
        """First sample of each round; see `GenerateConfig`."""
        return self.config.round_starts if isinstance(self.config, GenerateConfig) else [0]

    @property
    def num_shards(self) -> int:
        """Number of shards; the last may hold fewer samples."""
        return -(-self.config.samples // self.config.shard_size)

    def samples_of(self, shard: int) -> range:
        """Return the numbers of the samples of a shard."""
        start = shard * self.config.shard_size
        return range(start, min(start + self.config.shard_size, self.config.samples))

    def rng(self, sample: int) -> np.random.Generator:
        """Return the sample's own random stream, the same wherever the sample is made."""
        choice = self.chosen.get(sample)
        return self._stream(sample) if choice is None else self.candidate(choice.candidate)

    def candidate(self, number: int) -> np.random.Generator:
        """Return the random stream of a candidate, of which it is drawn and, if chosen, solved."""
        return self._stream(_CANDIDATES, number)

    def _stream(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.config.seed, spawn_key=key))

    def splits(self) -> np.ndarray:
        """Assign every sample to a split: as the scenario says, or by a seeded permutation.

        Returns:
            Names of splits, shape `(samples,)`, dtype object.
        """
        given = self.build().splits(self.config)
        if given is not None:
            return given
        if not isinstance(self.config, GenerateConfig):
            return np.full(self.config.samples, UNASSIGNED, dtype=object)
        counts = self.config.split_counts
        # Those that are chosen come last, and are trained on.
        starts = self.round_starts
        later = self.config.samples - starts[1] if starts[1:] else 0
        counts = {**counts, "train": counts["train"] - later}
        names = np.repeat(np.array(SPLITS, dtype=object), [counts[name] for name in SPLITS])
        drawn = self._stream(*_SPLIT_STREAM).permutation(names)
        return np.append(drawn, np.full(later, "train", dtype=object))
