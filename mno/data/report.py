"""The report of a dataset: counts, statistics and physics checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from mno.data.plan import DatasetPlan
from mno.data.shards import ShardRecord
from mno.data.store import sample_shape


@dataclass(frozen=True)
class FieldReport:
    """One field over the whole dataset; figures in its unit."""

    role: str
    units: str
    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True)
class CheckReport:
    """One physics check over all samples."""

    description: str
    tolerance: float
    max: float
    mean: float


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds; `dataclasses.asdict` gives it as plain values.

    Attributes:
        scenario: The family of problems.
        samples: Number of samples.
        shards: Number of shards.
        splits: Samples by split.
        fields: Statistics by field.
        checks: Physics checks by name.
    """

    scenario: str
    samples: int
    shards: int
    splits: dict[str, int]
    fields: dict[str, FieldReport]
    checks: dict[str, CheckReport]


def summarise(plan: DatasetPlan, records: Iterable[ShardRecord]) -> DatasetReport:
    """Add up the records of all shards, in the order of their numbers."""
    ordered = sorted(records, key=lambda record: record.shard)
    scenario = plan.build()
    fields: dict[str, FieldReport] = {}
    for field in scenario.fields:
        total = reduce(add, (record.statistics[field.name] for record in ordered))
        fields[field.name] = FieldReport(
            role=field.role,
            units=field.units,
            shape=sample_shape(scenario, field),
            min=total.min,
            max=total.max,
            mean=total.mean,
            std=total.std,
        )
    checks: dict[str, CheckReport] = {}
    for check in scenario.checks:
        total = reduce(add, (record.checks[check.name] for record in ordered))
        checks[check.name] = CheckReport(check.description, check.tolerance, total.max, total.mean)
    return DatasetReport(
        scenario=scenario.name,
        samples=plan.config.samples,
        shards=plan.num_shards,
        splits=plan.config.split_counts,
        fields=fields,
        checks=checks,
    )
