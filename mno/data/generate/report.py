"""The report of a dataset: counts, statistics and physics checks."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from mno.data.config import SPLITS
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.work import ShardRecord
from mno.data.statistics import Margins
from mno.data.store import sample_shape


@dataclass(frozen=True)
class FieldReport:
    """One field over the whole dataset; figures in its unit; `missing` counts those not finite."""

    role: str
    units: str
    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float
    missing: int


@dataclass(frozen=True)
class CheckReport:
    """One physics check over all samples; `margins` tells where they lie below the tolerance."""

    description: str
    tolerance: float
    max: float
    mean: float
    margins: Margins


@dataclass(frozen=True)
class Faults:
    """What a dataset must not have; counted, although generation refuses what is not zero.

    Attributes:
        duplicate_samples: Samples whose inputs an earlier sample has too.
        samples_in_two_splits: Inputs that are in more than one split.
        values_not_finite: Values that are NaN or infinite.
    """

    duplicate_samples: int
    samples_in_two_splits: int
    values_not_finite: int


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
        faults: What must be zero, and is.
    """

    scenario: str
    samples: int
    shards: int
    splits: dict[str, int]
    fields: dict[str, FieldReport]
    checks: dict[str, CheckReport]
    faults: Faults


def summarise(plan: DatasetPlan, records: Iterable[ShardRecord]) -> DatasetReport:
    """Add up the records of all shards, in the order of their numbers."""
    ordered = sorted(records, key=lambda record: record.shard)
    scenario = plan.build()
    fields: dict[str, FieldReport] = {}
    not_finite = 0
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
            missing=total.missing,
        )
        not_finite += 0 if field.gaps else total.missing
    checks: dict[str, CheckReport] = {}
    for check in scenario.checks:
        total = reduce(add, (record.checks[check.name] for record in ordered))
        margins = reduce(add, (record.margins[check.name] for record in ordered))
        checks[check.name] = CheckReport(
            check.description, check.tolerance, total.max, total.mean, margins
        )
    splits = plan.splits().tolist()
    digests = [digest for record in ordered for digest in record.inputs]
    return DatasetReport(
        scenario=scenario.dataset_name,
        samples=plan.config.samples,
        shards=plan.num_shards,
        splits={name: splits.count(name) for name in dict.fromkeys([*SPLITS, *splits])},
        fields=fields,
        checks=checks,
        faults=Faults(*count_duplicates(digests, splits), not_finite),
    )


def count_duplicates(inputs: Sequence[Hashable], splits: Sequence[str]) -> tuple[int, int]:
    """Count samples whose inputs an earlier one has, and inputs found in more than one split.

    Args:
        inputs: Digest of each sample's inputs.
        splits: Split of each sample.
    """
    found: dict[Hashable, set[str]] = {}
    for digest, split in zip(inputs, splits, strict=True):
        found.setdefault(digest, set()).add(split)
    return len(inputs) - len(found), sum(len(names) > 1 for names in found.values())
