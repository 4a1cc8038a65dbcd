"""What a dataset is determined by: the plan that its shards are made by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.fields import RATE, Field
from mno.core.files import json_sha256
from mno.data.asked import read_asked
from mno.data.config import SPLITS, GenerateConfig, SamplesConfig
from mno.data.store import create_store
from mno.scenarios.base import Fields, SampleSource, Scenario

# Samples use spawn keys of length one, so this key can never be one of theirs.
_SPLIT_STREAM = (0, 0)


def make_plan(
    scenario: type[SampleSource],
    parameters: Config,
    config: SamplesConfig,
    code: str,
    root: Path = Path(),
) -> "DatasetPlan":
    """Return a plan for as many samples as are wanted, or as there are; see `DatasetPlan`.

    An `InputError` says that the source cannot make samples.
    """
    limit = scenario.open(parameters, config, root).limit
    if limit is not None and limit < config.samples:
        config = config.model_copy(update={"samples": limit})
    return DatasetPlan(scenario, parameters, config, code, root)


def rates_of(source: SampleSource, directions: int) -> tuple[Field, ...]:
    """Return the rates of a source's fields; an `InputError` if any are asked and it has none."""
    if directions and not getattr(source, "has_derivatives", False):
        raise InputError(
            f"generate.derivatives={directions}, but {source.dataset_name} has no derivatives as "
            "it is set; leave it out, or choose burgers, darcy without inlet_pressure, darcy_ring, "
            "furnace, or external with a server that applies its Jacobian"
        )
    return tuple(
        Field(
            RATE + f.name, f.units, f"rate of {f.long_name}", "rate", ("direction", *f.dims),
            gaps=True,
        )
        for f in (source.fields if directions else ())
    )  # fmt: skip


@dataclass(frozen=True)
class DatasetPlan:
    """Everything that a dataset is determined by, and a root that determines nothing.

    `parameters` is an instance of `scenario.Parameters`; `code` the digest of the code that makes
    the dataset: shards of other code are not reused; `root` where files that it reads are found.
    """

    scenario: type[SampleSource]
    parameters: Config
    config: SamplesConfig
    code: str
    root: Path = field(default=Path(), compare=False)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the scenario with these parameters, and the rates of some."""
        return (*self.build().fields, *self.rates)

    @property
    def directions(self) -> int:
        """Along how many directions training samples are differentiated."""
        return getattr(self.config, "derivatives", None) or 0

    @cached_property
    def rates(self) -> tuple[Field, ...]:
        """The rates of fields along directions of what is given; an `InputError` if none can be."""
        return rates_of(self.build(), self.directions)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each field in one sample, and of its rates along all directions."""
        own = self.build().shapes
        rates = {f.name: (self.directions, *own[f.name.removeprefix(RATE)]) for f in self.rates}
        return own | rates

    def build(self) -> SampleSource:
        """Build the scenario at the dataset's resolution, or raise an `InputError`."""
        return self.scenario.open(self.parameters, self.config, self.root)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The plan without its code, as plain values."""
        question = self.asked[1]
        return {
            "scenario": self.build().dataset_name,
            "seed": self.config.seed,
            "generate": self.config.content,
            "parameters": self.parameters.model_dump(mode="json"),
            **({"question": question} if question else {}),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole plan: the name of a folder in which its shards may be kept."""
        return json_sha256({**self.content, "code": self.code})

    @cached_property
    def asked(self) -> tuple[dict[str, np.ndarray], str]:
        """Inputs that are solved behind the samples that are drawn, and the question."""
        digest = getattr(self.config, "asked", None)
        return read_asked(self.root, digest, self.build()) if digest else ({}, "")

    @cached_property
    def samples(self) -> int:
        """Number of samples, drawn and asked for."""
        return self.config.samples + len(next(iter(self.asked[0].values()), ()))

    @property
    def num_shards(self) -> int:
        """Number of shards; the last may hold fewer samples."""
        return -(-self.samples // self.config.shard_size)

    def samples_of(self, shard: int) -> range:
        """Return the numbers of the samples of a shard."""
        start = shard * self.config.shard_size
        return range(start, min(start + self.config.shard_size, self.samples))

    def make(self, scenario: SampleSource, samples: range) -> Iterator[tuple[Fields, Fields]]:
        """Yield what is given with each of some samples, and its solution, as a scenario does."""
        drawn = self.config.samples
        own = range(samples.start, min(samples.stop, drawn))
        yield from self._make_along(scenario, own) if self.rates else scenario.make(own, self.rng)
        for number in range(max(samples.start, drawn) - drawn, samples.stop - drawn):
            assert isinstance(scenario, Scenario)
            given = scenario.completed({n: values[number] for n, values in self.asked[0].items()})
            yield given, scenario.solve(given)

    def _make_along(self, scenario: Any, samples: range) -> Iterator[tuple[Fields, Fields]]:
        """Yield samples as a scenario makes them; among what is solved, rates of training samples.

        A direction leads from what is given to what another draw has; where both are positive, by
        their logarithms, since a change of tenfold is no small one.
        """
        moving = [field.name.removeprefix(RATE) for field in self.rates]
        for number in samples:
            given = scenario.sample(self.rng(number))
            if self.splits[number] != "train":
                yield given, scenario.solve(given)
                continue
            others = [scenario.sample(self.rng(number, 1 + k)) for k in range(self.directions)]
            along = {}
            for name in (name for name in moving if name in given):
                here = given[name].astype(np.float64)
                there = np.stack([other[name] for other in others])
                logs = min(here.min(), there.min()) > 0.0
                along[name] = here * np.log(there / here) if logs else there - here
            solved, moved = scenario.solve_along(given, along)
            rates = {RATE + n: x.astype(np.float32) for n, x in {**along, **moved}.items()}
            yield given, {**solved, **rates}

    def rng(self, *key: int) -> np.random.Generator:
        """Return a sample's own random stream, the same wherever the sample is made."""
        return np.random.default_rng(np.random.SeedSequence(self.config.seed, spawn_key=key))

    @cached_property
    def splits(self) -> np.ndarray:
        """The split of every sample: as the scenario says, or by a seeded permutation.

        Names, shape `(samples,)`, dtype object; `unassigned` where no split was chosen.
        """
        given = self.build().splits(self.config)
        if given is not None:
            return given
        if not isinstance(self.config, GenerateConfig):
            return np.full(self.config.samples, "unassigned", dtype=object)
        counts = self.config.split_counts
        names = np.repeat(np.array(SPLITS, dtype=object), [counts[name] for name in SPLITS])
        asked = np.full(self.samples - self.config.samples, "train", dtype=object)
        return np.concatenate([self.rng(*_SPLIT_STREAM).permutation(names), asked])

    def create_store(
        self,
        path: Path,
        numbers: Mapping[str, np.ndarray] | None = None,
        spans: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Write the dataset but for its fields' values; see `mno.data.store.create_store`."""
        size = self.config.shard_size
        create_store(
            path, self.build(), self.content, size, self.splits, numbers or {}, spans or {},
            {field: self.shapes[field.name] for field in self.rates},
        )  # fmt: skip
